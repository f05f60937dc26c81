from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sparsity_samples import CLASSES, SHAPE, graph_of, layer, random_scores, resnet, samples
from torch import nn
from torch.nn import functional as F

from ebbtide.model import Distillation, capture
from ebbtide.model.training import fit
from ebbtide.recipe import TrainingSection
from ebbtide.sparsity.layout import Shape, matrix, tensor
from ebbtide.sparsity.masks import Masks, spread
from ebbtide.sparsity.selection import select
from ebbtide.sparsity.straight_through import MaskedTrainee, straight_through
from ebbtide.steps import silent

PATTERN = Shape(8, 2, 4)


def settings(**more):
    return TrainingSection.model_validate(
        {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "device": "cpu", "precision": "float32", **more}
    )


def masked(graph, kept=0.3):
    whole = Masks.whole(graph, PATTERN)
    return select(whole, random_scores(whole), kept=kept)


def gradients(trainee):
    given = samples()
    x, y = given.x[:16], torch.from_numpy(given.labels[:16])
    trainee.begin()
    trainee.graph.module.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    trainee.accumulate(x, y, epoch=0, step=0)
    return {name: p.grad.clone() for name, p in trainee.graph.module.named_parameters()}


def test_gradients_are_those_of_the_masked_graph_passed_straight_on():
    """C-8: in kept blocks the dense weight gets the masked weight's gradient, and masked ones a pull to zero."""
    graph = resnet()
    masks = masked(graph)
    found = gradients(MaskedTrainee(graph, masks, settings(), decay=0.01))
    zeros = masks.apply(graph).train()
    torch.manual_seed(0)
    given = samples()
    F.cross_entropy(zeros(given.x[:16]), torch.from_numpy(given.labels[:16])).backward()
    wanted = {name: p.grad for name, p in zeros.module.named_parameters()}
    reached = gone = 0
    for name, grad in found.items():
        if name not in masks.groups:
            assert torch.allclose(grad, wanted[name], rtol=1e-4, atol=1e-6)
            continue
        one = layer(masks, name)
        keep = masks.keep(one)
        alive = spread(masks.blocks[name], 8) if one.carries == "blocks" else torch.ones_like(keep)
        passed = matrix(wanted[name]) * alive + 0.01 * matrix(graph.state()[name]) * ~keep
        assert torch.allclose(matrix(grad), passed, rtol=1e-4, atol=1e-6)
        reached += int((matrix(wanted[name])[alive & ~keep] != 0).sum())
        gone += int((matrix(wanted[name])[~alive] != 0).sum())
    assert reached > 1000
    assert gone > 1000


def test_without_the_estimator_masked_weights_learn_nothing():
    """C-8."""
    graph = resnet()
    masks = masked(graph)
    found = gradients(MaskedTrainee(graph, masks, settings(), straight=False))
    for one in masks.masked:
        grad = matrix(found[one.name])
        assert not bool(grad[~masks.keep(one)].any())
        assert bool(grad[masks.keep(one)].any())


def test_a_masked_weight_that_the_loss_wants_returns_to_the_support():
    """C-8: one weight of a group starts at almost nothing, masked; the labels follow its input alone."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Linear(64, 1), nn.Flatten(), nn.Linear(4, 2))
    graph = capture(module, SHAPE, classes=2)
    with torch.no_grad():
        state = graph.state()
        state["0.weight"].copy_(torch.eye(4, 3)[:, :, None, None])
        state["0.bias"].zero_()
        state["2.weight"].fill_(1 / 64)
        state["2.bias"].zero_()
        state["4.weight"].copy_(torch.tensor([[0.3, 0.01, 0.3, 0.2], [0.3, -0.01, 0.3, 0.2]]))
        state["4.bias"].zero_()
    masks = Masks.whole(graph, Shape(4, 2, 4))
    name = "4.weight"

    def chosen(masks):
        scores = {one.name: graph.state()[one.name].abs().double().numpy() for one in masks.masked}
        return select(masks, scores, kept=1.0)

    first = chosen(masks)
    assert first.keep(layer(first, name))[0].tolist() == [True, False, True, False]
    for name_, parameter in graph.module.named_parameters():
        parameter.requires_grad_(name_ == name)
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 64)
    x = torch.from_numpy(random.standard_normal((64, *SHAPE))).float() * 0.1
    x[:, 1] += torch.from_numpy(np.where(labels == 0, 1.0, -1.0)).float()[:, None, None]
    given = replace(samples(64, 2), x=x, labels=labels)
    plan = settings(epochs=4, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    dense = graph.copy()
    for straight, returns in ((False, False), (True, True)):
        graph.load(dense.state())
        trainee = MaskedTrainee(graph, first, plan, straight=straight)
        fit(trainee, given, given, settings=plan, metric="accuracy")
        assert bool(chosen(first).keep(layer(first, name))[0, 1]) is returns


def test_the_value_is_the_masked_weight_and_only_the_weight_has_a_gradient():
    weight = torch.randn(4, 8, requires_grad=True)
    mask, alive = (torch.randint(0, 2, (4, 8)).float() for _ in range(2))
    found = straight_through(weight, mask, alive, 0.0)
    assert torch.equal(found, weight * mask)
    found.backward(torch.full((4, 8), 2.0))
    assert torch.equal(weight.grad, 2.0 * alive)


def test_training_under_masks_shows_the_masked_graph_and_keeps_dense_weights():
    graph = resnet()
    masks = masked(graph, kept=0.45)
    trainee = MaskedTrainee(graph, masks, settings(epochs=4))
    given = samples()
    history = fit(trainee, given, given, settings=settings(epochs=4), metric="accuracy")
    assert history.epochs[-1].loss < history.epochs[0].loss
    answered = masks.apply(graph)(given.x).argmax(1).numpy()
    assert history.epochs[-1].select == pytest.approx(float((answered == given.labels).mean()))
    for one in masks.masked:
        assert bool((matrix(graph.state()[one.name])[~masks.keep(one)] != 0).any())


def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    class Kills:
        """Stops a run in its second epoch."""

        def __init__(self, trainee):
            self.trainee, self.graph = trainee, trainee.graph

        def __getattr__(self, name):
            return getattr(self.trainee, name)

        def accumulate(self, x, y, *, epoch, step):
            if (epoch, step) == (1, 1):
                raise RuntimeError("killed")
            return self.trainee.accumulate(x, y, epoch=epoch, step=step)

    def trainee():
        graph = resnet()
        return MaskedTrainee(graph, masked(graph), settings(), Distillation(resnet(), 0.5, 2.0))

    plan = {"settings": settings(), "metric": "accuracy", "progress": silent}
    given, whole = samples(), trainee()
    fit(whole, given, given, **plan)
    with pytest.raises(RuntimeError, match="killed"):
        fit(Kills(trainee()), given, given, checkpoint=tmp_path / "c.safetensors", **plan)
    again = trainee()
    assert fit(again, given, given, checkpoint=tmp_path / "c.safetensors", **plan).resumed_from == 1
    assert all(torch.equal(value, whole.state()[name]) for name, value in again.state().items())


def test_masks_in_the_weights_own_shape_fit_the_matrix_order():
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, CLASSES)))
    masks = masked(graph, 0.45)
    one = layer(masks, "1.weight")
    assert torch.equal(masks.weight_masks()[one.name], tensor(masks.keep(one), one.size))
    assert torch.equal(matrix(masks.weight_masks()[one.name]), masks.keep(one))
