from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.lowering import ProgramSpec, backend, backend_names, capture, eager_methods, fuse, methods_of, spec_digest


def test_methods_are_in_the_order_of_a_prediction(spec):
    assert [(m.name, m.kind, m.position) for m in methods_of(spec)] == [
        ("stage0", "stage", 0),
        ("exit0", "exit", 0),
        ("stage1", "stage", 1),
        ("exit1", "exit", 1),
        ("head", "head", 2),
    ]
    assert [(m.name, m.kind) for m in methods_of(spec.dense("dense"))] == [("forward", "model")]


def through(spec, x):
    modules, found = eager_methods(spec), {}
    for name, module in modules.items():
        if name.startswith("stage"):
            x = module(x)
        else:
            found[name] = module(x)
    return found


@pytest.mark.parametrize("keep", [[], [0], [1], [0, 1]])
def test_fused_program_is_bit_equal_when_boundaries_go(spec, keep):
    x = torch.randn(3, *spec.input_shape)
    fused, moved = fuse(spec, keep)
    assert moved == {position: index for index, position in enumerate(keep)}
    assert [m.name for m in methods_of(fused) if m.kind == "stage"] == [f"stage{i}" for i in range(len(keep))]
    before, after = through(spec, x), through(fused, x)
    pairs = [(f"exit{old}", f"exit{new}") for old, new in moved.items()] + [("head", "head")]
    for old, new in pairs:
        assert all(torch.equal(a, b) for a, b in zip(before[old], after[new], strict=True))


def test_fuse_refuses_when_the_exit_to_keep_is_missing(spec):
    with pytest.raises(EbbtideError) as caught:
        fuse(spec, [2])
    assert caught.value.code == "lowering.spec"


@pytest.mark.parametrize(
    "change",
    [
        {"exits": {2: nn.Identity()}},
        {"temperatures": {"exit0": 1.0, "exit1": 0.0, "head": 1.0}},
        {"temperatures": {"exit0": 1.0, "exit1": 1.0}},
        {"single": True},
    ],
)
def test_spec_is_refused_when_it_does_not_fit_together(spec, change):
    with pytest.raises(EbbtideError) as caught:
        replace(spec, **change)
    assert caught.value.code == "lowering.spec"


@pytest.mark.parametrize("head", [nn.Conv2d(7, 2, 1), nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(576, 1))])
def test_capture_is_refused_when_the_head_does_not_fit(spec, head):
    with pytest.raises(EbbtideError) as caught:
        capture(replace(spec, head=head))
    assert caught.value.code == "lowering.spec"
    assert "head" in caught.value.message


def test_capture_names_the_method_when_a_module_cannot_be_exported(spec):
    class Branches(nn.Module):
        def forward(self, x):
            return (x if x.sum() > 0 else -x).flatten(1)[:, :3]

    with pytest.raises(EbbtideError) as caught:
        capture(replace(spec, exits={}, head=Branches()))
    assert (caught.value.code, caught.value.place) == ("lowering.failed", f"{spec.id}/head")


def test_weights_are_contiguous_and_their_own_when_they_were_views():
    wide = torch.randn(16, 3, 3, 3)
    stage = nn.Conv2d(3, 4, 3, bias=False).eval()
    stage.weight = nn.Parameter(wide[:4].contiguous(memory_format=torch.channels_last))
    head = nn.Sequential(nn.Flatten(), nn.Linear(400, 3)).eval()
    head[1].weight = nn.Parameter(torch.randn(9, 400)[:3])
    for method in capture(ProgramSpec("p", [stage], {}, head, {"head": 1.0}, (3, 12, 12))):
        for value in method.program.state_dict.values():
            assert value.is_contiguous()
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


def test_digest_is_equal_when_only_the_id_differs(spec, make_spec):
    assert spec_digest(spec) == spec_digest(make_spec("another"))


def test_digest_differs_when_weights_temperature_graph_or_form_do(spec, make_spec):
    digests = {
        spec_digest(spec),
        spec_digest(make_spec(seed=1)),
        spec_digest(replace(spec, temperatures={**spec.temperatures, "head": 0.26})),
        spec_digest(replace(spec, exits={0: spec.exits[0]})),
        spec_digest(replace(spec, head=nn.Sequential(nn.ReLU(), spec.head))),
        spec_digest(fuse(spec, [1])[0]),
        spec_digest(spec.dense("dense")),
    }
    assert len(digests) == 7


def test_backend_is_found_by_name_and_the_nearest_is_named_when_unknown():
    assert "xnnpack" in backend_names()
    assert backend("xnnpack").name == "xnnpack"
    with pytest.raises(EbbtideError) as caught:
        backend("xnpack")
    assert caught.value.code == "lowering.unknown_backend"
    assert "xnnpack" in (caught.value.hint or "")
