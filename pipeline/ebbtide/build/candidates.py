"""Exits at every candidate position of every width, their temperatures, and which of them are worth a boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.backbone import Backbone, cache_backbone, channel_axis
from ebbtide.build.project import TORCH, read_json
from ebbtide.steps import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ebbtide.exits.protocol import Exit
    from ebbtide.search import Costs

GATE_SAMPLES = 512
"""The gate compares at least so many real samples, where the data have them (architecture, decision 4)."""


@dataclass(frozen=True)
class Candidates:
    """All exits that were trained on one width, and what they and the head said of select.

    Attributes:
        backbone: what they stand on; its stages number the positions.
        positions: of the exits.
        exits: by position, the folder with ``exit.safetensors``.
        temperatures: ``exit{position}`` and ``head``.
        macs: of each exit alone, by position.
        alone: accuracy of each exit on select if everybody left there.
        whole: metric of the width without exits on select.
        chosen: positions that the first choice of tiers uses.
        cut_off_macs: at each position, MACs of the backbone up to there and of its exit.
        records_file: eager records on select.
        gate_extra: how many samples of train the gate takes beside select.
        features: folders of the feature caches, by split.
    """

    backbone: Backbone
    positions: tuple[int, ...]
    exits: dict[int, Path]
    temperatures: dict[str, float]
    macs: dict[int, int]
    alone: dict[int, float]
    whole: float
    chosen: tuple[int, ...]
    cut_off_macs: tuple[float, ...]
    records_file: Path
    gate_extra: int
    features: dict[str, Path]

    @property
    def width(self) -> str:
        """The name of the width that they stand on."""
        return self.backbone.width

    @property
    def selected(self) -> int:
        """How many samples select has."""
        return self.backbone.universal.samples("select")

    def load_exit(self, position: int) -> Exit:
        """A trained exit in eval mode."""
        from ebbtide.exits import load_exit

        return load_exit(_fresh_exit(self.backbone, position), self.exits[position] / "exit.safetensors")


def train_candidates(backbones: Sequence[Backbone]) -> tuple[Candidates, ...]:
    """Train an exit at every candidate position of every width, fit temperatures, and choose positions on select.

    The features of the widths differ, so each has exits and temperatures of its own. The positions are chosen over all
    widths at once, because the tiers are.
    """
    trained = [_train_width(backbone) for backbone in backbones]
    found = zip(trained, _choose_positions(trained), strict=True)
    return tuple(
        replace(one, chosen=tuple(first["positions"]), cut_off_macs=tuple(first["cut_off_macs"]))
        for one, first in found
    )


def _train_width(backbone: Backbone) -> Candidates:
    positions = _positions(backbone)
    features = {name: cache_backbone(backbone, name, positions) for name in ("train", "select")}
    whole = _whole(backbone, features["select"])
    exits = {p: _train_one(backbone, p, features["train"]) for p in positions}
    fitted, records_file = _fit(backbone, exits, features)
    macs = {int(p): m for p, m in fitted["exit_macs"].items()}
    universal = backbone.universal
    return Candidates(
        backbone=backbone,
        positions=positions,
        exits=exits,
        temperatures=fitted["temperatures"],
        macs=macs,
        alone={int(p): a for p, a in fitted["alone"].items()},
        whole=whole,
        chosen=(),
        cut_off_macs=(),
        records_file=records_file,
        gate_extra=min(universal.samples("train"), max(0, GATE_SAMPLES - universal.samples("select"))),
        features=features,
    )


def _positions(backbone: Backbone) -> tuple[int, ...]:
    section = backbone.project.recipe.exits
    if section is None:
        return ()
    # An exit after the last stage would do what the head does.
    known = tuple(range(len(backbone.cuts) - 1))
    if section.positions == "auto":
        return known
    wrong = [p for p in section.positions if p not in known]
    if wrong:
        from ebbtide.errors import EbbtideError

        raise EbbtideError(
            "recipe.conflict",
            f"The model{'' if backbone.is_widest else f' at width {backbone.width}'} has no exit position {wrong[0]}",
            expected=f"positions {known[0]} to {known[-1]}" if known else "a model with more than one stage",
            hint="Lower exits.positions, or ask for more stages; `ebb inspect` shows the stages.",
            place="exits.positions",
        )
    return tuple(section.positions)


def _whole(backbone: Backbone, features: Path) -> float:
    """The metric of a width without exits on select, said before anything else is built on it."""
    project, classes = backbone.project, backbone.classes

    def compute() -> dict[str, Any]:
        from ebbtide.model import chance_warning, metric_value

        logits, labels = np.load(features / "logits.npy", mmap_mode="r"), np.load(features / "labels.npy")
        metric = project.recipe.metric
        value = metric_value(metric, logits.argmax(1), labels, classes=classes)
        return {"value": value, "warning": chance_warning(value, labels, metric=metric, classes=classes)}

    inputs = {**backbone.identity(), **project.inputs("metric")}
    found = project.json_step("universal", inputs, compute, code=("ebbtide.model.metric",))
    value: float = found["value"]
    subject = "universal model" if project.recipe.widths is None else f"width {backbone.width}"
    name = project.recipe.metric.replace("_", " ")
    count = backbone.universal.samples("select")
    project.progress.say(f"{subject.capitalize()}: {name} {100 * value:.2f} % on {count} select samples")
    if found["warning"] is not None:
        project.notice("warning", subject, found["warning"])
    return value


def _fresh_exit(backbone: Backbone, position: int) -> Exit:
    from ebbtide.exits import exit_type

    section = backbone.project.recipe.exits
    shape = tuple(backbone.layout["boundaries"][position])
    axis = channel_axis(shape, backbone.facts["input"]["kind"])
    kind = exit_type(section.type if section else "pool-linear")
    return kind.build(shape[axis - 1], backbone.classes, channel_axis=axis)


def _train_one(backbone: Backbone, position: int, features: Path) -> Path:
    project = backbone.project
    section = project.recipe.exits
    assert section is not None
    settings: dict[str, Any] = {
        "epochs": section.epochs,
        "batch_size": section.batch_size,
        "learning_rate": section.learning_rate,
        "weight_decay": section.weight_decay,
        "label_smoothing": project.recipe.training_settings.label_smoothing,
        "seed": project.recipe.training_settings.seed,
    }
    inputs = {**backbone.identity(), "position": position, "type": section.type, **settings}

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.exits import ExitSettings, FeatureCache, save_exit, train_exit

        cache = FeatureCache.load(features)
        module = _fresh_exit(backbone, position)
        loss = train_exit(
            module,
            np.asarray(cache.pooled[position]),
            cache.labels,
            settings=ExitSettings(**settings),
            label=f"Training exit {position}",
            progress=project.progress,
        )
        save_exit(module, folder / "exit.safetensors")
        write_json(folder / "exit.json", {"loss": loss})

    return project.step("exit", inputs, produce, code=("ebbtide.exits",))


def _logits(
    backbone: Backbone, features: Path, exits: Mapping[int, Path]
) -> tuple[NDArray[np.int64], dict[int, NDArray[np.float32]], NDArray[np.float32]]:
    import torch

    from ebbtide.exits import FeatureCache, load_exit

    cache = FeatureCache.load(features)
    found = {}
    with torch.inference_mode():
        for position, folder in exits.items():
            module = load_exit(_fresh_exit(backbone, position), folder / "exit.safetensors")
            found[position] = module.classify(torch.from_numpy(np.array(cache.pooled[position]))).numpy()
    return cache.labels, found, np.asarray(cache.logits)


def _fit(backbone: Backbone, exits: Mapping[int, Path], features: Mapping[str, Path]) -> tuple[dict[str, Any], Path]:
    store = backbone.project.store
    inputs = {
        **backbone.identity(),
        "exits": {str(p): store.digest(folder / "exit.safetensors") for p, folder in exits.items()},
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.exits import fit_temperature, record

        labels, logits, head = _logits(backbone, features["select"], exits)
        temperatures = {f"exit{p}": fit_temperature(values, labels) for p, values in logits.items()}
        temperatures["head"] = fit_temperature(head, labels)
        records = record(labels, logits, head, temperatures=temperatures)
        records.save(folder / "records.npz")
        alone = {str(p): float((records.predictions[i] == labels).mean()) for i, p in enumerate(records.positions)}
        macs = {str(p): _fresh_exit_macs(backbone, p) for p in exits}
        write_json(folder / "fit.json", {"temperatures": temperatures, "alone": alone, "exit_macs": macs})

    folder = backbone.project.step("records", inputs, produce, code=("ebbtide.exits",), libraries=(*TORCH, "scipy"))
    return read_json(folder / "fit.json"), folder / "records.npz"


def _fresh_exit_macs(backbone: Backbone, position: int) -> int:
    """Multiply-accumulates of an exit: its linear layers, counted from their weights."""
    return sum(p.numel() for p in _fresh_exit(backbone, position).classify.parameters() if p.dim() == 2)


def _choose_positions(trained: Sequence[Candidates]) -> list[dict[str, Any]]:
    """Search on the eager records which exits the tiers would use; boundaries of all others are fused away.

    Returns:
        For each width ``positions``, and ``cut_off_macs`` of all its candidates.
    """
    project = trained[0].backbone.project
    inputs = {
        "widths": [{**one.backbone.identity(), "records": project.store.digest(one.records_file)} for one in trained],
        **project.inputs("tiers", "metric"),
    }

    def compute() -> list[dict[str, Any]]:
        from ebbtide.build.scores import Scorable, choose
        from ebbtide.exits import Records

        scorable = [
            Scorable(one.width, Records.load(one.records_file), candidate_costs(one.backbone, one.macs))
            for one in trained
        ]
        found = choose(scorable, recipe=project.recipe, classes=trained[0].backbone.classes)
        rows = [found.rows[index] for index in found.tiers]
        return [
            {
                "positions": sorted({p for row in rows if row.width == one.width for p, _ in row.thresholds}),
                "cut_off_macs": [
                    float(reached) + one.costs.exits[p]
                    for p, reached in zip(
                        one.records.positions, one.costs.reaching(one.records.positions), strict=False
                    )
                ],
            }
            for one in scorable
        ]

    value: list[dict[str, Any]] = project.json_step(
        "positions", inputs, compute, code=("ebbtide.search", "ebbtide.exits")
    )
    return value


def candidate_costs(backbone: Backbone, exit_macs: Mapping[int, int]) -> Costs:
    """MACs of stages, exits and head as the candidates' positions number them."""
    from ebbtide.search import Costs

    macs = [cost["macs"] for cost in backbone.layout["costs"]]
    return Costs(stages=tuple(macs[:-1]), exits=dict(exit_macs), head=macs[-1])
