from __future__ import annotations

import numpy as np
import pytest
import torch
from model_samples import SmallResNet, learnable, lively
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from ebbtide.errors import EbbtideError
from ebbtide.model import capture, chance_warning, evaluate, metric_value, train, training_device
from ebbtide.model.training import learning_rate, training_precision
from ebbtide.recipe import TrainingSection
from ebbtide.steps import silent

SHAPE = (3, 16, 16)


class KilledError(Exception):
    pass


class KillAfter:
    """A progress that dies in the middle of an epoch, as a killed process does."""

    def __init__(self, batches):
        self.left = batches
        self.said = []

    def say(self, text):
        self.said.append(text)

    def task(self, label, total=None):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, count=1, **facts):
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


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return capture(lively(SmallResNet(3)), SHAPE, classes=3)


def settings(**more):
    return TrainingSection(**{"epochs": 4, "batch_size": 16, "learning_rate": 0.05, "device": "cpu", **more})


def run(untrained, checkpoint=None, progress=silent, **more):
    graph = untrained.copy()
    history = train(
        graph,
        learnable(65),
        learnable(60, seed=1),
        settings=settings(**more),
        metric="accuracy",
        checkpoint=checkpoint,
        progress=progress,
    )
    return graph, history


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_train_learns_when_data_can_be_learned(untrained, optimizer):
    graph, history = run(
        untrained, optimizer=optimizer, learning_rate=0.05 if optimizer == "sgd" else 0.005, epochs=30,
        warmup_epochs=1, label_smoothing=0.1,
    )  # fmt: skip
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.epochs[-1].select > 0.8
    assert history.epochs[-1].select == evaluate(graph, learnable(60, seed=1), metric="accuracy")
    assert not graph.training
    assert all(tensor.is_contiguous() for tensor in graph.state().values())


@pytest.mark.parametrize(("optimizer", "batches"), [("sgd", 12), ("adamw", 7)])
def test_train_ends_with_the_same_bytes_when_killed_and_continued(untrained, tmp_path, optimizer, batches):
    whole, history = run(untrained, optimizer=optimizer)
    file = tmp_path / "training.safetensors"
    with pytest.raises(KilledError):
        run(untrained, file, KillAfter(batches), optimizer=optimizer)
    teller = KillAfter(10_000)
    continued, later = run(untrained, file, teller, optimizer=optimizer)
    assert later.resumed_from == batches // 5
    assert f"after epoch {batches // 5}" in teller.said[0]
    assert later.to_json() == history.to_json()
    for name, tensor in whole.state().items():
        assert tensor.numpy().tobytes() == continued.state()[name].numpy().tobytes(), name
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("how", ["damaged", "other settings"])
def test_train_starts_over_and_says_so_when_checkpoint_is_of_no_use(untrained, tmp_path, how):
    file = tmp_path / "training.safetensors"
    run(untrained, file, epochs=1)
    if how == "damaged":
        file.write_bytes(file.read_bytes()[:-7])
    teller = KillAfter(10_000)
    _, history = run(untrained, file, teller, epochs=1 if how == "damaged" else 2)
    assert history.resumed_from == 0
    assert "starts over" in teller.said[0]


def test_train_leaves_random_state_when_done(untrained):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(untrained, epochs=1)
    assert torch.equal(torch.rand(2), expected)


def test_train_refuses_when_loss_diverges(untrained):
    with pytest.raises(EbbtideError) as caught:
        run(untrained, learning_rate=100.0, weight_decay=1.0, epochs=8)
    assert caught.value.code == "model.training_diverged"
    assert "learning_rate" in caught.value.hint


def test_train_keeps_the_last_good_epoch_when_loss_diverges(untrained, tmp_path):
    graph, file = untrained.copy(), tmp_path / "training.safetensors"
    section = settings(learning_rate=0.0625)
    with pytest.raises(EbbtideError, match="infinite in epoch 3") as caught:
        train(
            graph, Spoiling(learnable(65), 2), learnable(60, seed=1), settings=section, metric="accuracy",
            checkpoint=file,
        )  # fmt: skip
    assert "0.0625" in caught.value.hint
    assert "The weights of epoch 2 are kept" in caught.value.hint
    kept = {name.removeprefix("model/"): t for name, t in load_file(file).items() if name.startswith("model/")}
    assert all(torch.equal(tensor, kept[name]) for name, tensor in graph.state().items())
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert not graph.training


def test_train_learns_in_bfloat16_with_float32_weights_when_asked(untrained):
    graph, history = run(untrained, precision="bfloat16", epochs=30, warmup_epochs=1)
    other, _ = run(untrained, epochs=30, warmup_epochs=1)
    assert history.epochs[-1].select > 0.8
    assert {t.dtype for t in graph.state().values() if t.is_floating_point()} == {torch.float32}
    assert not torch.equal(graph.state()["fc.weight"], other.state()["fc.weight"])


def test_training_precision_follows_the_processor_when_auto():
    found = torch.cpu.get_capabilities()
    units = bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    cpu = torch.device("cpu")
    assert training_precision("auto", cpu) == (torch.bfloat16 if units else torch.float32)
    assert training_precision("float32", cpu) == torch.float32
    assert training_precision("bfloat16", cpu) == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_training_device_refuses_when_there_is_no_cuda():
    with pytest.raises(EbbtideError) as caught:
        training_device("cuda")
    assert caught.value.code == "model.training_device"
    assert training_device("auto").type == "cpu"


def test_learning_rate_rises_then_falls_to_zero():
    section = settings(epochs=10, warmup_epochs=2, learning_rate=0.4)
    assert [learning_rate(section, t) for t in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.2, 0.4, 0.2, 0])


@pytest.mark.parametrize("seed", range(5))
def test_metric_value_equals_sklearn(seed):
    random = np.random.default_rng(seed)
    labels, found = random.integers(0, 6, 200), random.integers(0, 7, 200)
    labels[labels == 3] = 2  # a class without samples
    assert metric_value("accuracy", found, labels, 8) == pytest.approx(accuracy_score(labels, found))
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        expected = balanced_accuracy_score(labels, found)
    assert metric_value("balanced_accuracy", found, labels, 8) == pytest.approx(expected)
    assert metric_value("macro_f1", found, labels, 8) == pytest.approx(f1_score(labels, found, average="macro"))


def test_chance_warning_speaks_when_accuracy_is_a_guess():
    labels = np.arange(100) % 10
    assert "normalisation" in chance_warning(0.11, labels, metric="accuracy", classes=10)
    assert chance_warning(0.6, labels, metric="accuracy", classes=10) is None
