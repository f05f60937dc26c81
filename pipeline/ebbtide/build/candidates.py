"""Exits of every type at every candidate position of every width, their temperatures, and which ones programs get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.backbone import Backbone, cache_backbone
from ebbtide.build.project import TORCH, read_json
from ebbtide.steps import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.exits import Exit, ExitKey, Records
    from ebbtide.search import Costs

GATE_SAMPLES = 512
"""The gate compares at least so many real samples, where the data have them (architecture, decision 4)."""

Key = tuple[int, str]
"""Position and type of an exit, equal to its `ExitKey`; the exits themselves are only imported by a step that runs."""


@dataclass(frozen=True)
class Candidates:
    """All exits that were trained on one width, and what they and the head said of select.

    Attributes:
        backbone: what they stand on; its stages number the positions.
        keys: of the exits, in order of position and type.
        left_out: types that cannot stand at a position, with the reason.
        exits: the file of each one's weights.
        temperatures: of each exit.
        head_temperature: of the head.
        macs: of each exit alone.
        alone: accuracy of each exit on select if everybody left there.
        whole: metric of the width without exits on select.
        records_file: eager records on select.
        gate_extra: how many samples of train the gate takes beside select.
        chosen: the exits of its program, one type at a position.
        choice: how they were chosen, as JSON values (`ebbtide.build.choosing`).
        original: `whole` of the model that exits and backbone learned from together; None for a frozen backbone.
    """

    backbone: Backbone
    keys: tuple[Key, ...]
    left_out: dict[Key, str]
    exits: dict[Key, Path]
    temperatures: dict[Key, float]
    head_temperature: float
    macs: dict[Key, int]
    alone: dict[Key, float]
    whole: float
    records_file: Path
    gate_extra: int
    chosen: tuple[Key, ...] = ()
    choice: dict[str, Any] = field(default_factory=dict)
    original: float | None = None

    @property
    def width(self) -> str:
        """The name of the width that they stand on."""
        return self.backbone.width

    @property
    def selected(self) -> int:
        """How many samples select has."""
        return self.backbone.universal.samples("select")

    @property
    def reference(self) -> float:
        """The metric on select that losses are counted against: of the model as it came."""
        return self.whole if self.original is None else self.original

    def records(self) -> Records:
        """What exits and head said of select before they were lowered, in float32."""
        from ebbtide.exits import Records

        return Records.load(self.records_file, level=self.width, precision="float32")

    def load_exit(self, key: Key) -> Exit:
        """A trained exit in eval mode."""
        from ebbtide.exits import load_exit

        return load_exit(fresh_exit(self.backbone, key), self.exits[key])

    def costs(self) -> Costs:
        """MACs of stages, exits and head as the candidates' positions number them."""
        from ebbtide.exits import ExitKey
        from ebbtide.search import Costs

        macs = [cost["macs"] for cost in self.backbone.layout["costs"]]
        return Costs(
            stages=tuple(macs[:-1]), exits={ExitKey(*key): own for key, own in self.macs.items()}, head=macs[-1]
        )


def train_width(backbone: Backbone) -> Candidates:
    """Train exits of every type of the recipe at every candidate position of a width, on its frozen features."""
    keys, left_out = _possible(backbone)
    # Without exits nothing learns from the features of train.
    exits = _train_all(backbone, keys, cache_backbone(backbone, "train", keys)) if keys else {}
    return with_records(backbone, exits, cache_backbone(backbone, "select", keys), left_out=left_out)


def with_records(
    backbone: Backbone,
    exits: Mapping[Key, Path],
    features: Path,
    *,
    left_out: Mapping[Key, str],
    original: float | None = None,
) -> Candidates:
    """Fit temperatures of trained exits and of the head on select, and record what they say of it.

    Args:
        backbone: the width.
        exits: the file of each one's weights.
        features: folder of the feature cache of select.
        left_out: types that cannot stand at a position, with the reason.
        original: metric of the model that the backbone was made from, if it is a new one.
    """
    whole = _whole(backbone, features)
    fitted, records_file = _fit(backbone, exits, features)
    universal = backbone.universal
    by_key = {name: {parse(key): value for key, value in fitted[name].items()} for name in ("macs", "alone")}
    return Candidates(
        backbone=backbone,
        keys=tuple(sorted(exits)),
        left_out=dict(left_out),
        exits=dict(exits),
        temperatures={parse(key): value for key, value in fitted["temperatures"].items()},
        head_temperature=fitted["head_temperature"],
        macs=by_key["macs"],
        alone=by_key["alone"],
        whole=whole,
        records_file=records_file,
        gate_extra=min(universal.samples("train"), max(0, GATE_SAMPLES - universal.samples("select"))),
        original=original,
    )


def spell(key: Key) -> str:
    """A key as files and steps have it: ``3:pool-linear``."""
    return f"{key[0]}:{key[1]}"


def parse(text: str) -> Key:
    """The key that `spell` spelled."""
    position, _, kind = text.partition(":")
    return int(position), kind


def exit_file(key: Key) -> str:
    """The name of the file of an exit's weights."""
    return f"{key[0]}-{key[1]}.safetensors"


def fresh_exit(backbone: Backbone, key: Key) -> Exit:
    """An exit with untrained weights."""
    from ebbtide.exits import build_exit

    return build_exit(key[1], backbone.places[key[0]])


def _possible(backbone: Backbone) -> tuple[tuple[Key, ...], dict[Key, str]]:
    """Every type at every position, and those that cannot be, with reasons."""
    section, project = backbone.project.recipe.exits, backbone.project
    if section is None:
        return (), {}
    positions = _positions(backbone, section.positions)
    types = section.types
    inputs = {
        "places": list(backbone.layout["places"]),
        "positions": list(positions),
        "types": types if types == "auto" else sorted(types),
    }

    def compute() -> dict[str, Any]:
        from ebbtide.exits import exit_types, possible_exits

        places = {position: backbone.places[position] for position in positions}
        found = possible_exits(places, exit_types() if types == "auto" else types)
        return {
            "keys": [list(key) for key in found.keys],
            "left_out": {str(key): reason for key, reason in found.left_out.items()},
        }

    found = project.json_step("candidates", inputs, compute, code=("ebbtide.exits",))
    left_out = {parse(key): reason for key, reason in found["left_out"].items()}
    if types != "auto":
        _say_left_out(backbone, left_out)
    return tuple((position, kind) for position, kind in found["keys"]), left_out


def _say_left_out(backbone: Backbone, left_out: Mapping[Key, str]) -> None:
    """A type that was asked for by name and stands nowhere is said once, with where and why."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for (position, kind), reason in left_out.items():
        reasons.setdefault((kind, reason), []).append(position)
    for (kind, reason), positions in reasons.items():
        where = ", ".join(map(str, positions))
        plural = "s" if len(positions) > 1 else ""
        subject = "exits" if backbone.is_widest else f"exits, width {backbone.width}"
        backbone.project.notice("choice", subject, f"no {kind} at position{plural} {where}: {reason}")


def _positions(backbone: Backbone, wanted: Any) -> tuple[int, ...]:
    # An exit after the last stage would do what the head does.
    known = tuple(range(len(backbone.cuts) - 1))
    if wanted == "auto":
        return known
    wrong = [p for p in wanted if p not in known]
    if wrong:
        from ebbtide.errors import EbbtideError

        raise EbbtideError(
            "recipe.conflict",
            f"The model{'' if backbone.is_widest else f' at width {backbone.width}'} has no exit position {wrong[0]}",
            expected=f"positions {known[0]} to {known[-1]}" if known else "a model with more than one stage",
            hint="Lower exits.positions, or ask for more stages; `ebb inspect` shows the stages.",
            place="exits.positions",
        )
    return tuple(wanted)


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
    whole = "universal model" if project.recipe.sparsity is None else "model for the class set"
    if backbone.is_joint:
        whole = "new backbone"
    subject = whole if project.recipe.widths is None else f"width {backbone.width}"
    name = project.recipe.metric.replace("_", " ")
    count = backbone.universal.samples("select")
    project.progress.say(f"{subject.capitalize()}: {name} {100 * value:.2f} % on {count} select samples")
    if found["warning"] is not None:
        project.notice("warning", subject, found["warning"])
    return value


def _train_all(backbone: Backbone, keys: Sequence[Key], features: Path) -> dict[Key, Path]:
    """The trained exits' files; one step, because exits of one form are trained together."""
    project = backbone.project
    section = project.recipe.exits
    assert section is not None
    settings: dict[str, Any] = {
        "epochs": section.epochs,
        "batch_size": section.batch_size,
        "learning_rate": section.learning_rate,
        "weight_decay": section.weight_decay,
        "label_smoothing": project.recipe.training_settings.label_smoothing,
        "kl_weight": section.kl_weight,
        "kl_temperature": section.kl_temperature,
        "held_out": section.held_out,
        "patience": section.patience,
        "seed": project.recipe.training_settings.seed,
    }
    inputs = {
        **backbone.identity("train"),
        "exits": [list(one) for one in keys],
        "passes": section.passes,
        **project.inputs("training.augmentation"),
        **settings,
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.exits import ExitKey, ExitSettings, FeatureCache, fit_exits, save_exit

        cache, how = FeatureCache.load(features), ExitSettings(**settings)
        wanted = [ExitKey(*one) for one in keys]
        trained = fit_exits(wanted, backbone.places, cache, settings=how, progress=project.progress)
        for key, found in trained.items():
            save_exit(found[0], folder / exit_file(key))
        write_json(folder / "exits.json", {str(key): asdict(found[1]) for key, found in trained.items()})

    folder = project.step("exits", inputs, produce, code=("ebbtide.exits",))
    return {key: folder / exit_file(key) for key in keys}


def _logits(
    backbone: Backbone, features: Path, exits: Mapping[Key, Path]
) -> tuple[NDArray[np.int64], dict[ExitKey, NDArray[np.float32]], NDArray[np.float32]]:
    from ebbtide.exits import ExitKey, FeatureCache, exit_logits, load_exit

    cache = FeatureCache.load(features)
    modules = {ExitKey(*key): load_exit(fresh_exit(backbone, key), file) for key, file in exits.items()}
    return cache.labels, exit_logits(modules, cache), np.asarray(cache.logits)


def _fit(backbone: Backbone, exits: Mapping[Key, Path], features: Path) -> tuple[dict[str, Any], Path]:
    inputs = {**backbone.identity(), "exits": digests(backbone, exits.items())}

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.exits import exit_macs, fit_temperature, record

        labels, logits, head = _logits(backbone, features, exits)
        temperatures = {key: fit_temperature(values, labels) for key, values in logits.items()}
        head_temperature = fit_temperature(head, labels)
        records = record(
            labels,
            logits,
            head,
            temperatures=temperatures,
            head_temperature=head_temperature,
            level=backbone.width,
            precision="float32",
            split="select",
        )
        records.save(folder / "records.npz")
        right = records.predictions[:-1] == labels
        write_json(
            folder / "fit.json",
            {
                "temperatures": {str(key): value for key, value in temperatures.items()},
                "head_temperature": head_temperature,
                "alone": {str(key): float(right[row].mean()) for row, key in enumerate(records.keys)},
                "macs": {
                    str(key): exit_macs(fresh_exit(backbone, key), backbone.places[key.position])
                    for key in records.keys
                },
            },
        )

    folder = backbone.project.step("records", inputs, produce, code=("ebbtide.exits",), libraries=(*TORCH, "scipy"))
    return read_json(folder / "fit.json"), folder / "records.npz"


def digests(backbone: Backbone, files: Iterable[tuple[Key, Path]]) -> dict[str, str]:
    """What steps on exits depend on: the digest of each one's weights."""
    store = backbone.project.store
    return {spell(key): store.digest(file) for key, file in files}


def reached_costs(candidates: Candidates) -> dict[Key, float]:
    """For each exit, the MACs of the backbone up to it and of itself: what the model costs if it is cut off there."""
    costs = candidates.backbone.layout["costs"]
    sums = np.cumsum([cost["macs"] for cost in costs[:-1]])
    return {key: float(sums[key[0]] + candidates.macs[key]) for key in candidates.keys}


def kept_of(candidates: Sequence[Candidates], choices: Sequence[dict[str, Any]]) -> tuple[Candidates, ...]:
    """The candidates with the exits that were chosen for their programs."""
    return tuple(
        replace(one, chosen=tuple((position, kind) for position, kind in found["chosen"]), choice=found)
        for one, found in zip(candidates, choices, strict=True)
    )
