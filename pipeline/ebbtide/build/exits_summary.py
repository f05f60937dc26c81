"""What a report shows of early exits, gathered from the steps of a build."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.candidates import Candidates, reached_costs, spell
from ebbtide.build.choice import Row, Table
from ebbtide.build.evaluation import Evaluation, place_name
from ebbtide.build.halves import Swapped
from ebbtide.build.mapping import DeviceMapping
from ebbtide.build.programs import Programs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.report import early, record

EXAMPLES = 6
"""So many samples are shown of those that leave at one place."""
EXAMPLE_PIXELS = 40
"""The longer side of an example."""
REJECTS_TOLD = 6


def summarise_early(
    programs: Programs,
    table: Table,
    evaluation: Evaluation,
    *,
    mappings: Mapping[str, DeviceMapping],
    swapped: Swapped | None,
) -> early.EarlyExits | None:
    """How exits were made, chosen and mapped; None for a build without any.

    Args:
        programs, table, evaluation: of the build.
        mappings: by device profile.
        swapped: the halves of the test samples in each other's place, where the recipe asks for it.
    """
    from ebbtide.report import early

    recipe = programs.project.recipe
    section, widest = recipe.exits, programs.widest.candidates
    if section is None:
        return None
    shown = max((_row(table, tier) for tier in table.tiers), key=lambda row: len(row.thresholds))
    return early.EarlyExits(
        train="joint" if widest.backbone.is_joint else "frozen",
        original=widest.original,
        types=tuple(sorted({kind for one in programs.widths for _, kind in one.candidates.keys})),
        search=_search_words(table),
        constraint=_constraint_words(programs),
        halves=recipe.data.split.protocol == "test-halves",
        widths=tuple(_chosen(one.candidates) for one in programs.widths),
        shown=shown.id if shown.thresholds else "",
        leaving=tuple(_leaving(programs, shown)) if shown.thresholds else (),
        swapped=None if swapped is None else _swapped(swapped),
        mapped=tuple(_mapped(one, programs.widest.width) for one in mappings.values()),
    )


def _row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.id == name)


def _search_words(table: Table) -> str:
    settings = table.content["settings"]
    method = {
        "sweeps": "exact steps in sweeps until nothing gains",
        "single-pass": "one exact pass, first exit to last",
        "iterative": "one exact pass for each exit more",
    }[settings["method"]]
    words = [f"{method}, at {len(settings['trade_offs'])} trade-offs of quality and cost"]
    words.append(f"an exit is used where {settings['least_leaving']} samples or more leave")
    if settings["quantile"] is not None:
        words.append(f"with the {settings['quantile']:g} quantile of every exit's accuracy")
    if settings["head_share"]:
        words.append(f"{100 * settings['head_share']:.0f} % of what counts as right is what the head expects")
    if settings["folds"]:
        mean = 100 * float(np.mean([row.optimism for row in table.rows]))
        words.append(
            f"promises are lowered by the optimism that {settings['folds']} parts of select show, {mean:.2f} points on "
            "average"
        )
    return "; ".join(words)


def _constraint_words(programs: Programs) -> str:
    section = programs.project.recipe.exits
    limits = section.constraint if section else None
    if limits is None:
        return ""
    words = []
    if limits.max_drop_points is not None:
        words.append(f"loses at most {limits.max_drop_points:g} points against the model as it came, on select")
    if limits.max_latency_us is not None:
        words.append(f"takes at most {limits.max_latency_us:g} µs on average, by the times of its methods here")
    if limits.max_worst_latency_us is not None:
        words.append(f"takes at most {limits.max_worst_latency_us:g} µs where nothing leaves early")
    return " and ".join(words)


def _chosen(candidates: Candidates) -> early.ChosenExits:
    from ebbtide.report import early

    choice = candidates.choice
    return early.ChosenExits(
        width=candidates.width,
        kept=tuple(spell((position, kind)) for position, kind in choice["kept"]),
        chosen=tuple(spell(key) for key in candidates.chosen),
        mean_loss_points=choice["mean_loss_points"],
        worst_loss_points=choice["worst_loss_points"],
        whole=candidates.whole,
        macs=candidates.backbone.model["macs"],
        ways=tuple(
            early.Way(
                name=way["name"],
                points=tuple(early.FrontPoint(accuracy=value, mean_macs=macs) for value, macs in way["points"]),
            )
            for way in choice["ways"]
        ),
    )


def _leaving(programs: Programs, row: Row) -> Iterable[early.LeavingExamples]:
    """A few samples of select for each place where a configuration lets some go, in the order of the split."""
    from ebbtide.report import early

    project, one = programs.project, programs.of(row.width)
    if programs.universal.facts["input"]["kind"] != "image":
        return
    inputs = {
        "records": project.store.digest(one.records_file),
        "data": programs.universal.facts["digest"],
        "thresholds": {str(position): value for position, value in row.thresholds.items()},
        "shown": [EXAMPLES, EXAMPLE_PIXELS],
    }
    found = project.json_step(
        "examples",
        inputs,
        lambda: list(_examples(programs, row)),
        code=("ebbtide.search", "ebbtide.data"),
        libraries=("numpy", "pillow"),
    )
    for place in found:
        yield early.LeavingExamples.model_validate(place)


def _examples(programs: Programs, row: Row) -> Iterable[dict[str, Any]]:
    from ebbtide.search import leaving

    select, names = programs.universal.dataset.select, programs.universal.facts["classes"]
    one = programs.of(row.width)
    records = one.records().first(one.candidates.selected)
    left = leaving(records, row.row(records.positions))
    for place, name in enumerate([*(f"exit{position}" for position in records.positions), "head"]):
        here = np.flatnonzero(left == place)
        if not len(here):
            continue
        yield {
            "name": name,
            "share": len(here) / len(left),
            "examples": [
                {
                    "image": _small_png(np.asarray(select.pixels[sample])),
                    "label": names[int(records.labels[sample])],
                    "answer": names[int(records.predictions[place, sample])],
                }
                for sample in here[:EXAMPLES]
            ],
        }


def _small_png(pixels: NDArray[Any]) -> str:
    """An image (height, width, 1 or 3) as the text of a PNG with at most `EXAMPLE_PIXELS` on its longer side."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((EXAMPLE_PIXELS, EXAMPLE_PIXELS))
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _swapped(swapped: Swapped) -> early.SwappedHalves:
    from ebbtide.report import early
    from ebbtide.report.facts import Scored

    programs, table, evaluation = swapped.programs, swapped.table, swapped.evaluation
    selected = programs.universal.samples("select")
    return early.SwappedHalves(
        dense_promised=evaluation.dense_select,
        dense_measured=evaluation.dense_value,
        dense_macs=sum(method["macs"] for method in programs.dense.methods),
        rows=tuple(
            early.SwappedRow(
                id=row.id,
                tier=table.tiers.index(row.id) if row.id in table.tiers else None,
                promised=Scored(accuracy=row.value, n=selected),
                measured=Scored(accuracy=evaluation.configurations[row.id]["value"], n=evaluation.n),
                mean_macs=evaluation.configurations[row.id]["mean_macs"],
            )
            for row in table.rows
        ),
    )


def _mapped(mapping: DeviceMapping, widest: str) -> early.DeviceMapped:
    from ebbtide.report import early

    why_not = mapping.why_not[widest]
    return early.DeviceMapped(
        profile=mapping.profile,
        rows=tuple(_mapped_row(name, found) for name, found in mapping.rows.items()),
        possible=why_not["feasible"],
        rejects=tuple(why_not["sentences"][:REJECTS_TOLD]),
    )


def _mapped_row(name: str, found: Mapping[str, Any]) -> early.MappedRow:
    from ebbtide.report import early

    drawn = found["drawing"]
    if drawn is None:
        return early.MappedRow(configuration=name, binding=found["binding"])
    return early.MappedRow(
        configuration=name,
        segments=tuple(early.MappedSegment.model_validate(one) for one in drawn["segments"]),
        transfers=tuple(
            early.MappedTransfer(
                start=one["from"], end=one["to"], before=one["before"], size_bytes=one["bytes"], us=one["us"]
            )
            for one in drawn["transfers"]
        ),
        mean_us=drawn["mean_us"],
        worst_us=drawn["worst_us"],
        first_us=found["first_us"],
        served=found["server_from"] is not None,
    )


def exits_of(programs: Programs) -> Iterable[record.Exit]:
    """Every exit that was trained, alone."""
    from ebbtide.report import record

    for one in programs.widths:
        candidates = one.candidates
        for key in candidates.keys:
            position, kind = key
            used = key in candidates.chosen
            # An exit that ships is named as the program's method; the others by their place in the model.
            name = f"exit{candidates.chosen.index(key)}" if used else f"candidate{position}"
            yield record.Exit(
                name=place_name(programs, one.width, name),
                position=position,
                type=kind,
                temperature=candidates.temperatures[key],
                select=record.Scored(accuracy=candidates.alone[key], n=candidates.selected),
                macs=candidates.macs[key],
            )


def cut_off_models(programs: Programs) -> Iterable[record.Control]:
    """Each width's backbone cut off at each position, at its most accurate exit: everybody leaves there."""
    from ebbtide.report import record

    for one in programs.widths:
        candidates = one.candidates
        costs = reached_costs(candidates)
        of = "" if candidates.backbone.is_widest else f"{one.width} "
        for position in sorted({position for position, _ in candidates.keys}):
            here = [key for key in candidates.keys if key[0] == position]
            best = max(here, key=lambda key: (candidates.alone[key], -costs[key]))
            yield record.Control(
                name=f"{of}cut off at position {position}",
                accuracy=candidates.alone[best],
                mean_macs=costs[best],
                split="select",
            )
