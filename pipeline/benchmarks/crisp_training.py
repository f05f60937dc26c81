"""Single runs of the comparison of class-specific models: `python pipeline/benchmarks/crisp_training.py SCRATCH RUN`.

A run is called CLASSES_SEED_METHOD, such as ``10_0_channels-6``: the class set of that many classes that the seed
draws, and how its model comes about. A run makes one model from the universal one, and only then opens the test images
of the class set, once. Its result is one file in ``results/crisp_runs``, so a comparison that was killed, or moved to
another machine, goes on with the runs that are missing; a killed run goes on with its last whole epoch.

Methods, numbers are percent:

- ``universal``: the universal model, its head restricted to the class set;
- ``dense``: the same, fine-tuned as long and from the same teacher as every other method;
- ``channels-MACS``: channels taken out until that share of the multiply-accumulates is left;
- ``hybrid-SPARSITY``: blocks of 8 and 2:4, until that share of the masked layers' weights is zero;
- ``small-MACS``: a network of those widths trained from nothing, as long and from the same teacher.

Words after the number change one thing, the controls: ``random``, ``magnitude`` and ``every`` (gradients of images of
all classes) the score, ``uniform`` and ``sum`` the allocation, ``blocks`` and ``released`` the pattern, ``b16`` and
``of4`` (1:4) its sizes, ``once`` and ``long`` the schedule, ``labels`` and ``others`` what is learned from.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from crisp_released import Released
from numpy.typing import NDArray
from reds_starts import NETWORKS, Printed, adapter, alone_with, dataset, prepared
from runs import circumstances, stored_result

from ebbtide.data import Augmentation, Dataset, FrozenChoices, Split, prepare
from ebbtide.model import Graph, coupling_groups, narrow, predict, restrict_head
from ebbtide.model.loss import Distillation, Transfer
from ebbtide.pruning import remove_channels
from ebbtide.recipe import ClassDraw
from ebbtide.recipe.sources import DataSection
from ebbtide.saliency import Statistics, collect, unit_scores
from ebbtide.sparsity.outcome import Personalised
from ebbtide.sparsity.patterns.channels import Channels
from ebbtide.sparsity.personalising import personalise
from ebbtide.sparsity.protocol import Pattern, Shrunk, pattern_type
from ebbtide.sparsity.schedule import Schedule
from ebbtide.steps import write_json

RUNS = Path(__file__).resolve().parent / "results" / "crisp_runs"
NETWORK = NETWORKS["cifar100"]
# Chosen on the select images of the class set of seed 100, which no figure is of.
TRAINING: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "precision": "auto",
    "device": "auto",
    "augmentation": {"flip": True, "crop_padding": 4},
    "epochs": 20,
    "learning_rate": 0.02,
}
TEACHER: dict[str, Any] = {"weight": 0.9, "temperature": 4.0, "remember": True}
VIEWS = 8
STEPS: dict[str, Any] = {"steps": 4, "epochs_between": 4}
LONGER = 40
OUTSIDE = 9_000
OTHERS = {"per_batch": 64, "samples": 20_000}
_METHOD = re.compile(r"(universal|dense|(channels|hybrid|small)-(\d+(?:\.\d+)?))((?:-[a-z0-9]+)*)")
WORDS = {
    "random": "random order",
    "magnitude": "magnitude",
    "every": "gradients of all classes",
    "uniform": "the same share of every layer",
    "sum": "sums of rank columns as published",
    "blocks": "blocks alone",
    "released": "as published code does it",
    "b16": "blocks of 16",
    "of4": "1:4",
    "once": "all at once",
    "labels": "learned from labels alone",
    "long": "40 passes more",
    "others": "images of other classes beside, answered by the teacher",
}


def told(method: str) -> str:
    """A method in a reader's words."""
    found = _METHOD.fullmatch(method)
    assert found is not None
    base = {
        "universal": "universal model, head restricted to the class set",
        "dense": "dense fine-tuned",
        "channels": f"channels at {found[3]} % of the MACs",
        "hybrid": f"blocks and N:M at {found[3]} % sparsity",
        "small": f"small net of {found[3]} % of the MACs, trained from nothing",
    }[found[2] or found[1]]
    return ", ".join([base, *(WORDS[word] for word in found[4].split("-")[1:])])


@dataclass(frozen=True)
class Run:
    """One method on one class set.

    Args:
        classes: size of the class set.
        seed: of its draw, and of everything random.
        method: as in the run's name.
    """

    classes: int
    seed: int
    method: str

    @classmethod
    def parse(cls, name: str) -> Run:
        classes, seed, method = name.split("_")
        run = cls(int(classes), int(seed), method)
        if not _METHOD.fullmatch(method) or set(run.words) - set(WORDS):
            raise SystemExit(f"{name}: no such method; see --help")
        return run

    @property
    def name(self) -> str:
        return f"{self.classes}_{self.seed}_{self.method}"

    @property
    def path(self) -> Path:
        return RUNS / f"{self.name}.json"

    @property
    def kind(self) -> str:
        return self.method.partition("-")[0]

    @property
    def number(self) -> float:
        found = _METHOD.fullmatch(self.method)
        return float(found[3]) if found and found[3] else 0.0

    @property
    def words(self) -> tuple[str, ...]:
        found = _METHOD.fullmatch(self.method)
        return tuple(found[4].split("-")[1:]) if found else ()

    @property
    def kept(self) -> float:
        """Share of the pattern's unit that may remain."""
        if self.kind in ("channels", "small"):
            return self.number / 100
        return 1 - self.number / 100 if self.kind == "hybrid" else 1.0

    def pattern(self) -> Pattern:
        """The pattern with the settings of the method."""
        kind = next((word for word in self.words if word in ("random", "magnitude")), "absolute")
        if self.kind == "hybrid":
            settings: dict[str, Any] = {
                "kind": kind,
                "block": 16 if "b16" in self.words else 8,
                "n": 1 if "of4" in self.words else 4 if "blocks" in self.words else 2,
                "m": 4,
                "weighing": "sum" if {"sum", "released"} & set(self.words) else "per-weight",
            }
            return Released(**settings) if "released" in self.words else pattern_type("hybrid")(**settings)
        allocation = "uniform" if "uniform" in self.words else "exact"
        return pattern_type("channels")(kind=kind, multiple=8, floor=8, allocation=allocation)

    def schedule(self) -> Schedule:
        """Removals and the learning between them; a dense model has none, but as many epochs."""
        if self.kind in ("dense", "small") or "once" in self.words:
            return Schedule(steps=1, views=VIEWS)
        return Schedule(**STEPS, views=VIEWS)

    def training(self) -> dict[str, Any]:
        """Settings of the learning after the last removal: methods of one length have as many passes in all."""
        schedule = self.schedule()
        extra = STEPS["epochs_between"] * (STEPS["steps"] - schedule.steps)
        longer = LONGER if "long" in self.words else 0
        return {**TRAINING, "epochs": TRAINING["epochs"] + extra + longer}

    def settings(self) -> dict[str, Any]:
        """Everything that the result depends on beside data, start and code, as JSON values."""
        trained = self.kind != "universal"
        return {
            "run": self.name,
            "kept": self.kept,
            "pattern": self.pattern().describe() if trained else None,
            "schedule": self.schedule().to_json() if trained else None,
            "training": self.training() if trained else None,
            "teacher": None if "labels" in self.words or not trained else TEACHER,
            **({"others": OTHERS} if "others" in self.words else {}),
        }

    def result(self) -> dict[str, Any] | None:
        """What the run found; None where it has not ended with these settings."""
        return stored_result(self.path, self.settings())


@dataclass(frozen=True)
class Start:
    """The universal model and a class set's data.

    Args:
        data: of the class set.
    """

    data: Dataset

    @cached_property
    def universal(self) -> Graph:
        """With the head of all classes."""
        return NETWORK.captured(adapter(str(NETWORK.trained))()).eval()

    @cached_property
    def restricted(self) -> Graph:
        """With the head of the class set."""
        return restrict_head(self.universal, self.data.class_indices).eval()


def class_set(classes: int, seed: int, scratch: Path) -> Dataset:
    """The data of a class set, with images of the other classes beside them."""

    def write(folder: Path) -> None:
        prepare(
            DataSection.model_validate(NETWORK.data()), classes=ClassDraw(count=classes, seed=seed), seed=0,
            input_defaults=NETWORK.input, outside_samples=OUTSIDE, transfer_samples=OTHERS["samples"], folder=folder,
        )  # fmt: skip

    return prepared(scratch / f"classes_{classes}_{seed}", write)


class EveryClass:
    """A pattern whose scores come from the universal model and images of all classes: a control.

    Gradients of classes that a model no longer tells apart cannot be gathered on it, so those of the universal model
    serve at every removal. They are kept as the tensors of a twin, from which the same channels are taken out.

    Args:
        pattern: with the setting of the method.
        statistics: of the universal model.
        graph: of the shapes that these have.
    """

    def __init__(self, pattern: Pattern, statistics: Statistics, graph: Graph) -> None:
        self._pattern, self._statistics = pattern, statistics
        self._twin = graph.copy()
        self._twin.load({**graph.state(), **statistics.absolute})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)

    def describe(self) -> dict[str, Any]:
        return {**self._pattern.describe(), "images": "every class"}

    def needs_statistics(self) -> bool:
        return False

    def shrink(self, graph: Graph, statistics: Statistics | None, *, kept: float, **how: Any) -> Shrunk:
        tensors = self._twin.state()
        mean = {name: tensors[name] for name in self._statistics.absolute}
        found = replace(self._statistics, signed=mean, absolute=mean)
        if isinstance(self._pattern, Channels):
            coupling, rules = coupling_groups(graph), self._pattern.rules
            scores = unit_scores(graph, coupling, "absolute", statistics=found, scale=self._pattern.scale)
            self._twin = remove_channels(self._twin, coupling, scores, kept=kept, rules=rules).graph
        return self._pattern.shrink(graph, found, kept=kept, **how)


def of_every_class(run: Run, start: Start, scratch: Path) -> Statistics:
    """Gradients of the universal model on training images of all classes, the head's cut to the class set."""
    schedule, rows = run.schedule(), list(start.data.class_indices)
    found = collect(
        start.universal, dataset("cifar100", scratch).train, batches=schedule.batches,
        batch_size=schedule.batch_size, seed=run.seed, norm=schedule.norm,
    )  # fmt: skip
    shapes = {name: tensor.shape for name, tensor in start.restricted.state().items()}

    def cut(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: t if t.shape == shapes[name] else t[rows] for name, t in tensors.items()}

    return replace(found, signed=cut(found.signed), absolute=cut(found.absolute))


def made(run: Run, start: Start, scratch: Path) -> Personalised:
    """The model of a run, trained."""
    settings = NETWORK.settings(run.training(), run.seed)
    data, pattern, schedule = start.data, run.pattern(), run.schedule()
    if "every" in run.words:
        pattern = cast(Pattern, EveryClass(pattern, of_every_class(run, start, scratch), start.restricted))
    transfer = None
    if "others" in run.words:
        assert data.transfer is not None
        changes = Augmentation.from_section(settings.augmentation, seed=run.seed + 1)
        transfer = Transfer(data.transfer, OTHERS["per_batch"], changes, run.seed, VIEWS)
    teacher = None if "labels" in run.words else Distillation(start.restricted, **TEACHER, transfer=transfer)
    graph = start.restricted
    if run.kind == "small":
        whole = restrict_head(NETWORK.untrained(run.seed), data.class_indices)
        uniform = pattern_type("channels")(kind="magnitude", multiple=8, floor=8, allocation="uniform")
        widths = uniform.shrink(whole, None, kept=run.kept, masks=None, seed=run.seed).facts["widths"]
        graph, pattern = narrow(whole, coupling_groups(whole), widths), uniform
    return personalise(
        graph, data.train, data.select, pattern=pattern, kept=1.0 if run.kind == "small" else run.kept,
        settings=settings, schedule=schedule, distillation=teacher,
        # The twin of a control would not know of removals before a kill.
        checkpoint=None if "every" in run.words else scratch / f"{run.name}.steps", progress=Printed(run.name),
    )  # fmt: skip


def execute(run: Run, scratch: Path) -> dict[str, Any]:
    """Do a run, or return what it found before."""
    with alone_with(scratch / run.name):
        before = run.result()
        if before is not None:
            return before
        began = time.monotonic()
        start = Start(class_set(run.classes, run.seed, scratch))
        model = made(run, start, scratch) if run.kind != "universal" else None
        graph = model.graph if model else start.restricted
        data = start.data
        # All is chosen: what was made and how is frozen before the first look at a test image.
        test = data.test.open(FrozenChoices.of({"settings": run.settings(), "weights": graph.digest()}))
        parts = {"select": _right(graph, data.select), "test": _right(graph, test)}
        facts = {
            "settings": run.settings(),
            "classes": list(data.classes),
            **parts,
            "kept": model.kept if model else 1.0,
            "stopped": model.stopped if model else None,
            "trail": [_without_history(step) for step in model.trail] if model else [],
            "samples": {"train": len(data.train), "select": len(data.select), "test": len(test)},
            "weights": graph.digest(),
            **circumstances(data.digest, began),
        }
        RUNS.mkdir(parents=True, exist_ok=True)
        write_json(run.path, facts)
        Printed(run.name).say(", ".join(f"{name} {found['accuracy']:.2%}" for name, found in parts.items()))
        return facts


def _right(graph: Graph, split: Split) -> dict[str, Any]:
    """Accuracy, and which samples are right, a bit each, so that methods can be compared sample by sample."""
    right = predict(graph, split) == np.asarray(split.labels)
    return {"accuracy": float(right.mean()), "right": np.packbits(right).tobytes().hex()}


def right_of(part: dict[str, Any], count: int) -> NDArray[np.bool_]:
    """What `_right` kept."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(part["right"]), np.uint8), count=count)
    return bits.astype(bool)


def _without_history(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "history"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("run", help="CLASSES_SEED_METHOD")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.scratch.mkdir(parents=True, exist_ok=True)
    execute(Run.parse(given.run), given.scratch)


if __name__ == "__main__":
    main()
