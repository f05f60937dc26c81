"""The pictures of a simulation: what each policy traded, and one run over time.

A policy keeps its colour in every picture: `css` of its name in ``simulation.css.j2``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ebbtide.report.svg import Drawing, Scale, round_step, tick_text
from ebbtide.report.wording import percent
from ebbtide.simulation.comparison import LABEL, OURS, Comparison, Line, PolicyRow

WIDTH, HEIGHT = 480.0, 244.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 18.0, 30.0, 46.0
WIDE, LOW = 1040.0, 220.0
STRIP = 34.0


def throttled_against_quality(record: Comparison, *, style: str = "") -> str:
    """Mean quality over the share of time in which the system held inference back; up and to the left is better."""
    rows, moved = record.policies, record.frontier
    said = ". ".join(
        f"{row.title}: quality {percent(row.quality.mean)}, throttled {percent(row.throttled.mean)}" for row in rows
    )
    drawing = Drawing(
        "plot-frontier", WIDTH, HEIGHT, f"Quality against throttling, {LABEL}", f"{said}. {LABEL.capitalize()}."
    )
    shown = [(row.throttled.mean, row.quality.mean) for row in rows] + [(one.throttled, one.quality) for one in moved]
    x, y = _broken(shown), _around([quality for _, quality in shown])
    _grid(drawing, x, y, WIDTH, HEIGHT)
    drawing.text(8, 15, "mean quality, %", css="label")
    drawing.text(WIDTH - RIGHT, HEIGHT - 7, "time throttled by the system, %", css="label", anchor="end")
    if len(moved) > 1:
        drawing.polyline([(x(min(one.throttled, x.high)), y(one.quality)) for one in moved], css="way own")
    for one in moved:
        if one.shift_mh and x.holds(one.throttled):
            tip = (
                f"entries moved by {one.shift_mh / 1000:+g}: quality {percent(one.quality)}, throttled "
                f"{percent(one.throttled)}, {one.changes_per_h:.1f} changes an hour"
            )
            drawing.add("circle", css="mark ours moved", tip=tip, cx=x(one.throttled), cy=y(one.quality), r=3.4)
    for row in sorted(rows, key=lambda one: one.name == OURS):
        _policy_mark(drawing, x, y, row)
    return drawing.render(style=style)


def _policy_mark(drawing: Drawing, x: Scale, y: Scale, row: PolicyRow) -> None:
    outside = not x.holds(row.throttled.mean)
    at, height = x(min(row.throttled.mean, x.high)), y(row.quality.mean)
    tip = (
        f"{row.title}: quality {percent(row.quality.mean)}, throttled {percent(row.throttled.mean)}, "
        f"{row.changes_per_h.mean:.1f} changes an hour"
    )
    drawing.add("circle", css=f"mark {row.name}", tip=tip, cx=at, cy=height, r=7 if row.name == OURS else 5.5)
    words = f"{row.name} ({percent(row.throttled.mean, 0)} →)" if outside else row.name
    # The product's label goes to the other side, since the best of the others are near.
    right = at > WIDTH - RIGHT - 80 or row.name == OURS
    css = "strong" if row.name == OURS else "tick"
    drawing.text(at - 11 if right else at + 11, height + 4.5, words, css=css, anchor="end" if right else "start")


def _broken(points: Sequence[tuple[float, float]]) -> Scale:
    """The axis of throttling: one policy far out, as the first tier for ever is, does not squeeze the others."""
    shares = sorted(share for share, _ in points)
    high = shares[-1]
    if len(shares) > 2 and high > 2.5 * shares[-2] > 0:
        high = 1.25 * shares[-2]
    reach = max(high - shares[0], 0.005)
    return Scale(max(shares[0] - 0.25 * reach, 0.0), shares[0] + 1.2 * reach, LEFT, WIDTH - RIGHT)


def _around(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    reach = max(high - low, 0.01)
    return Scale(low - 0.12 * reach, high + 0.12 * reach, HEIGHT - BOTTOM, TOP)


def _grid(drawing: Drawing, x: Scale, y: Scale, width: float, height: float, *, factor: float = 100.0) -> None:
    for value in y.ticks(5):
        drawing.line(LEFT, y(value), width - RIGHT, y(value), css="grid")
        drawing.text(LEFT - 8, y(value) + 4.5, tick_text(round(factor * value, 4)), css="tick", anchor="end")
    for value in x.ticks(6):
        drawing.line(x(value), height - BOTTOM, x(value), height - BOTTOM + 4, css="axis")
        drawing.text(x(value), height - BOTTOM + 18, tick_text(round(factor * value, 4)), css="tick", anchor="middle")
    drawing.line(LEFT, height - BOTTOM, width - RIGHT, height - BOTTOM, css="axis")


def skin_over_time(record: Comparison, *, wide: bool = True, style: str = "") -> str:
    """The skin of every policy's phone in one run, with the thresholds of the system."""
    values = [one for line in record.course.lines for one in line.skin_c]
    low, high = min(values), max(values)
    limits = [(name, limit) for name, limit in record.thresholds if low < limit < high + 0.6]
    return _over_time(
        record,
        "skin" if wide else "skin-small",
        "Skin temperature over time",
        "skin, °C",
        {line.name: line.skin_c for line in record.course.lines},
        limits,
        wide=wide,
        style=style,
    )


def headroom_over_time(record: Comparison) -> str | None:
    """Thermal headroom of every policy's phone; None where the system has none."""
    if record.severe_c is None:
        return None
    return _over_time(
        record,
        "headroom",
        "Thermal headroom over time",
        "headroom (1 = SEVERE)",
        {line.name: line.headroom for line in record.course.lines},
        [],
    )


def battery_over_time(record: Comparison) -> str:
    """The battery of every policy's phone."""
    return _over_time(
        record,
        "battery",
        "Battery over time",
        "battery, %",
        {line.name: line.battery_percent for line in record.course.lines},
        [],
    )


def quality_over_time(record: Comparison) -> str:
    """Mean accuracy of the tiers used so far, for every policy."""
    return _over_time(
        record,
        "quality",
        "Quality over time",
        "mean accuracy so far, %",
        {line.name: tuple(100 * one for one in line.quality) for line in record.course.lines},
        [],
    )


def _over_time(
    record: Comparison,
    name: str,
    title: str,
    axis: str,
    values: dict[str, tuple[float, ...]],
    limits: Sequence[tuple[str, float]],
    *,
    wide: bool = True,
    style: str = "",
) -> str:
    minutes = record.course.t_min
    width, height = (WIDE, LOW) if wide else (WIDTH, HEIGHT)
    every = [one for line in values.values() for one in line] + [limit for _, limit in limits]
    low, high = min(every), max(every)
    reach = max(high - low, 0.02 * max(abs(high), 1e-3))
    said = ". ".join(
        f"{key}: {min(line):.4g} to {max(line):.4g}, at the end {line[-1]:.4g}" for key, line in values.items()
    )
    drawing = Drawing(f"plot-{name}", width, height, f"{title}, {LABEL}", f"{said}. {LABEL.capitalize()}.")
    x = Scale(0.0, max(minutes[-1], 0.5), LEFT, width - RIGHT)
    y = Scale(low - 0.06 * reach, high + 0.1 * reach, height - BOTTOM, TOP)
    _grid(drawing, x, y, width, height, factor=1.0)
    drawing.text(8, 15, axis, css="label")
    drawing.text(width - RIGHT, height - 7, "minutes", css="label", anchor="end")
    for _, limit in limits:
        drawing.line(LEFT, y(limit), width - RIGHT, y(limit), css="limit")
    for key, line in sorted(values.items(), key=lambda one: one[0] == OURS):
        drawing.polyline(zip(map(x, minutes), map(y, line), strict=True), css=f"course {key}")
    # Where every run begins, the phone is cool: the top left corner is free.
    for words, limit in limits:
        drawing.text(LEFT + 6, y(limit) - 4, f"{words} {limit:g}", css="note")
    return drawing.render(style=style)


def tiers_over_time(record: Comparison, *, style: str = "", names: Sequence[str] = ()) -> str:
    """A strip for each policy: the tier in force, the darker the better."""
    lines = [line for line in record.course.lines if not names or line.name in names]
    minutes = record.course.t_min
    height = STRIP * len(lines) + 40
    drawing = Drawing(
        "plot-tiers",
        WIDE,
        height,
        f"Tiers over time, {LABEL}",
        ". ".join(f"{line.name}: {_changes(line)} changes" for line in lines) + f". {LABEL.capitalize()}.",
    )
    x = Scale(0.0, max(minutes[-1], 0.5), 92, WIDE - RIGHT)
    last = len(record.tiers) - 1
    for row, line in enumerate(lines):
        top = STRIP * row + 4
        drawing.text(0, top + 17, line.name, css="strong" if line.name == OURS else "tick")
        for begin, end, tier in _stretches(line, minutes):
            tip = f"{line.name}: tier {tier} from minute {begin:.1f} to {end:.1f}"
            css = f"bar s{round(4 * tier / last) if last else 0}"
            drawing.add(
                "rect", css=css, tip=tip, x=x(begin), y=top, width=max(x(end) - x(begin), 0.4), height=STRIP - 9
            )
    bottom = STRIP * len(lines) + 4
    step = round_step(max(minutes[-1], 0.5) / 8)
    value = 0.0
    while value <= minutes[-1] + 1e-9:
        drawing.text(x(value), bottom + 14, tick_text(value), css="tick", anchor="middle")
        value += step
    drawing.text(WIDE - RIGHT, bottom + 32, "minutes", css="label", anchor="end")
    return drawing.render(style=style)


def _changes(line: Line) -> int:
    return sum(a != b for a, b in zip(line.tier, line.tier[1:], strict=False))


def _stretches(line: Line, minutes: Sequence[float]) -> list[tuple[float, float, int]]:
    """Begin, end and tier of each stretch of time in which the tier stayed."""
    found: list[tuple[float, float, int]] = []
    for at, tier in zip(minutes, line.tier, strict=True):
        if found and found[-1][2] == tier:
            found[-1] = (found[-1][0], at, tier)
        else:
            if found:
                found[-1] = (found[-1][0], at, found[-1][2])
            found.append((at, at, tier))
    return found
