"""The pictures of nested widths: accuracy against true MACs, and the channels that each level keeps."""

from __future__ import annotations

from ebbtide.report.nested import ControlWidths, Level, Widths
from ebbtide.report.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MACS,
    WIDTH,
    Mark,
    accuracy_scale,
    axes,
    cost_scale,
    tier_mark,
)
from ebbtide.report.record import BuildRecord
from ebbtide.report.svg import Drawing, Scale
from ebbtide.report.wording import METRIC_NAMES, amount, percent

ROW = 22.0
NAME_WIDTH, COUNT_WIDTH = 190.0, 150.0
NAME_LETTERS = 28
SHADES = 5


def accuracy_against_width(record: BuildRecord, widths: Widths) -> str:
    """Every level over its true MACs: measured, promised, left untuned; and the controls, tuned or not."""
    marks = [_mark(level) for level in widths.levels]
    untuned = [(float(one.macs), one.untuned.accuracy) for one in widths.levels if one.untuned is not None]
    lines = [("untuned", "these widths, cut out and not tuned", untuned)]
    for control in widths.controls:
        for tuned in (False, True):
            points = control_points(control, tuned=tuned)
            if points:
                words = "tuned" if tuned else "not tuned"
                lines.append((f"{control.name}{'' if tuned else ' untuned'}", f"{control.name}, {words}", points))
    metric = METRIC_NAMES[record.metric]
    drawing = Drawing(
        "plot-widths",
        WIDTH,
        HEIGHT,
        f"{metric.capitalize()} of every width against its multiply-accumulates",
        ". ".join(mark.tip for mark in marks) + ".",
    )
    others = [point for _, _, points in lines for point in points]
    x = cost_scale([mark.cost for mark in marks], [cost for cost, _ in others], marks)
    y = accuracy_scale(record, marks, [value for _, value in others])
    axes(drawing, x, y, MACS, metric)
    hidden = 0
    for css, words, points in lines:
        shown = [(cost, value) for cost, value in points if x.holds(cost) and y.holds(value)]
        hidden += len(points) - len(shown)
        if len(shown) > 1:
            drawing.polyline([(x(cost), y(value)) for cost, value in shown], css=f"way {css}")
        for cost, value in shown:
            tip = f"{words}: {percent(value)}, {amount(cost)} MACs"
            drawing.add("circle", css=f"way-dot {css}", tip=tip, cx=x(cost), cy=y(value), r=3.2)
    if hidden:
        drawing.text(LEFT + 6, HEIGHT - BOTTOM - 7, f"{hidden} below this picture", css="note")
    drawing.polyline([(x(mark.cost), y(mark.accuracy)) for mark in marks], css="way own")
    for mark in reversed(marks):
        tier_mark(drawing, x, y, mark, interval=record.metric == "accuracy")
    return drawing.render()


def control_points(control: ControlWidths, *, tuned: bool) -> list[tuple[float, float]]:
    """(MACs, metric) of a control's levels, before or after tuning; empty where it was not tuned."""
    values = [(float(one.macs), one.tuned if tuned else one.untuned) for one in control.levels]
    return [(macs, value) for macs, value in values if value is not None]


def _mark(level: Level) -> Mark:
    measured = f"measured {percent(level.test.accuracy)}" if level.test else "not measured"
    tip = f"{level.name}: promised {percent(level.select.accuracy)}, {measured}, {amount(level.macs)} MACs"
    return Mark(level.name.removeprefix("w"), float(level.macs), level.test, level.select.accuracy, tip)


def kept_channels(widths: Widths) -> str:
    """A bar for each group; its segments are what the levels keep, the narrowest first."""
    names = [level.name for level in widths.levels]
    said = ". ".join(
        f"{group.name}: {', '.join(f'{n} {k}' for n, k in zip(names, group.kept, strict=True))} of {group.size}"
        for group in widths.groups
    )
    height = ROW * len(widths.groups) + 8
    drawing = Drawing("plot-kept", 640, height, "Channels that every width keeps", said)
    scale = Scale(0.0, 1.0, NAME_WIDTH, 640 - COUNT_WIDTH)
    for row, group in enumerate(widths.groups):
        top = ROW * row + 4
        drawing.text(0, top + 13, _short(group.name), css="tick")
        drawing.add(
            "rect", css="whole-group", x=scale(0), y=top, width=scale(1) - scale(0), height=ROW - 6,
            tip=f"{group.name}: {group.size} in all",
        )  # fmt: skip
        before = 0
        for index, (name, kept) in enumerate(zip(names, group.kept, strict=True)):
            if kept > before:
                tip = f"{name} keeps {kept} of {group.size} in {group.name}"
                begin, end = scale(before / group.size), scale(kept / group.size)
                drawing.add(
                    "rect", css=f"bar s{shade(index, len(names))}", tip=tip, x=begin, y=top,
                    width=max(end - begin - 1.0, 0.5), height=ROW - 6,
                )  # fmt: skip
            before = max(before, kept)
        counts = " / ".join(str(kept) for kept in group.kept)
        words = counts if group.kept[-1] == group.size else f"{counts} of {group.size}"
        drawing.text(
            640 - COUNT_WIDTH + 8,
            top + 13,
            words if len(words) <= 24 else f"{group.kept[0]} to {group.kept[-1]}",
            css="tick",
        )
    return drawing.render()


def shade(index: int, count: int) -> int:
    """Which of the five shades a level has: the narrowest the strongest, the widest the weakest."""
    return round(index * (SHADES - 1) / max(1, count - 1))


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else "…" + name[-(NAME_LETTERS - 1) :]
