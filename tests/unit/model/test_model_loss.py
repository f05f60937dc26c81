from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_samples import learnable as of_shape
from model_samples import lively
from torch import nn

from ebbtide.errors import EbbtideError
from ebbtide.model import Distillation, capture, class_loss, evaluate, train
from ebbtide.model.training import computing_in
from ebbtide.recipe import TrainingSection

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def teacher():
    graph = untrained(1)
    train(graph, learnable(60), learnable(30, seed=1), settings=settings(epochs=10), metric="accuracy")
    assert evaluate(graph, learnable(60, seed=1), metric="accuracy") > 0.9
    return graph


def untrained(seed):
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    return capture(lively(nn.Sequential(*layers), seed), SHAPE, classes=3)


def learnable(count, seed=0):
    return of_shape(count, shape=SHAPE, seed=seed)


def settings(**more):
    return TrainingSection(**{"epochs": 3, "batch_size": 16, "learning_rate": 0.02, "device": "cpu", **more})


def batch(count=6):
    x, y = next(learnable(count).batches(count))
    return x, y


def written_out(logits, goal, y, weight, temperature, smoothing=0.0):
    """The formula sample by sample in float64, with nothing of torch's losses."""
    total = 0.0
    for row, wanted, label in zip(logits.double().tolist(), goal.double().tolist(), y.tolist(), strict=True):

        def softmax(values, t):
            raised = [math.exp(value / t) for value in values]
            return [value / sum(raised) for value in raised]

        target = [smoothing / len(row) + (1 - smoothing) * (index == label) for index in range(len(row))]
        hard = -sum(t * math.log(p) for t, p in zip(target, softmax(row, 1.0), strict=True))
        p, q = softmax(wanted, temperature), softmax(row, temperature)
        soft = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += (1 - weight) * hard + weight * temperature**2 * soft
    return total / len(y)


@pytest.mark.parametrize(("weight", "temperature", "smoothing"), [(0.3, 4.0, 0.1), (1.0, 1.0, 0.0), (0.9, 2.0, 0.2)])
def test_class_loss_equals_the_formula_written_out(teacher, weight, temperature, smoothing):
    x, y = batch()
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    found = class_loss(
        logits, y, label_smoothing=smoothing, distillation=Distillation(teacher, weight, temperature), x=x
    )
    with torch.no_grad():
        goal = teacher.eval()(x)
    assert float(found) == pytest.approx(written_out(logits, goal, y, weight, temperature, smoothing), abs=1e-5)


@pytest.mark.parametrize("distil", [False, True])
def test_class_loss_is_the_labels_alone_without_weight(teacher, distil):
    x, y = batch()
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    found = class_loss(logits, y, distillation=Distillation(teacher, 0.0) if distil else None, x=x)
    assert torch.equal(found, F.cross_entropy(logits, y))


def test_class_loss_gradient_reaches_the_student_only(teacher):
    x, y = batch()
    before = teacher.digest()
    teacher.module.zero_grad(set_to_none=True)
    student = teacher.copy().train()
    class_loss(student(x), y, distillation=Distillation(teacher, 0.5), x=x).backward()
    assert all(parameter.grad is None for parameter in teacher.module.parameters())
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in student.module.parameters())
    assert teacher.digest() == before


def test_class_loss_refuses_a_teacher_without_its_batch(teacher):
    with pytest.raises(ValueError, match="batch"):
        class_loss(torch.zeros(6, 3), batch()[1], distillation=Distillation(teacher))


@pytest.mark.parametrize(
    ("weight", "temperature"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, math.inf), (0.5, math.nan)]
)
def test_distillation_refuses_numbers_out_of_range(teacher, weight, temperature):
    with pytest.raises(EbbtideError) as caught:
        Distillation(teacher, weight, temperature)
    assert caught.value.code == "model.distillation"


def test_distillation_gives_the_teacher_in_evaluation_whatever_its_state(teacher):
    x, _ = batch()
    with torch.no_grad():
        goal = teacher.eval()(x)
    training = teacher.copy().train()
    distillation = Distillation(training)
    assert torch.allclose(distillation.logits(x), goal, atol=1e-5)
    assert training.training
    assert all(tensor.is_contiguous() for tensor in training.state().values())


class Counting:
    """How often a teacher is asked."""

    def __init__(self, distillation):
        self.calls = 0
        twin = distillation._twin
        forward = twin.module.forward

        def counted(*values):
            self.calls += 1
            return forward(*values)

        twin.module.forward = counted


def test_distillation_remembers_a_batch_by_its_content_and_precision(teacher):
    distillation = Distillation(teacher, remember=True)
    counting = Counting(distillation)
    x, _ = batch()
    first = distillation.logits(x)
    again = distillation.logits(x.clone().contiguous(memory_format=torch.channels_last))
    assert counting.calls == 1
    assert torch.equal(first, again)
    changed = x.clone()
    changed[5, 2, 7, 7] += 1e-3
    assert not torch.equal(distillation.logits(changed), first)
    distillation.logits(x[:5])
    assert counting.calls == 3
    with computing_in(torch.bfloat16, torch.device("cpu")):
        distillation.logits(x)
    assert counting.calls == 4


def test_train_with_a_remembering_teacher_ends_with_the_same_bytes(teacher):
    ends, asked = [], []
    for remember in (False, True):
        student = untrained(3)
        distillation = Distillation(teacher, 0.7, 3.0, remember=remember)
        counting = Counting(distillation)
        train(student, learnable(64), learnable(30, seed=1), settings=settings(seed=0), metric="accuracy",
              distillation=distillation)  # fmt: skip
        ends.append(student.digest())
        asked.append(counting.calls)
    assert ends[0] == ends[1]
    # Batches are drawn anew for every epoch, so nothing repeats unless views do.
    assert asked == [12, 12]


def test_fit_repeats_its_views_so_that_a_teacher_is_asked_once_for_each(teacher):
    from ebbtide.model.training import Single, fit

    student = untrained(3)
    distillation = Distillation(teacher, 0.7, 3.0, remember=True)
    counting = Counting(distillation)
    seen = []

    class Watched(Single):
        def accumulate(self, x, y, *, epoch, step):
            seen.append(x.clone())
            return super().accumulate(x, y, epoch=epoch, step=step)

    own = settings(epochs=5)
    fit(Watched(student, own, distillation), learnable(64), learnable(30, seed=1), settings=own, metric="accuracy",
        views=2)  # fmt: skip
    epochs = [torch.cat(seen[4 * number : 4 * number + 4]) for number in range(5)]
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert not torch.equal(epochs[0], epochs[1])
    assert counting.calls == 8


def test_train_learns_from_a_teacher_alone(teacher):
    """Labels that say nothing: what is learned comes from the teacher."""
    data = learnable(90)
    wrong = replace(data, labels=np.zeros_like(data.labels))
    student = untrained(3)
    train(student, wrong, learnable(60, seed=1), settings=settings(epochs=15), metric="accuracy",
          distillation=Distillation(teacher, 1.0, 2.0))  # fmt: skip
    assert evaluate(student, learnable(60, seed=1), metric="accuracy") > 0.8


def test_train_does_not_continue_from_a_checkpoint_of_another_teacher(teacher, tmp_path):
    class Said(list):
        def say(self, text):
            self.append(text)

        def task(self, label, total=None):
            from ebbtide.steps import silent

            return silent.task(label, total)

    file = tmp_path / "training.safetensors"
    for weight, expected in ((0.5, ""), (0.5, "continues after epoch 3"), (0.6, "another training run")):
        said = Said()
        train(untrained(3), learnable(32), learnable(30, seed=1), settings=settings(), metric="accuracy",
              distillation=Distillation(teacher, weight), checkpoint=file, progress=said)  # fmt: skip
        assert expected in " ".join(said)


def test_digest_of_a_graph_follows_its_values_names_and_shapes(teacher):
    twin = teacher.copy()
    twin.module.to(memory_format=torch.channels_last)
    assert twin.digest() == teacher.digest()
    with torch.no_grad():
        next(iter(twin.module.parameters()))[0, 0, 0, 0] += 1e-3
    assert twin.digest() != teacher.digest()
