"""The pictures of a report.

Every plot is a function of the record alone and returns SVG text. Marks: a numbered disc is a tier as
measured on test, with its 95 % interval; the bar across it is what select promised; the diamond is
the dense model; small dots are the other configurations that were scored; crosses are controls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ebbtide.report.record import BuildRecord, Configuration, Latency, Reliability, Scored
from ebbtide.report.svg import Drawing, Scale, round_step, tick_text
from ebbtide.report.wording import METRIC_NAMES, amount, configuration_name, latency, percent, time

WIDTH, HEIGHT = 480.0, 350.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 18.0, 34.0, 48.0
LOG_FROM = 20.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""

POINTS_DRAWN = 600
"""More dots than this hide each other and make the page heavy."""


@dataclass(frozen=True)
class Mark:
    """One thing in an accuracy plot."""

    label: str
    cost: float
    measured: Scored | None
    promised: float | None
    tip: str
    slow_cost: float | None = None
    """p90 where the cost is a latency."""

    @property
    def accuracy(self) -> float:
        """The measured accuracy, or the promised one before test is read."""
        return self.measured.accuracy if self.measured else (self.promised or 0.0)


@dataclass(frozen=True)
class Cost:
    """What an accuracy plot has on its x axis."""

    name: str
    axis: str
    units: tuple[tuple[float, str], ...]
    show: Callable[[float | None], str]


MACS = Cost(
    "macs",
    "mean multiply-accumulates per prediction",
    ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1, "")),
    amount,
)
TIME = Cost("time", "median time of a prediction", ((1e6, "s"), (1e3, "ms"), (1, "µs")), time)


def accuracy_against_macs(record: BuildRecord, *, style: str = "", legend: bool = False) -> str:
    """Accuracy over mean MACs: tiers, dense model, scored configurations, controls.

    `style` and `legend` make a picture that can stand without the page around it.
    """
    tiers = [_mark(record, one, one.mean_macs) for one in record.tiers]
    dense_scored = record.dense.test or record.dense.select
    dense = _dense_mark(record, dense_scored, record.dense.macs)
    scored = [(one.mean_macs, one.accuracy) for one in record.scored]
    controls = [(one.name, one.mean_macs, one.accuracy) for one in record.controls]
    drawing = _accuracy_plot(record, MACS, tiers, dense, scored, controls)
    if legend:
        _legend(drawing)
    return drawing.render(style=style)


def accuracy_against_time(record: BuildRecord) -> str | None:
    """Accuracy over the measured median time, or None where no tier was timed."""
    tiers = [_mark(record, one, one.latency.p50_us, one.latency) for one in record.tiers if one.latency is not None]
    if not tiers:
        return None
    dense = None
    if record.dense.latency is not None:
        found = record.dense.latency
        dense = _dense_mark(record, record.dense.test or record.dense.select, found.p50_us, found)
    scored = [(one.latency_us, one.accuracy) for one in record.scored if one.latency_us is not None]
    controls = [(one.name, one.latency_us, one.accuracy) for one in record.controls if one.latency_us is not None]
    return _accuracy_plot(record, TIME, tiers, dense, scored, controls).render()


def _mark(record: BuildRecord, one: Configuration, cost: float, timed: Latency | None = None) -> Mark:
    name = configuration_name(one)
    measured = f"measured {percent(one.test.accuracy)}" if one.test else "not measured"
    at = latency(timed) if timed else f"{amount(cost)} MACs"
    tip = f"{name}: promised {percent(one.select.accuracy)}, {measured}, {at}"
    label = one.id if one.tier is None else str(one.tier)
    return Mark(label, cost, one.test, one.select.accuracy, tip, timed.p90_us if timed else None)


def _dense_mark(record: BuildRecord, scored: Scored | None, cost: float, timed: Latency | None = None) -> Mark | None:
    if scored is None:
        return None
    at = latency(timed) if timed else f"{amount(cost)} MACs"
    promised = record.dense.select.accuracy if record.dense.select else None
    tip = f"dense model: {percent(scored.accuracy)}, {at}"
    return Mark("dense", cost, scored, promised, tip, timed.p90_us if timed else None)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) points those that no other point beats in both, by growing cost."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda one: (one[0], -one[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `POINTS_DRAWN` of the points: the whole front, and the others evenly by cost."""
    if len(points) <= POINTS_DRAWN:
        return list(points)
    front = pareto_front(points)
    kept = set(front)
    rest = sorted(set(points) - kept)
    return front + rest[:: -(-len(rest) // max(1, POINTS_DRAWN - len(front)))]


def _legend(drawing: Drawing) -> None:
    height = drawing.height + 12
    drawing.height += 24
    drawing.add("circle", css="tier", cx=17, cy=height, r=7)
    drawing.text(30, height + 4.5, "tier, measured on test", css="tick")
    for side in (-1, 1):
        drawing.line(202 + side * 5, height, 202 + side * 12, height, css="promised")
    drawing.text(222, height + 4.5, "promised on select", css="tick")
    drawing.diamond(373, height, 7, css="dense")
    drawing.text(386, height + 4.5, "dense model", css="tick")


def _accuracy_plot(
    record: BuildRecord,
    cost: Cost,
    tiers: list[Mark],
    dense: Mark | None,
    scored: list[tuple[float, float]],
    controls: list[tuple[str, float, float]],
) -> Drawing:
    metric = METRIC_NAMES[record.metric]
    marks = [*tiers, *([dense] if dense else [])]
    drawing = Drawing(
        f"plot-{cost.name}",
        WIDTH,
        HEIGHT,
        f"{metric.capitalize()} against {cost.axis}",
        ". ".join(mark.tip for mark in marks) + ".",
    )
    x = cost_scale([mark.cost for mark in marks], [one[0] for one in scored] + [one[1] for one in controls], marks)
    y = accuracy_scale(record, marks, [one[2] for one in controls])
    axes(drawing, x, y, cost, metric)
    if dense:
        drawing.line(x(dense.cost), TOP, x(dense.cost), HEIGHT - BOTTOM, css="dense-line")
        drawing.line(LEFT, y(dense.accuracy), WIDTH - RIGHT, y(dense.accuracy), css="dense-line")
    shown = [one for one in scored if x.holds(one[0]) and y.holds(one[1])]
    stairs: list[tuple[float, float]] = []
    for at, accuracy in pareto_front(shown):
        if stairs:
            stairs.append((x(at), stairs[-1][1]))
        stairs.append((x(at), y(accuracy)))
    if len(stairs) > 1:
        drawing.polyline(stairs, css="front")
    for at, accuracy in thinned(shown):
        tip = f"scored on select: {percent(accuracy)}, {cost.show(at)}"
        drawing.add("circle", css="scored", tip=tip, cx=x(at), cy=y(accuracy), r=2.4)
    for name, at, accuracy in controls:
        if x.holds(at) and y.holds(accuracy):
            drawing.cross(x(at), y(accuracy), 4, css="control", tip=f"{name}: {percent(accuracy)}, {cost.show(at)}")
    hidden = len(scored) - len(shown)
    if hidden:
        drawing.text(LEFT + 6, HEIGHT - BOTTOM - 7, f"{hidden} scored below this picture", css="note")
    if dense:
        _dense(drawing, x, y, dense, interval=record.metric == "accuracy")
    for mark in reversed(tiers):
        tier_mark(drawing, x, y, mark, interval=record.metric == "accuracy")
    return drawing


def cost_scale(main: list[float], rest: list[float], marks: list[Mark]) -> Scale:
    """The x axis: every cost fits, on a logarithmic axis where they differ much."""
    costs = [one for one in main + rest if one > 0]
    slow = [mark.slow_cost for mark in marks if mark.slow_cost]
    high = max([*costs, *slow], default=1.0)
    low = min(costs, default=1.0)
    if high / low > LOG_FROM:
        return Scale(low / 1.3, high * 1.25, LEFT, WIDTH - RIGHT, logarithmic=True)
    return Scale(0.0, high * 1.07, LEFT, WIDTH - RIGHT)


def accuracy_scale(record: BuildRecord, marks: list[Mark], controls: list[float]) -> Scale:
    """The y axis: marks fit with their intervals, controls where they are not far below."""
    # Tiers and the dense model must fit with their intervals; far worse configurations may fall out below.
    values = [mark.accuracy for mark in marks] + [mark.promised for mark in marks if mark.promised is not None]
    if record.metric == "accuracy":
        values += [end for mark in marks if mark.measured for end in mark.measured.interval]
    low, high = min(values), max(values)
    low = min(low, high - 0.02)  # so that noise of a tenth of a point does not fill the picture
    reach = high - low
    low = min([low, *(one for one in controls if one > low - 0.6 * reach)])
    step = round_step((high - low + 0.15 * reach) / 5)
    bottom = max(0.0, (low - 0.06 * reach) // step * step)
    return Scale(bottom, min(1.0 + 0.03 * reach, high + 0.1 * reach), HEIGHT - BOTTOM, TOP)


def axes(drawing: Drawing, x: Scale, y: Scale, cost: Cost, metric: str) -> None:
    """Grid, ticks and what the axes stand for."""
    top = x.high if not x.logarithmic else (x.low * x.high) ** 0.5
    factor, unit = next((one for one in cost.units if top >= 1.5 * one[0]), cost.units[-1])
    for value in y.ticks(5):
        if value > 1 + 1e-9:
            continue
        drawing.line(LEFT, y(value), WIDTH - RIGHT, y(value), css="grid")
        drawing.text(LEFT - 8, y(value) + 4.5, tick_text(round(100 * value, 4)), css="tick", anchor="end")
    for value in x.ticks(6):
        drawing.line(x(value), HEIGHT - BOTTOM, x(value), HEIGHT - BOTTOM + 4, css="axis")
        drawing.text(x(value), HEIGHT - BOTTOM + 19, tick_text(value / factor), css="tick", anchor="middle")
    drawing.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, css="axis")
    drawing.text(8, 17, f"{metric}, %", css="label")
    words = f"{cost.axis}, {unit}" if unit else cost.axis
    drawing.text(WIDTH - RIGHT, HEIGHT - 7, words, css="label", anchor="end")


def whiskers(drawing: Drawing, x: Scale, y: Scale, mark: Mark, *, interval: bool, kind: str) -> None:
    """The interval of what was measured, and a line to p90 where the cost is a time."""
    at = x(mark.cost)
    if interval and mark.measured:
        low, high = mark.measured.interval
        drawing.line(at, y(max(low, y.low)), at, y(min(high, y.high)), css=f"{kind}-range")
    if mark.slow_cost and mark.slow_cost > mark.cost:
        end = x(min(mark.slow_cost, x.high))
        drawing.line(at, y(mark.accuracy), end, y(mark.accuracy), css=f"{kind}-slow")
        drawing.line(end, y(mark.accuracy) - 4, end, y(mark.accuracy) + 4, css=f"{kind}-slow")


def tier_mark(drawing: Drawing, x: Scale, y: Scale, mark: Mark, *, interval: bool) -> None:
    """A disc with its label, what was promised as a bar across it, and its interval."""
    whiskers(drawing, x, y, mark, interval=interval, kind="tier")
    at, height = x(mark.cost), y(mark.accuracy)
    css = "tier" if mark.measured else "tier unmeasured"
    drawing.add("circle", css=css, tip=mark.tip, cx=at, cy=height, r=9)
    if mark.promised is not None:
        for side in (-1, 1):
            drawing.line(at + side * 7, y(mark.promised), at + side * 15, y(mark.promised), css="promised")
    drawing.text(at, height + 4.4, mark.label[:3], css="tier-label", anchor="middle")


def _dense(drawing: Drawing, x: Scale, y: Scale, mark: Mark, *, interval: bool) -> None:
    whiskers(drawing, x, y, mark, interval=interval, kind="dense")
    at, height = x(mark.cost), y(mark.accuracy)
    drawing.diamond(at, height, 7.5, css="dense", tip=mark.tip)
    drawing.text(at, TOP - 7, "dense", css="dense-label", anchor="middle")


def leaving_shares(record: BuildRecord, one: Configuration) -> str | None:
    """Where the samples left: one bar for select, one for test; None where nothing was recorded."""
    rows = [("select", one.shares_select), ("test", one.shares_test)]
    rows = [row for row in rows if row[1]]
    if not rows:
        return None
    name = configuration_name(one)
    said = ". ".join(
        f"{split}: " + ", ".join(f"{part.name} {percent(part.share)}" for part in parts) for split, parts in rows
    )
    drawing = Drawing(
        f"plot-leave-{record.configurations.index(one)}", 520, 30.0 * len(rows), f"Where samples leave, {name}", said
    )
    for row, (split, parts) in enumerate(rows):
        top = 30.0 * row + 2
        drawing.text(0, top + 17, split, css="tick")
        scale = Scale(0.0, 1.0, 52, 520)
        reached = 0.0
        for index, part in enumerate(parts):
            begin, end = scale(reached), scale(min(1.0, reached + part.share))
            reached += part.share
            place = "head" if part.name == "head" else f"s{index % 5}"
            tip = f"{part.name}: {percent(part.share)} of {split}"
            drawing.add(
                "rect", css=f"bar {place}", tip=tip, x=begin, y=top, width=max(end - begin - 1.5, 0.5), height=24.0
            )
            share = f"{100 * part.share:.0f} %"
            for words in (f"{part.name} {share}", share):
                if end - begin > 8.2 * len(words) + 8:
                    drawing.text(begin + 8, top + 16.5, words, css=f"bar-label {place}")
                    break
    return drawing.render()


def reliability(record: BuildRecord, one: Reliability) -> str:
    """Accuracy over probability in bins; on the diagonal, a probability means what it says."""
    said = ", ".join(
        f"{100 * b.probability:.0f} % sure: {100 * b.accuracy:.0f} % right ({b.n})" for b in one.bins if b.n
    )
    title = f"Reliability of {one.name} on {one.split}"
    drawing = Drawing(f"plot-reliability-{record.reliability.index(one)}", 220, 220, title, said)
    x, y = Scale(0.0, 1.0, 34, 206), Scale(0.0, 1.0, 184, 10)
    for value in (0.0, 0.5, 1.0):
        drawing.line(34, y(value), 206, y(value), css="grid")
        drawing.text(28, y(value) + 4.5, f"{100 * value:.0f}", css="tick", anchor="end")
        drawing.text(x(value), 201, f"{100 * value:.0f}", css="tick", anchor="middle")
    drawing.line(x(0), y(0), x(1), y(1), css="diagonal")
    drawing.text(218, 217, "probability, %", css="label", anchor="end")
    most = max((b.n for b in one.bins), default=1) or 1
    filled = [b for b in one.bins if b.n]
    drawing.polyline([(x(b.probability), y(b.accuracy)) for b in one.before if b.n], css="way untuned")
    drawing.polyline([(x(b.probability), y(b.accuracy)) for b in filled], css="front")
    for b in filled:
        tip = f"{percent(b.probability)} sure, {percent(b.accuracy)} right, {b.n} samples"
        drawing.add(
            "circle", css="dot", tip=tip, cx=x(b.probability), cy=y(b.accuracy), r=2.5 + 5 * (b.n / most) ** 0.5
        )
    return drawing.render()
