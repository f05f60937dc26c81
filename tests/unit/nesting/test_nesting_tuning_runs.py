from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tuning_samples import SHAPE, Separable, nested_of, sample, samples, settings

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, evaluate
from ebbtide.nesting import Nested, TuningOptions, extract, loss_weights, tune
from ebbtide.steps import silent


class KilledError(Exception):
    pass


class KillAfter:
    """A progress that dies after so many batches, as a killed process does."""

    def __init__(self, batches):
        self.left = batches
        self.said = []
        self.facts = []

    def say(self, text):
        self.said.append(text)

    def task(self, label, total=None):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, count=1, **facts):
        self.facts.append(facts)
        self.left -= count
        if self.left < 0:
            raise KilledError


class Spoiling:
    """A split whose samples are not numbers from some epoch on."""

    def __init__(self, split, epoch):
        self.split, self.left = split, epoch
        self.ids = split.ids

    def __len__(self):
        return len(self.split)

    def batches(self, size, **more):
        factor = 1.0 if self.left else float("nan")
        self.left -= 1
        for x, y in self.split.batches(size, **more):
            yield x * factor, y


def run(nested, *, train=None, select=None, options=None, checkpoint=None, progress=silent, **more):
    return tune(
        nested,
        train or samples(),
        select or samples(30, 1),
        settings=settings(**more),
        options=options or TuningOptions(),
        metric="accuracy",
        checkpoint=checkpoint,
        progress=progress,
    )


def tensors_of(nested):
    own = {f"{level}/{name}": t for level, found in nested.statistics.items() for name, t in found.items()}
    return {**nested.graph.state(), **own}


def same(one, two):
    assert one.keys() == two.keys()
    return [name for name in one if one[name].numpy().tobytes() != two[name].numpy().tobytes()] == []


@pytest.mark.parametrize("norm", ["shared", "private"])
def test_tune_learns_every_level_when_data_can_be_learned(norm):
    torch.manual_seed(0)
    nested = nested_of(capture(Separable(), SHAPE), norm="private")
    run(nested, epochs=6, learning_rate=0.1)
    nested = Nested(nested.graph, nested.coupling, nested.levels, norm)
    history = run(nested, epochs=6, learning_rate=0.1, precision="auto")
    assert history.epochs[-1].loss < 0.6 * history.epochs[0].loss
    assert list(history.epochs[-1].levels) == ["w25", "w50", "w75", "w100"]
    assert history.epochs[-1].select == history.epochs[-1].levels["w100"]
    for level in nested.levels:
        assert evaluate(extract(nested, level.name), samples(60, 2), metric="accuracy") > 0.5, level.name
    assert not nested.graph.training
    assert all(tensor.is_contiguous() for tensor in tensors_of(nested).values())
    assert "levels" in history.to_json()["epochs"][0]


@pytest.mark.parametrize(
    ("norm", "optimizer", "options"),
    [("shared", "sgd", TuningOptions(sandwich=True, distill=0.5)), ("private", "adamw", TuningOptions())],
)
def test_tune_ends_with_the_same_bytes_when_killed_and_continued(tmp_path, norm, optimizer, options):
    more = {"options": options, "optimizer": optimizer, "learning_rate": 0.01}
    whole = sample(norm=norm)
    history = run(whole, **more)
    file = tmp_path / "tuning.safetensors"
    with pytest.raises(KilledError):
        run(sample(norm=norm), checkpoint=file, progress=KillAfter(12), **more)
    teller, continued = KillAfter(10_000), sample(norm=norm)
    later = run(continued, checkpoint=file, progress=teller, **more)
    assert later.resumed_from == 2
    assert "after epoch 2" in teller.said[0]
    assert later.to_json() == history.to_json()
    assert same(tensors_of(whole), tensors_of(continued))
    assert any({"loss", "accuracy", "w25", "w100", "eta_s"} <= facts.keys() for facts in teller.facts)


@pytest.mark.parametrize("other", [{"options": TuningOptions(distill=0.5)}, {"norm": "private"}])
def test_tune_starts_over_when_checkpoint_is_of_another_run(tmp_path, other):
    file, teller = tmp_path / "tuning.safetensors", KillAfter(10_000)
    run(sample(), checkpoint=file, epochs=1)
    norm = other.pop("norm", "shared")
    assert run(sample(norm=norm), checkpoint=file, epochs=1, progress=teller, **other).resumed_from == 0
    assert "starts over" in teller.said[0]


@pytest.mark.parametrize("norm", ["shared", "private"])
def test_tune_keeps_the_last_good_epoch_and_names_the_learning_rate_when_loss_diverges(tmp_path, norm):
    file, nested = tmp_path / "tuning.safetensors", sample(norm=norm)
    with pytest.raises(EbbtideError) as caught:
        run(nested, train=Spoiling(samples(), 1), checkpoint=file, learning_rate=0.0625)
    assert caught.value.code == "model.training_diverged"
    assert "0.0625" in caught.value.hint
    kept = {n.removeprefix("model/"): t for n, t in load_file(file).items() if n.startswith("model/")}
    assert same(kept, tensors_of(nested))
    assert all(tensor.isfinite().all() for tensor in kept.values())


def test_tune_does_not_depend_on_what_it_is_shown_on():
    one, two = sample(), sample()
    first = run(one, select=samples(30, 1), epochs=1)
    second = run(two, select=samples(10, 5), epochs=1)
    assert same(tensors_of(one), tensors_of(two))
    assert first.epochs[0].levels != second.epochs[0].levels


def test_tune_never_changes_statistics_but_trains_scale_and_shift_when_norms_are_shared():
    nested = sample()
    before = {name: tensor.clone() for name, tensor in nested.graph.state().items()}
    run(nested, epochs=1)
    changed = {name for name, tensor in nested.graph.state().items() if not torch.equal(tensor, before[name])}
    assert not any("running" in name or "tracked" in name for name in changed)
    assert changed == {name for name, _ in nested.graph.module.named_parameters()}
    assert nested.statistics == {}


def test_private_statistics_are_means_over_batches_of_each_level():
    nested = sample(norm="private")
    run(nested, epochs=1, options=TuningOptions(statistics_batches=3))
    batches = list(samples().batches(16, shuffle_seed=settings(epochs=1).seed * 1_000_003 + 1))[:3]
    for level in nested.levels:
        weight = nested.graph.state()["0.weight"][: level.widths["0"]]
        maps = [F.conv2d(x, weight, stride=2, padding=1) for x, _ in batches]
        own = nested.statistics.get(level.name) or nested.graph.state()
        mean = torch.stack([values.mean((0, 2, 3)) for values in maps]).mean(0)
        variance = torch.stack([values.var((0, 2, 3)) for values in maps]).mean(0)
        assert torch.allclose(own["1.running_mean"], mean, atol=1e-5)
        assert torch.allclose(own["1.running_var"], variance, atol=1e-5)
    # A level's third norm sees fewer channels than the widest's first ones do, so a slice would be wrong.
    assert not torch.allclose(
        nested.statistics["w25"]["7.running_mean"],
        nested.graph.state()["7.running_mean"][: nested.levels[0].widths["6"]],
    )


def test_private_statistics_leave_other_levels_alone_and_switching_is_bit_equal():
    nested = sample(norm="private")
    run(nested, epochs=1)
    x = next(samples(8, 3).batches(8))[0]
    before = {level.name: extract(nested, level.name)(x) for level in nested.levels}
    down_and_up = [extract(nested, name)(x) for name in ("w100", "w25", "w100", "w50", "w25")]
    for name, logits in zip(("w100", "w25", "w100", "w50", "w25"), down_and_up, strict=True):
        assert torch.equal(logits, before[name])
    nested.statistics["w50"]["1.running_mean"] += 0.5
    changed = [
        level.name for level in nested.levels if not torch.equal(extract(nested, level.name)(x), before[level.name])
    ]
    assert changed == ["w50"]


def test_history_shows_the_loss_that_levels_have_together():
    nested = sample()
    expected, data = 0.0, samples(16)
    x, y = next(data.batches(16))
    for level in nested.levels:
        expected += loss_weights(nested)[level.name] * float(
            F.cross_entropy(extract(nested, level.name)(x).detach(), y)
        )
    history = run(nested, train=data, epochs=1)
    assert history.epochs[0].loss == pytest.approx(expected, rel=1e-5)
    found = {
        level.name: evaluate(extract(nested, level.name), samples(30, 1), metric="accuracy") for level in nested.levels
    }
    assert history.epochs[0].levels == pytest.approx(found)
    assert np.isfinite(history.epochs[0].loss)
