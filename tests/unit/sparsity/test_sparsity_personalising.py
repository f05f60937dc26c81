from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from personal_samples import CLASSES, KilledError, Telling, digits, personal, settings, universal

from ebbtide.errors import EbbtideError
from ebbtide.model import Distillation, cost, evaluate
from ebbtide.sparsity.outcome import Personalised
from ebbtide.sparsity.patterns.channels import Channels
from ebbtide.sparsity.personalising import personalise
from ebbtide.sparsity.protocol import pattern_type
from ebbtide.sparsity.schedule import Schedule

BATCHES = 6  # Of 32 in the user's 178 samples.
STEPS = Schedule(steps=2, epochs_between=1, batches=3, batch_size=32)


class Untouched:
    """A split that must not be looked at."""

    ids = ()

    def __len__(self):
        raise AssertionError("looked at")


class Spoiling:
    """A split whose samples are not numbers any more after so many passes of learning."""

    def __init__(self, split, passes):
        self._split, self.left = split, passes
        self.ids, self.labels = split.ids, split.labels

    def __len__(self):
        return len(self._split)

    def tensor(self, indices):
        return self._split.tensor(indices)

    def targets(self, indices):
        return self._split.targets(indices)

    def batches(self, size, **more):
        factor = 1.0 if self.left else float("nan")
        self.left -= 1
        for x, y in self._split.batches(size, **more):
            yield x * factor, y


class Watching(Channels):
    """The pattern itself, and what it was given."""

    def shrink(self, graph, statistics, *, kept, masks=None, seed=0):
        seen.append((kept, statistics))
        return super().shrink(graph, statistics, kept=kept, masks=masks, seed=seed)


seen: list = []


def run(kept=0.1, train=None, **more):
    given = {"pattern": Channels(), "settings": settings(), "schedule": STEPS, **more}
    return personalise(personal(), train or digits("train"), digits("select"), kept=kept, **given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that went through, with the folder that it left."""
    folder = tmp_path_factory.mktemp("finished")
    return run(checkpoint=folder), folder


@pytest.fixture
def whole(finished):
    return finished[0]


@pytest.fixture
def stored(finished, tmp_path):
    return shutil.copytree(finished[1], tmp_path / "stored")


def test_personalise_reaches_the_budget_step_by_step_and_holds_accuracy(whole):
    universal_right = evaluate(personal(), digits("select"), metric="accuracy")
    macs = [cost(each.module, each.input_shape).macs for each in (whole.graph, personal())]
    assert whole.kept == macs[0] / macs[1] <= 0.1
    assert [step["asked"] for step in whole.trail] == pytest.approx([10**-0.5, 0.1])
    assert all(step["kept"] <= step["asked"] for step in whole.trail)
    assert [len(step["history"]["epochs"]) for step in whole.trail] == [1, 2]
    assert whole.stopped is None
    assert universal_right > 0.9
    assert whole.trail[-1]["select"] == evaluate(whole.graph, digits("select"), metric="accuracy")
    longer = run(settings=settings(epochs=8))
    assert longer.trail[-1]["select"] >= universal_right - 0.1
    assert whole.right(digits("select")).mean() == pytest.approx(whole.trail[-1]["select"])


def test_personalise_leaves_the_model_as_it_was():
    graph = personal()
    digest = graph.digest()
    personalise(graph, digits("train"), digits("select"), pattern=Channels(), kept=0.5,
                settings=settings(epochs=1), schedule=Schedule(steps=1, batches=1))  # fmt: skip
    assert graph.digest() == digest
    assert all(p.grad is None or not p.grad.any() for p in graph.module.parameters())


# In the first removal's only epoch, between two steps, in the last epoch.
@pytest.mark.parametrize("batches", [3, BATCHES, 2 * BATCHES + 1])
def test_personalise_ends_with_the_same_bytes_when_killed_and_continued(whole, tmp_path, batches):
    with pytest.raises(KilledError):
        run(checkpoint=tmp_path / "steps", progress=Telling(batches))
    # What was learned in whole steps and epochs is not learned again.
    left = 3 * BATCHES - BATCHES * (batches // BATCHES)
    continued = run(checkpoint=tmp_path / "steps", progress=Telling(left))
    assert continued.graph.digest() == whole.graph.digest()
    assert continued.trail == whole.trail
    assert continued.identity == whole.identity


def test_personalise_learns_nothing_when_everything_is_there(whole, stored):
    again = run(checkpoint=stored, progress=Telling(0))
    assert again.graph.digest() == whole.graph.digest()
    assert not list(stored.glob("*.training.safetensors"))


@pytest.mark.parametrize("changed", [{"settings": settings(learning_rate=0.04)}, {"pattern": Channels(scale="l1")}])
def test_personalise_starts_over_when_its_settings_are_others(stored, changed):
    with pytest.raises(KilledError):
        run(checkpoint=stored, progress=Telling(0), **changed)


def test_personalise_says_and_repeats_a_damaged_step(whole, stored):
    (second,) = stored.glob("2-*/model.safetensors")
    second.write_bytes(second.read_bytes()[:-400])
    telling = Telling(2 * BATCHES)
    assert run(checkpoint=stored, progress=telling).graph.digest() == whole.graph.digest()
    assert any("damaged" in text for text in telling.said)


def test_budget_below_the_floors_is_refused_before_anything_is_looked_at():
    with pytest.raises(EbbtideError) as caught:
        personalise(personal(), Untouched(), Untouched(), pattern=Channels(multiple=8), kept=0.01, settings=settings())
    assert caught.value.code == "pruning.floor"
    assert "the floors that cost most" in caught.value.found


@pytest.mark.parametrize(("passes", "steps"), [(1, 1), (2, 1)])
def test_last_good_step_is_kept_when_learning_diverges(whole, passes, steps):
    telling = Telling()
    found = run(train=Spoiling(digits("train"), passes), progress=telling)
    assert len(found.trail) == steps
    assert found.trail == whole.trail[:steps]
    assert found.asked == 0.1
    assert found.kept == whole.trail[steps - 1]["kept"] > 0.1
    assert "NaN" in found.stopped
    assert any("last good step" in text for text in telling.said)
    assert evaluate(found.graph, digits("select"), metric="accuracy") == found.trail[-1]["select"]


def test_divergence_after_the_first_removal_is_an_error():
    with pytest.raises(EbbtideError) as caught:
        run(train=Spoiling(digits("train"), 0))
    assert caught.value.code == "model.training_diverged"


def test_frozen_statistics_are_gathered_anew_before_each_removal():
    seen.clear()
    run(pattern=Watching(), kept=0.2, schedule=Schedule(steps=2, epochs_between=1, batches=4, batch_size=32))
    assert [(s.norm, s.batches, s.batch_size, s.samples) for _, s in seen] == [("eval", 4, 32, 178)] * 2
    # Shares are of the graph that is given: the second goes from what the first left.
    assert seen[0][0] == pytest.approx(0.2**0.5)
    assert seen[1][0] == pytest.approx(0.2**0.5, rel=0.1)
    shapes = [s.absolute["c.0.weight"].shape for _, s in seen]
    assert shapes[1][0] < shapes[0][0]


def test_moving_statistics_come_from_the_epoch_before(tmp_path):
    seen.clear()
    schedule = Schedule(steps=2, epochs_before=1, epochs_between=1, statistics="moving")
    found = run(pattern=Watching(), schedule=schedule)
    assert [(s.norm, s.batches) for _, s in seen] == [("train", BATCHES)] * 2
    with pytest.raises(KilledError):
        run(pattern=Watching(), schedule=schedule, checkpoint=tmp_path, progress=Telling(2 * BATCHES + 1))
    again = run(pattern=Watching(), schedule=schedule, checkpoint=tmp_path, progress=Telling(2 * BATCHES))
    assert again.graph.digest() == found.graph.digest()
    assert found.statistics.absolute.keys() == again.statistics.absolute.keys()


def test_controls_score_on_other_samples():
    """The whole head and the images of all classes, by the same code."""
    seen.clear()
    everything = digits("train", tuple(range(10)))
    personalise(universal(), digits("train", CLASSES), digits("select"), pattern=Watching(), kept=0.5,
                settings=settings(epochs=1), schedule=Schedule(steps=1, batches=3), scored_on=everything)  # fmt: skip
    assert seen[0][1].samples == len(everything) == 599
    with pytest.raises(EbbtideError) as caught:
        run(scored_on=everything, schedule=Schedule(statistics="moving", epochs_before=1))
    assert caught.value.code == "sparsity.schedule"


def test_personalise_goes_on_from_a_larger_model(whole):
    smaller = run(kept=0.05, start=whole)
    assert smaller.trail[:2] == whole.trail
    assert [step["asked"] for step in smaller.trail[2:]] == pytest.approx([(whole.kept * 0.05) ** 0.5, 0.05])
    assert smaller.kept <= 0.05


def test_whole_model_is_fine_tuned_as_the_rival_is():
    found = run(kept=1.0, pattern=Channels(kind="magnitude"))
    assert found.kept == 1.0
    assert [len(step["history"]["epochs"]) for step in found.trail] == [2]
    assert found.graph.digest() != personal().digest()


def test_class_set_equal_to_all_classes_is_allowed():
    everything = tuple(range(10))
    found = personalise(universal(), digits("train", everything), digits("select", everything), pattern=Channels(),
                        kept=0.7, settings=settings(epochs=1), schedule=Schedule(steps=1, batches=3))  # fmt: skip
    assert found.graph.classes == 10


def test_teacher_is_listened_to_in_every_step(whole):
    taught = run(distillation=Distillation(personal(), 0.9, 1.0, remember=True), schedule=STEPS)
    assert taught.identity != whole.identity
    first = [each.trail[0]["history"]["epochs"][0]["loss"] for each in (taught, whole)]
    assert first[0] != first[1]
    # What it learned is nearer to the teacher than what the labels alone taught.
    x, _ = next(digits("select").batches(200))
    with torch.no_grad():
        goal = torch.log_softmax(personal()(x), 1)
        gaps = [
            float(F.kl_div(torch.log_softmax(each.graph(x), 1), goal, log_target=True, reduction="batchmean"))
            for each in (taught, whole)
        ]
    assert gaps[0] < gaps[1]


def test_personalised_is_read_again(whole, tmp_path):
    whole.save(tmp_path)
    again = Personalised.load(personal(), tmp_path, Channels())
    assert again.graph.digest() == whole.graph.digest()
    assert (again.trail, again.kept, again.asked, again.stopped) == (whole.trail, whole.kept, whole.asked, None)
    assert (again.right(digits("select")) == whole.right(digits("select"))).all()
    with pytest.raises(EbbtideError) as caught:
        Personalised.load(universal(), tmp_path, Channels())
    assert caught.value.code == "sparsity.file"


def test_masks_go_the_same_road(tmp_path):
    pattern = pattern_type("hybrid")(block=8)
    schedule = Schedule(steps=2, epochs_between=1, batches=3, batch_size=32)
    found = run(kept=0.4, pattern=pattern, schedule=schedule)
    assert found.kept <= 0.4
    kept = found.trained.masks.weight_masks()
    for name, mask in kept.items():
        assert not found.graph.state()[name][~mask].any()
        # Under the masks the weights are alive.
        assert found.trained.graph.state()[name][~mask].any()
    with pytest.raises(KilledError):
        run(kept=0.4, pattern=pattern, schedule=schedule, checkpoint=tmp_path, progress=Telling(BATCHES + 2))
    again = run(kept=0.4, pattern=pattern, schedule=schedule, checkpoint=tmp_path, progress=Telling(2 * BATCHES))
    assert again.graph.digest() == found.graph.digest()
    again.save(tmp_path / "kept")
    assert Personalised.load(personal(), tmp_path / "kept", pattern).graph.digest() == found.graph.digest()
