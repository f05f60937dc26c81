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

from ebbtide.data import Augmentation, InputSpec, Split
from ebbtide.errors import EbbtideError
from ebbtide.model import Distillation, capture, class_loss, evaluate, train
from ebbtide.model.loss import Transfer
from ebbtide.model.training import Single, computing_in
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


def pictures(count, seed=0):
    """A split as data sets have it: what comes beside batches is drawn by index and changed at random."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    spec = InputSpec("image", SHAPE, "RGB", (1 / 64,) * 3, (-2.0,) * 3, "center", "bilinear-v1")
    labels = random.integers(3, 9, count)
    return Split("transfer", tuple(f"p{i}" for i in range(count)), labels, values, spec)


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


def test_samples_beside_a_batch_depend_on_its_numbers_alone_and_come_again_with_the_views():
    samples, changes = pictures(20, seed=3), Augmentation(flip=True, seed=1)
    transfer = Transfer(samples, 8, changes, seed=4, views=2)
    assert torch.equal(transfer.batch(0, 1), Transfer(samples, 8, changes, seed=4, views=2).batch(0, 1))
    assert torch.equal(transfer.batch(0, 1), transfer.batch(2, 1))
    assert not torch.equal(transfer.batch(0, 1), transfer.batch(1, 1))
    plain = Transfer(samples, 8, seed=4)
    assert not torch.equal(plain.batch(0, 1), plain.batch(2, 1))
    # One pass has every sample before any comes again.
    drawn = torch.cat([plain.batch(0, step) for step in range(5)])
    counts = [int((drawn == samples.tensor([index])).flatten(1).all(1).sum()) for index in range(20)]
    assert counts == [2] * 20


def test_answers_of_a_teacher_to_other_samples_add_their_divergence(teacher):
    others, (x, y) = pictures(12, seed=7), batch()
    transfer = Transfer(others, 5, seed=2)
    found = {}
    for name, distillation in (
        ("with", Distillation(teacher, 0.5, 2.0, transfer=transfer)),
        ("without", Distillation(teacher, 0.5, 2.0)),
    ):
        trainee = Single(untrained(3), settings(precision="float32"), distillation)
        trainee.begin()
        trainee.graph.eval()  # so that batch norm does not tell a batch of one size from another
        found[name] = float(trainee.accumulate(x, y, epoch=1, step=2))
    student = untrained(3).eval()
    with torch.no_grad():
        beside = transfer.batch(1, 2)
        extra = F.kl_div(
            F.log_softmax(student(beside) / 2, 1), F.log_softmax(teacher.eval()(beside) / 2, 1),
            log_target=True, reduction="batchmean",
        )  # fmt: skip
    assert found["with"] - found["without"] == pytest.approx(0.5 * 4 * float(extra), rel=1e-4)


def test_training_beside_other_samples_goes_on_after_a_kill_as_if_it_had_not_been(teacher, tmp_path):
    transfer = Transfer(pictures(24, seed=9), 8, Augmentation(flip=True, seed=2), seed=1, views=2)
    distillation = Distillation(teacher, 0.7, 3.0, transfer=transfer)

    def trained(epochs, checkpoint):
        graph = untrained(2)
        train(
            graph, learnable(40), learnable(20, seed=1), settings=settings(epochs=epochs), metric="accuracy",
            distillation=distillation, checkpoint=checkpoint,
        )  # fmt: skip
        return graph

    class KilledError(Exception):
        pass

    whole = trained(3, tmp_path / "whole")
    kept, calls = Transfer.batch, []

    def killing(self, epoch, step):
        calls.append(epoch)
        if epoch == 2 and calls.count(2) > 1:
            raise KilledError
        return kept(self, epoch, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transfer, "batch", killing)
        with pytest.raises(KilledError):
            trained(3, tmp_path / "killed")
    assert trained(3, tmp_path / "killed").digest() == whole.digest()
    other = untrained(2)
    train(
        other, learnable(40), learnable(20, seed=1), settings=settings(epochs=3), metric="accuracy",
        distillation=replace(distillation, transfer=None),
    )  # fmt: skip
    assert other.digest() != whole.digest()
    assert distillation.to_json() != replace(distillation, transfer=None).to_json()
