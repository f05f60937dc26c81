from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ebbtide.engine import ExecuTorchEngine
from ebbtide.errors import EbbtideError
from ebbtide.lowering import LoweredProgram, ProgramSpec, compare, eager_methods, fuse, lower, lower_programs
from ebbtide.lowering.backends import xnnpack


def test_facts_describe_every_method(lowered):
    assert [m.name for m in lowered.methods] == ["stage0", "exit0", "stage1", "exit1", "head"]
    stage, exit_ = lowered.methods[:2]
    assert stage.inputs[0].shape == (1, 3, 12, 12)
    assert stage.outputs[0].shape == (1, 8, 12, 12)
    assert [t.shape for t in exit_.outputs] == [(1, 5), (1,), (1, 5)]
    assert (stage.inputs[0].layout, stage.outputs[0].layout) == ("contiguous", "channels_last")
    assert exit_.inputs == stage.outputs
    assert {t.layout for t in exit_.outputs} == {"contiguous"}
    assert stage.macs == 3 * 8 * 9 * 144
    assert exit_.macs == 8 * 5
    assert stage.peak_bytes > 0
    assert lowered.size_bytes == lowered.file.stat().st_size
    assert lowered.sha256 == hashlib.sha256(lowered.file.read_bytes()).hexdigest()


def test_stages_run_wholly_in_the_delegate(lowered):
    stages = [m for m in lowered.methods if m.kind == "stage"]
    assert [(m.delegated_share, m.portable) for m in stages] == [(1.0, ()), (1.0, ())]
    assert all(m.delegated_macs_share == 1 for m in lowered.methods)


def test_facts_are_the_same_when_read_back_from_json(lowered):
    text = json.dumps(lowered.to_json())
    assert str(lowered.file.parent) not in text
    assert LoweredProgram.from_json(json.loads(text), lowered.file.parent) == lowered


def test_outputs_are_those_of_the_modules_when_run(spec, loaded, samples):
    modules = eager_methods(spec)
    x = samples[:1]
    with torch.inference_mode():
        for name, module in modules.items():
            outputs = loaded.run(name, x)
            expected = module(torch.from_numpy(x))
            expected = expected if isinstance(expected, tuple) else (expected,)
            for ours, theirs in zip(outputs, expected, strict=True):
                assert ours.dtype == np.float32
                assert ours.shape == tuple(theirs.shape)
                assert np.abs(ours - theirs.numpy()).max() < 1e-4
            x = outputs[0] if name.startswith("stage") else x


def test_label_is_the_lowest_index_and_confidence_finite_when_logits_tie(tmp_path):
    head = nn.Linear(2, 4)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0, 0], [1, 0], [1, 0], [0, 0]]))
        head.bias.zero_()
    lower(ProgramSpec("ties", [], {}, head.eval(), {"head": 1.0}, (2,)), tmp_path / "ties.pte")
    loaded = ExecuTorchEngine().load(tmp_path / "ties.pte")
    for scale, expected in ((1.0, -np.log(1 + 2 * np.exp(-1))), (300.0, 0.0)):
        _, confidence, logits = loaded.run("head", np.array([[scale, 0]], np.float32))
        assert logits.argmax() == 1
        assert abs(float(confidence[0]) - expected) < 1e-5


def test_equal_programs_have_the_same_bytes_when_lowered_in_another_process(tmp_path, tiny):
    results = lower_programs([tiny("one"), tiny("twin")], tmp_path)
    alone = lower(tiny("alone"), tmp_path / "alone.pte")
    assert [r.file.name for r in results] == ["one.pte", "twin.pte"]
    assert results[0].sha256 == results[1].sha256 == alone.sha256
    assert results[0].methods == alone.methods
    assert results[0].methods[0].outputs[0].layout == "channels_last"
    assert results[1].file.read_bytes() == alone.file.read_bytes()
    assert {path.suffix for path in tmp_path.iterdir()} == {".pte"}


@pytest.mark.slow
def test_fused_and_single_programs_score_alike_in_parallel_processes(
    spec, make_spec, lowered, loaded, samples, tmp_path
):
    fused = replace(fuse(spec, [1])[0], id="fused")
    specs = [replace(spec, id="again"), fused, make_spec("twin"), spec.dense("dense")]
    results = lower_programs(specs, tmp_path, workers=2)
    assert [r.file.name for r in results] == ["again.pte", "fused.pte", "twin.pte", "dense.pte"]
    # The same bytes as in this process and as of a spec that was made anew.
    assert results[0].sha256 == results[2].sha256 == lowered.sha256
    assert results[2].file.read_bytes() == lowered.file.read_bytes()
    engine, few = ExecuTorchEngine(), samples[:32]
    scores = compare(spec, loaded, few)[1].confidences["head"]
    for program, result, name in ((fused, results[1], "head"), (specs[3], results[3], "forward")):
        ours = compare(program, engine.load(result.file), few)[1].confidences[name]
        assert np.abs(ours - scores).max() < 1e-3
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".pte"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_more_programs_than_processes_take_at_first_are_all_lowered(tmp_path, tiny):
    specs = [tiny(f"p{seed}", seed) for seed in range(3)]
    results = lower_programs(specs, tmp_path, workers=1)
    assert len({one.sha256 for one in results}) == 3


@pytest.fixture
def tiny():
    def make(program, seed=0):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
        return ProgramSpec(program, [nn.Conv2d(1, 2, 1).eval()], {}, head.eval(), {"head": 1.0}, (1, 4, 4))

    return make


def test_ids_are_refused_when_they_repeat(spec, tmp_path):
    with pytest.raises(EbbtideError) as caught:
        lower_programs([spec, spec], tmp_path)
    assert caught.value.code == "lowering.spec"


def test_nothing_is_left_when_a_lowered_method_does_not_run(spec, tmp_path, monkeypatch):
    small = replace(spec, stages=[], exits={}, head=nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).eval())

    class Broken(ExecuTorchEngine):
        def load(self, program):
            loaded = super().load(program)
            broken = loaded._methods["head"]._replace(call=lambda *_: [torch.full((1, 3), torch.nan)])
            loaded._methods["head"] = broken
            return loaded

    monkeypatch.setattr(xnnpack, "ExecuTorchEngine", Broken)
    with pytest.raises(EbbtideError) as caught:
        lower(small, tmp_path / "p.pte")
    assert (caught.value.code, caught.value.place) == ("lowering.not_executed", "p/head")
    assert list(tmp_path.iterdir()) == []
    assert caught.value.exit_status == 3


def test_lowering_names_the_program_when_the_runtime_has_no_such_operator(tmp_path):
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x.reshape(-1, 3, 4))

    with pytest.raises(EbbtideError) as caught:
        lower(ProgramSpec("svd", [], {}, Fourier().eval(), {"head": 1.0}, (12,)), tmp_path / "svd.pte")
    assert caught.value.code in ("lowering.failed", "lowering.not_executed")
    assert "svd" in (caught.value.place or "")
    assert list(tmp_path.iterdir()) == []
