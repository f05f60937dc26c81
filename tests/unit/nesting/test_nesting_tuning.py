from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tuning_samples import NETS, SHAPE, Separable, Shortcut, nested_of, sample, samples, scattered, settings

from ebbtide.errors import EbbtideError
from ebbtide.model import capture
from ebbtide.model.coupling import coupling_groups, slice_state
from ebbtide.nesting import Level, Nested, TuningOptions, extract, level_warnings, loss_weights, tune
from ebbtide.nesting.tuning import _Joint


def batch(count=16, seed=0):
    return next(samples(count, seed=seed).batches(count))


def step(nested, *, number=0, options=None, **more):
    """The joint gradients of one batch and its loss."""
    joint = _Joint(nested, settings(**more), options or TuningOptions())
    nested.graph.module.zero_grad(set_to_none=True)
    joint.begin()
    loss = joint.accumulate(*batch(), epoch=0, step=number)
    gradients = {name: p.grad for name, p in nested.graph.module.named_parameters() if p.grad is not None}
    return float(loss), gradients


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_joint_gradient_equals_weighted_sum_of_gradients_of_separate_networks(name, fold):
    nested, (x, y) = sample(name), batch()
    expected, loss = {}, 0.0
    for level in nested.levels:
        weight = loss_weights(nested)[level.name]
        small = extract(nested, level.name)
        own = F.cross_entropy(small(x), y)
        own.backward()
        loss += weight * float(own.detach())
        for tensor, parameter in small.module.named_parameters():
            part = weight * scattered(nested, level, tensor, parameter.grad)
            expected[tensor] = expected.get(tensor, 0.0) + part
    found_loss, found = step(nested, options=TuningOptions(fold=fold))
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for tensor, gradient in found.items():
        np.testing.assert_allclose(gradient.numpy(), expected[tensor], rtol=1e-4, atol=1e-5, err_msg=tensor)


def test_joint_gradient_equals_weighted_sum_when_norms_are_private():
    nested, (x, y) = sample("shortcut", norm="private"), batch()
    expected = 0.0
    for level in nested.levels:
        small = extract(nested, level.name).train()
        F.cross_entropy(small(x), y).backward()
        gradient = dict(small.module.named_parameters())["a.0.weight"].grad
        expected = expected + loss_weights(nested)[level.name] * scattered(nested, level, "a.0.weight", gradient)
    _, found = step(nested)
    np.testing.assert_allclose(found["a.0.weight"].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "groups"), [(Separable, ("0", "6", "12")), (Shortcut, ("a.0", "stem.0", "c.0"))])
def test_level_equals_a_small_network_with_the_slices_copied_in(make, groups):
    nested = sample("separable" if make is Separable else "shortcut")
    x, _ = batch()
    joint = _Joint(nested, settings(), TuningOptions(fold=False))
    for level, program in zip(nested.levels, reversed(joint._programs), strict=True):
        small = make(*(level.widths[group] for group in groups)).eval()
        whole = nested.graph.state()
        small.load_state_dict(slice_state(nested.coupling, whole, level.widths))
        tensors = program.slices(whole)
        assert torch.allclose(program(x, tensors), small(x), atol=1e-5)
        assert torch.allclose(extract(nested, level.name)(x), small(x), atol=1e-5)
        assert {name: t.data_ptr() for name, t in tensors.items()} == {n: whole[n].data_ptr() for n in tensors}


def test_loss_weights_sum_to_one_and_follow_the_published_form_when_input_is_full():
    layers = [nn.Flatten(), nn.Linear(250, 144), nn.ReLU(), nn.Linear(144, 144), nn.ReLU()]
    graph = capture(nn.Sequential(*layers, nn.Linear(144, 144), nn.ReLU(), nn.Linear(144, 12)), (1, 25, 10))
    coupling = coupling_groups(graph)
    published = {"w25": (15, 75, 33), "w50": (51, 116, 63), "w75": (99, 132, 99), "w100": (144, 144, 144)}
    levels = []
    for name, kept in published.items():
        widths = dict(zip([group.name for group in coupling.groups], kept, strict=True))
        tensors = slice_state(coupling, dict(graph.module.named_parameters()), widths)
        levels.append(Level(name, 0.0, widths, 0, 0.0, sum(t.numel() for t in tensors.values()), 0, 0.0))
    nested = Nested(graph, coupling, tuple(levels))
    weights = loss_weights(nested, "full-input")
    assert [round(weights[name], 2) for name in ("w100", "w75", "w50", "w25")] == [0.32, 0.28, 0.23, 0.17]
    assert sum(weights.values()) == pytest.approx(1.0)
    sliced = loss_weights(nested)
    assert sum(sliced.values()) == pytest.approx(1.0)
    ratio = (levels[0].parameters / levels[-1].parameters) ** 0.5
    assert sliced["w25"] / sliced["w100"] == pytest.approx(ratio)
    assert sliced["w25"] < weights["w25"]


def test_distillation_is_plain_when_its_share_is_zero():
    plain, zero = step(sample()), step(sample(), options=TuningOptions(distill=0.0, temperature=3.0))
    assert plain[0] == zero[0]
    assert all(torch.equal(gradient, zero[1][name]) for name, gradient in plain[1].items())


def test_distillation_pulls_narrower_levels_to_the_widest_one_when_asked():
    nested, (x, y) = sample(), batch()
    weights = loss_weights(nested)
    wide = extract(nested, "w100")(x).detach()
    expected = weights["w100"] * F.cross_entropy(wide, y)
    for level in nested.levels[:-1]:
        logits = extract(nested, level.name)(x).detach()
        goal, found = torch.softmax(wide / 2.0, 1), torch.log_softmax(logits / 2.0, 1)
        divergence = 4.0 * (goal * (goal.log() - found)).sum(1).mean()
        expected = expected + weights[level.name] * (0.3 * F.cross_entropy(logits, y) + 0.7 * divergence)
    loss, gradients = step(nested, options=TuningOptions(distill=0.7, temperature=2.0))
    assert loss == pytest.approx(float(expected), rel=1e-5)
    # The widest level learns from the labels alone: rows that only it has see no divergence.
    _, plain = step(sample())
    last = nested.levels[-2].widths["12"]
    assert torch.allclose(gradients["12.weight"][last:], plain["12.weight"][last:], atol=1e-6)
    assert not torch.allclose(gradients["12.weight"][:last], plain["12.weight"][:last], atol=1e-6)


def test_sandwich_draws_the_same_levels_for_the_same_step_and_always_both_ends():
    nested = sample()
    options = TuningOptions(sandwich=True)
    one, two = _Joint(nested, settings(seed=4), options), _Joint(nested, settings(seed=4), options)
    drawn = [[p.name for p in one._chosen(epoch, number)] for epoch in range(4) for number in range(8)]
    again = [[p.name for p in two._chosen(epoch, number)] for epoch in range(4) for number in range(8)]
    assert drawn == again
    assert all((names[0], names[-1], len(names)) == ("w100", "w25", 3) for names in drawn)
    assert {names[1] for names in drawn} == {"w50", "w75"}
    assert drawn[:8] != drawn[8:16]


def test_sandwich_weights_of_a_step_sum_to_one():
    nested, (x, y) = sample(), batch()
    options = TuningOptions(sandwich=True)
    names = [p.name for p in _Joint(nested, settings(), options)._chosen(0, 5)]
    weights = loss_weights(nested)
    losses = {name: float(F.cross_entropy(extract(nested, name)(x), y)) for name in names}
    expected = sum(weights[name] * losses[name] for name in names) / sum(weights[name] for name in names)
    assert step(nested, number=5, options=options)[0] == pytest.approx(expected, rel=1e-5)


def test_tune_refuses_when_shared_statistics_were_never_collected():
    torch.manual_seed(0)
    nested = nested_of(capture(Separable(), SHAPE))
    with pytest.raises(EbbtideError) as caught:
        tune(nested, samples(), samples(30, 1), settings=settings(), metric="accuracy")
    assert caught.value.code == "nesting.statistics"
    assert "norm: private" in caught.value.hint


@pytest.mark.parametrize("wrong", [{"distill": 1.5}, {"temperature": 0.0}, {"between": -1}, {"statistics_batches": 0}])
def test_tuning_options_refuse_when_out_of_range(wrong):
    with pytest.raises(EbbtideError) as caught:
        TuningOptions(**wrong)
    assert caught.value.code == "nesting.tuning"
    assert next(iter(wrong)) in caught.value.place


def test_level_warnings_name_those_levels_that_guess():
    found = level_warnings({"w25": 0.34, "w100": 0.9}, samples(60), metric="accuracy", classes=3)
    assert list(found) == ["w25"]
    assert found["w25"].startswith("Level w25's accuracy is 34.00%")
    assert "budget" in found["w25"]
