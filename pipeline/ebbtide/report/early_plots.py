"""The pictures of early exits: fronts of all ways to choose thresholds, and a mapping to processors."""

from __future__ import annotations

from ebbtide.report.early import ChosenExits, DeviceMapped, MappedRow, MappedSegment
from ebbtide.report.plots import BOTTOM, HEIGHT, LEFT, MACS, RIGHT, TOP, WIDTH, Mark, accuracy_scale, axes, cost_scale
from ebbtide.report.record import BuildRecord
from ebbtide.report.svg import Drawing
from ebbtide.report.wording import METRIC_NAMES, amount, percent, size, time

WAY_STYLES = ("own", "uniform", "magnitude", "random")
"""Styles of the ways in their order; those of other controls in the report."""
REACH = 0.12
"""A front goes down to chance; what is of interest is what loses little."""
LANE = 64.0
LANE_NAME = 120.0
MAPPING_WIDTH = 760.0


def front_of_exits(record: BuildRecord, found: ChosenExits) -> str:
    """Accuracy over mean MACs on select: this search, the simpler ways, and the model cut off at each position.

    What loses more than `REACH` is not drawn.
    """
    metric = METRIC_NAMES[record.metric]
    prefix = "" if found is _first(record) else f"{found.width} "
    cut_off = [
        (one.name.removeprefix(prefix), one.mean_macs, one.accuracy)
        for one in record.controls
        if one.name.startswith(f"{prefix}cut off")
    ]
    said = ", ".join(f"{way.name}: {len(way.points)} configurations" for way in found.ways)
    drawing = Drawing(
        f"plot-exits-{found.width}",
        WIDTH,
        HEIGHT,
        f"{metric.capitalize()} of width {found.width} with exits against its mean multiply-accumulates",
        f"{said}. Without exits {percent(found.whole)} at {amount(found.macs)} MACs.",
    )
    costs = [point.mean_macs for way in found.ways for point in way.points]
    near = [p for p in (found.ways[0].points if found.ways else ()) if p.accuracy > found.whole - REACH]
    marks = [Mark("", point.mean_macs, None, point.accuracy, "") for point in near]
    x = cost_scale([found.macs], [*costs, *(one[1] for one in cut_off)], [])
    y = accuracy_scale(record, [*marks, Mark("dense", found.macs, None, found.whole, "")], [])
    axes(drawing, x, y, MACS, metric)
    drawing.line(LEFT, y(found.whole), WIDTH - RIGHT, y(found.whole), css="dense-line")
    for way, css in reversed(list(zip(found.ways, WAY_STYLES, strict=False))):
        shown = [one for one in way.points if x.holds(one.mean_macs) and y.holds(one.accuracy)]
        if len(shown) > 1:
            drawing.polyline([(x(one.mean_macs), y(one.accuracy)) for one in shown], css=f"way {css}")
        for one in shown:
            tip = f"{way.name}: {percent(one.accuracy)}, {amount(one.mean_macs)} MACs"
            drawing.add("circle", css=f"way-dot {css}", tip=tip, cx=x(one.mean_macs), cy=y(one.accuracy), r=2.6)
    for name, macs, accuracy in cut_off:
        if x.holds(macs) and y.holds(accuracy):
            tip = f"{name}: {percent(accuracy)}, {amount(macs)} MACs"
            drawing.cross(x(macs), y(accuracy), 4, css="control", tip=tip)
    drawing.diamond(x(found.macs), min(max(y(found.whole), TOP), HEIGHT - BOTTOM), 6.5, css="dense", tip="no exits")
    return drawing.render()


def _first(record: BuildRecord) -> ChosenExits | None:
    return record.early.widths[0] if record.early else None


def mapping_picture(device: DeviceMapped, row: MappedRow) -> str:
    """One lane a processor, from the first part to the last; a bar is a segment, a line between lanes a transfer.

    Bars share the width by their number of parts, since times of processors differ by orders of magnitude.
    """
    lanes = list(dict.fromkeys(segment.processor for segment in row.segments))
    parts = sum(len(segment.stages) for segment in row.segments)
    said = "; ".join(
        f"{', '.join(segment.stages)} on {segment.processor}, {time(segment.us)}" for segment in row.segments
    )
    name = f"plot-mapping-{device.profile}-{row.configuration}"
    drawing = Drawing(
        name, MAPPING_WIDTH, LANE * len(lanes) + 6, f"Where {row.configuration} runs on {device.profile}", said
    )
    for index, processor in enumerate(lanes):
        drawing.text(0, LANE * index + 30, processor, css="label")
        drawing.line(LANE_NAME, LANE * (index + 1), MAPPING_WIDTH, LANE * (index + 1), css="grid")
    step, reached, before = (MAPPING_WIDTH - LANE_NAME) / parts, 0, None
    for segment in row.segments:
        lane = lanes.index(segment.processor)
        begin, top = LANE_NAME + step * reached, LANE * lane + 8
        if before is not None:
            moved = next((one for one in row.transfers if one.before == segment.stages[0]), None)
            drawing.line(begin, LANE * before + 26, begin, top + 18, css="promised")
            if moved is not None:
                words = f"{size(moved.size_bytes)}, {time(moved.us)}"
                drawing.text(begin - 6, top + 16, words, css="note", anchor="end")
        _bar(drawing, segment, begin, top, step * len(segment.stages))
        reached, before = reached + len(segment.stages), lane
    return drawing.render()


def _bar(drawing: Drawing, segment: MappedSegment, begin: float, top: float, width: float) -> None:
    shade = "head" if segment.kind == "server" else "s1"
    limit = "" if segment.memory_limit_bytes is None else f" of {size(segment.memory_limit_bytes)}"
    tip = f"{', '.join(segment.stages)}: {amount(segment.macs)} MACs, {size(segment.memory_bytes)}{limit}"
    drawing.add("rect", css=f"bar {shade}", tip=tip, x=begin, y=top, width=max(width - 2, 1), height=36.0)
    words = f"{segment.stages[0]} to {segment.stages[-1]}" if len(segment.stages) > 1 else segment.stages[0]
    for label in (f"{words}, {time(segment.us)}", time(segment.us)):
        if width > 7.4 * len(label) + 12:
            drawing.text(begin + 8, top + 22, label, css=f"bar-label {shade}")
            break
    if segment.exits:
        shares = [
            f"exit{one.position} {percent(one.share, 0)}" if one.share is not None else f"exit{one.position}"
            for one in segment.exits
        ]
        label = f"leave: {', '.join(shares)}"
        drawing.text(begin + 2, top + 51, label if width > 6.6 * len(label) else shares[0], css="tick")
