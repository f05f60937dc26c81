"""Exits at every candidate position, their temperatures, and which of them are worth a boundary."""

from __future__ import annotations

from dataclasses import dataclass
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
    """All exits that were trained, and what they and the head said of select.

    Attributes:
        backbone: what they stand on; its stages number the positions.
        positions: of the exits.
        exits: by position, the folder with ``exit.safetensors``.
        temperatures: ``exit{position}`` and ``head``.
        macs: of each exit alone, by position.
        alone: accuracy of each exit on select if everybody left there.
        universal: metric of the model without exits on select.
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
    universal: float
    chosen: tuple[int, ...]
    cut_off_macs: tuple[float, ...]
    records_file: Path
    gate_extra: int
    features: dict[str, Path]

    @property
    def selected(self) -> int:
        """How many samples select has."""
        count: int = self.backbone.facts["provenance"]["splits"]["select"]["count"]
        return count

    def load_exit(self, position: int) -> Exit:
        """A trained exit in eval mode."""
        from ebbtide.exits import load_exit

        return load_exit(_fresh_exit(self.backbone, position), self.exits[position] / "exit.safetensors")


def train_candidates(backbone: Backbone) -> Candidates:
    """Cache features, train an exit at every candidate position, fit temperatures, and choose positions on select."""
    positions = _positions(backbone)
    features = {name: cache_backbone(backbone, name, positions) for name in ("train", "select")}
    universal = _universal(backbone, features["select"])
    exits = {p: _train_one(backbone, p, features["train"]) for p in positions}
    fitted, records_file = _fit(backbone, exits, features)
    counts = backbone.facts["provenance"]["splits"]
    first = _choose_positions(backbone, records_file, fitted["exit_macs"])
    return Candidates(
        backbone=backbone,
        positions=positions,
        exits=exits,
        temperatures=fitted["temperatures"],
        macs={int(p): m for p, m in fitted["exit_macs"].items()},
        alone={int(p): a for p, a in fitted["alone"].items()},
        universal=universal,
        chosen=tuple(first["positions"]),
        cut_off_macs=tuple(first["cut_off_macs"]),
        records_file=records_file,
        gate_extra=min(counts["train"]["count"], max(0, GATE_SAMPLES - counts["select"]["count"])),
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
            f"The model has no exit position {wrong[0]}",
            expected=f"positions {known[0]} to {known[-1]}" if known else "a model with more than one stage",
            hint="Lower exits.positions, or ask for more stages; `ebb inspect` shows the stages.",
            place="exits.positions",
        )
    return tuple(section.positions)


def _universal(backbone: Backbone, features: Path) -> float:
    """The model's own metric on select, said before anything else is built on it."""
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
    name = project.recipe.metric.replace("_", " ")
    count = backbone.facts["provenance"]["splits"]["select"]["count"]
    project.progress.say(f"Universal model: {name} {100 * value:.2f} % on {count} select samples")
    if found["warning"] is not None:
        project.notice("warning", "universal model", found["warning"])
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


def _choose_positions(backbone: Backbone, records_file: Path, exit_macs: Mapping[str, int]) -> dict[str, Any]:
    """Search on the eager records which exits the tiers would use; boundaries of all others are fused away."""
    project = backbone.project
    tiers = project.inputs("tiers", "metric")
    inputs = {**backbone.identity(), **tiers, "records": project.store.digest(records_file)}

    def compute() -> dict[str, Any]:
        from ebbtide.build.scores import choose
        from ebbtide.exits import Records

        records = Records.load(records_file)
        costs = candidate_costs(backbone, exit_macs)
        found = choose(records, costs, recipe=project.recipe, classes=backbone.classes, gate=None)
        used = sorted({position for row in found.tiers for position, _ in found.rows[row].thresholds})
        return {
            "positions": used,
            "cut_off_macs": [
                m + costs.exits[p] for p, m in zip(records.positions, costs.reaching(records.positions), strict=False)
            ],
        }

    value: dict[str, Any] = project.json_step("positions", inputs, compute, code=("ebbtide.search", "ebbtide.exits"))
    return value


def candidate_costs(backbone: Backbone, exit_macs: Mapping[str, int]) -> Costs:
    """MACs of stages, exits and head as the candidates' positions number them."""
    from ebbtide.search import Costs

    macs = [cost["macs"] for cost in backbone.layout["costs"]]
    return Costs(stages=tuple(macs[:-1]), exits={int(p): m for p, m in exit_macs.items()}, head=macs[-1])
