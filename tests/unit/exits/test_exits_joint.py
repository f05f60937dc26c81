from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exits_samples import QUICK, Trained, samples, small_graph, train_all
from torch.nn import functional as F

from ebbtide.errors import EbbtideError
from ebbtide.exits import ExitKey
from ebbtide.exits.joint import Joint, train_joint
from ebbtide.recipe import TrainingSection
from ebbtide.steps import Progress, silent

KEYS = (ExitKey(0, "pool-linear"), ExitKey(1, "conv-branch"), ExitKey(1, "pool-mlp"))
SETTINGS = TrainingSection(epochs=3, batch_size=48, optimizer="adamw", learning_rate=0.003, device="cpu")


class KilledError(Exception):
    pass


class KillAfter:
    """A progress that dies in the middle of an epoch, as a killed process does."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def say(self, text: str) -> None: ...

    def task(self, label: str, total: float | None = None) -> KillAfter:
        return self

    def __enter__(self) -> KillAfter:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: float = 1, **facts: object) -> None:
        self.left -= count
        if self.left < 0:
            raise KilledError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_all(small_graph(), tmp_path_factory.mktemp("features"), settings=QUICK, stages=3)


def run(trained: Trained, *, file: Path | None = None, progress: Progress = silent, **options: float) -> Joint:
    return train_joint(
        trained.graph,
        trained.cuts,
        {key: trained.exits[key] for key in KEYS},
        samples(),
        samples(90, seed=1),
        settings=SETTINGS,
        metric="accuracy",
        checkpoint=file,
        progress=progress,
        **options,
    )


def accuracies(made: Joint, trained: Trained) -> list[float]:
    from ebbtide.model import split

    staged, data = split(made.graph, trained.cuts), samples(90, seed=1)
    found, value = {}, data.x
    with torch.no_grad():
        for position, stage in enumerate(staged.stages):
            value = stage(value)
            found |= {key: made.exits[key](value) for key in KEYS if key.position == position}
        outputs = [*(found[key] for key in KEYS), staged.head(value)]
    return [float((logits.argmax(1).numpy() == data.labels).mean()) for logits in outputs]


def test_joint_training_makes_a_new_backbone_and_leaves_the_original_alone(trained: Trained) -> None:
    digest, weights = trained.graph.digest(), {key: trained.exits[key].classify.state_dict() for key in KEYS}
    before = {key: {name: tensor.clone() for name, tensor in state.items()} for key, state in weights.items()}
    made = run(trained)
    assert trained.graph.digest() == digest != made.graph.digest()
    assert set(made.graph.state()) == set(trained.graph.state())
    for key in KEYS:
        for name, tensor in trained.exits[key].classify.state_dict().items():
            assert torch.equal(tensor, before[key][name])
            assert not torch.equal(tensor, made.exits[key].classify.state_dict()[name])
    last = made.history.epochs[-1]
    assert [*last.levels.values(), last.select] == pytest.approx(accuracies(made, trained))
    assert list(last.levels) == [str(key) for key in KEYS]
    assert last.loss < 0.7 * made.history.epochs[0].loss


def test_gradients_of_the_exits_reach_the_backbone_only_as_far_as_their_position(trained: Trained) -> None:
    only_exits = run(trained, exit_share=1.0, weight=0.0)
    before, after = trained.graph.state(), only_exits.graph.state()
    # Position 1 lies before the last block, so nothing but weight decay touches what comes after it.
    assert torch.equal(before["fc.bias"], after["fc.bias"])
    assert torch.equal(before["blocks.3.norm.bias"], after["blocks.3.norm.bias"])
    assert not torch.equal(before["blocks.0.norm.bias"], after["blocks.0.norm.bias"])


def test_joint_training_ends_with_the_same_bytes_when_killed_and_continued(trained: Trained, tmp_path: Path) -> None:
    whole = run(trained)
    file = tmp_path / "joint.safetensors"
    with pytest.raises(KilledError):
        run(trained, file=file, progress=KillAfter(8))
    continued = run(trained, file=file)
    assert continued.history.resumed_from == 1
    assert continued.graph.digest() == whole.graph.digest()
    for key in KEYS:
        for one, other in zip(continued.exits[key].parameters(), whole.exits[key].parameters(), strict=True):
            assert torch.equal(one, other)


def test_teacher_alone_keeps_the_head_where_the_exits_do_not_count(trained: Trained) -> None:
    x = samples(90, seed=1).x
    divergences = []
    with torch.no_grad():
        goal = trained.graph(x).log_softmax(1)
    for weight in (1.0, 0.0):
        made = run(trained, exit_share=0.0, weight=weight)
        with torch.no_grad():
            found = made.graph(x).log_softmax(1)
        divergences.append(float(F.kl_div(found, goal, log_target=True, reduction="batchmean")))
    assert divergences[0] < 0.5 * divergences[1]


def test_joint_training_refuses_shares_out_of_range_and_no_exits(trained: Trained) -> None:
    with pytest.raises(EbbtideError) as caught:
        run(trained, exit_share=1.5)
    assert caught.value.code == "exits.settings"
    with pytest.raises(EbbtideError) as caught:
        run(trained, weight=2.0)
    assert caught.value.code == "model.distillation"
