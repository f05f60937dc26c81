"""The first picture of a model for a class set: accuracy on its classes against latency, beside what it came from."""

from __future__ import annotations

from ebbtide.report.personal import Rival, Sparsity, Tried
from ebbtide.report.plots import (
    HEIGHT,
    MACS,
    TIME,
    WIDTH,
    Cost,
    Mark,
    accuracy_scale,
    axes,
    cost_scale,
    tier_mark,
    whiskers,
)
from ebbtide.report.record import BuildRecord
from ebbtide.report.sparsity_words import RIVALS, budget_name
from ebbtide.report.svg import Drawing, Scale
from ebbtide.report.wording import METRIC_NAMES, amount, latency, percent

APART = 14.0
"""So many pixels two labels at one cost need between them."""


def accuracy_against_cost(record: BuildRecord, found: Sparsity, *, style: str = "") -> str:
    """Every trial and both whole models over the measured time; over multiply-accumulates where one was not timed."""
    cost = _cost_of(found)
    rivals = [(one, _rival_mark(one, cost)) for one in (found.universal, found.tuned) if one is not None]
    tried = [_tried_mark(found, index, cost) for index in range(len(found.trials))]
    marks = [*(mark for _, mark in rivals), *tried]
    metric = METRIC_NAMES[record.metric]
    drawing = Drawing(
        "plot-sparsity",
        WIDTH,
        HEIGHT,
        f"{metric.capitalize()} on the class set against {cost.axis}",
        ". ".join(mark.tip for mark in marks) + ".",
    )
    x = cost_scale([mark.cost for mark in marks], [], marks)
    y = accuracy_scale(record, marks, [])
    axes(drawing, x, y, cost, metric)
    interval = record.metric == "accuracy"
    _draw_rivals(drawing, x, y, [mark for _, mark in rivals], interval=interval)
    order = sorted(range(len(tried)), key=lambda index: tried[index].cost)
    drawing.polyline([(x(tried[index].cost), y(tried[index].accuracy)) for index in order], css="way own")
    for index in order:
        if index != found.chosen:
            mark = tried[index]
            drawing.add("circle", css="way-dot own", tip=mark.tip, cx=x(mark.cost), cy=y(mark.accuracy), r=5.0)
    tier_mark(drawing, x, y, tried[found.chosen], interval=interval)
    return drawing.render(style=style)


def _cost_of(found: Sparsity) -> Cost:
    timed = [found.universal.latency, *(one.latency for one in found.trials)]
    if any(one is None for one in timed):
        return MACS
    # What is masked is not spared: the axis says so.
    return TIME if found.pattern == "channels" else Cost("time", f"{TIME.axis}, dense", TIME.units, TIME.show)


def _rival_mark(one: Rival, cost: Cost) -> Mark:
    timed = one.latency if cost.name == "time" else None
    at = latency(timed) if timed else f"{amount(one.macs)} MACs"
    words = f"{RIVALS[one.name]}: select {percent(one.select.accuracy)}, test {percent(one.test.accuracy)}, {at}"
    return Mark(
        RIVALS[one.name],
        timed.p50_us if timed else float(one.macs),
        one.test,
        one.select.accuracy,
        words,
        timed.p90_us if timed else None,
    )


def _tried_mark(found: Sparsity, index: int, cost: Cost) -> Mark:
    one: Tried = found.trials[index]
    timed = one.latency if cost.name == "time" else None
    at = latency(timed) if timed else f"{amount(one.macs)} MACs"
    words = f"{budget_name(found, one)} left: select {percent(one.select.accuracy)}, test {percent(one.test.accuracy)}"
    at_cost = timed.p50_us if timed else float(one.macs)
    slow = timed.p90_us if timed else None
    return Mark(str(index + 1), at_cost, one.test, one.select.accuracy, f"{words}, {at}", slow)


def _draw_rivals(drawing: Drawing, x: Scale, y: Scale, marks: list[Mark], *, interval: bool) -> None:
    """Diamonds with their names to the left, apart from each other."""
    taken: list[float] = []
    for mark in sorted(marks, key=lambda one: -one.accuracy):
        whiskers(drawing, x, y, mark, interval=interval, kind="dense")
        at, height = x(mark.cost), y(mark.accuracy)
        drawing.diamond(at, height, 7.5, css="dense", tip=mark.tip)
        label = max([height + 4.4, *(used + APART for used in taken)])
        taken.append(label)
        drawing.text(at - 12, label, mark.label, css="dense-label", anchor="end")
