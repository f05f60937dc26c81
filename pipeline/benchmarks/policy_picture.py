"""The picture of the policy study for the docs: what each policy traded on the judging runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from policy_bound import Prices, bound

from ebbtide.report.html import templates
from ebbtide.report.svg import Drawing, Scale, tick_text
from ebbtide.simulation import LABEL
from ebbtide.steps import write_bytes

WIDTH, HEIGHT = 640.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 20.0, 34.0, 52.0
THROTTLED, QUALITY = (0.01, 0.045), (0.742, 0.776)
"""What is shown; whoever always runs the first or the last tier lies outside."""
NAMES = {
    "games": "Google's games sample",
    "unreal": "Unreal plug-in",
    "unity": "Unity",
    "same_waits": "Ebbtide, other parameters",
    "ours": "Ebbtide as shipped",
}
LABELS = {"games": (-10, -6), "unreal": (10, -6)}
"""Where a label stands, in pixels from its mark; the others stand to the right and below."""
OURS = ("ours", "same_waits")
NAMED = {"same_waits": "ours"}
"""Whose colour a mark has, where it is not its own."""


def draw_frontier(path: Path, stored: Callable[[str], Any], prices: Sequence[Prices], changes_per_h: float) -> None:
    """Write the picture from what the stages of the study found."""
    judging = stored("judging")
    optima = [sum(column) / len(column) for column in zip(*stored("bound_judging"), strict=True)]
    x = Scale(*THROTTLED, LEFT, WIDTH - RIGHT)
    y = Scale(*QUALITY, HEIGHT - BOTTOM, TOP)
    said = ". ".join(
        f"{title}: quality {judging[name]['quality']:.4f}, throttled {100 * judging[name]['throttled']:.1f} %"
        for name, title in NAMES.items()
    )
    title = f"Quality against time throttled by the system; {LABEL}"
    drawing = Drawing("policy-study", WIDTH, HEIGHT, title, f"{said}. {LABEL.capitalize()}.")
    _axes(drawing, x, y)
    _goal(drawing, x, y, judging["unity"]["throttled"], judging["unreal"]["quality"])
    shares = [x.low + (x.high - x.low) * step / 40 for step in range(41)]
    limit = [(one, bound(optima, prices, throttled=one, changes_per_h=changes_per_h)) for one in shares]
    drawing.polyline([(x(one), y(value)) for one, value in limit if y.holds(value)], css="way own untuned")
    found = sorted((one["throttled"], one["quality"]) for one in stored("judging_parameters"))
    for share, quality in found:
        if x.holds(share) and y.holds(quality):
            tip = f"other parameters: quality {quality:.4f}, throttled {100 * share:.2f} %"
            drawing.add("circle", css="mark ours moved", tip=tip, cx=x(share), cy=y(quality), r=3)
    for name, words in NAMES.items():
        share, quality = judging[name]["throttled"], judging[name]["quality"]
        tip = f"{words}: quality {quality:.4f}, throttled {100 * share:.2f} %"
        drawing.add("circle", css=f"mark {NAMED.get(name, name)}", tip=tip, cx=x(share), cy=y(quality), r=6.5)
        right, down = LABELS.get(name, (10, 15))
        anchor = "end" if right < 0 else "start"
        css = "strong" if name in OURS else "tick"
        drawing.text(x(share) + right, y(quality) + down, words, css=css, anchor=anchor)
    style = templates().get_template("simulation_picture.css.j2").render()
    write_bytes(path, (drawing.render(style=style) + "\n").encode())


def _axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    for value in y.ticks(6):
        drawing.line(LEFT, y(value), WIDTH - RIGHT, y(value), css="grid")
        drawing.text(LEFT - 8, y(value) + 4.5, f"{value:.3f}", css="tick", anchor="end")
    for value in x.ticks(6):
        drawing.line(x(value), HEIGHT - BOTTOM, x(value), HEIGHT - BOTTOM + 4, css="axis")
        text = tick_text(round(100 * value, 3))
        drawing.text(x(value), HEIGHT - BOTTOM + 19, text, css="tick", anchor="middle")
    drawing.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, css="axis")
    drawing.text(8, 17, f"mean quality ({LABEL})", css="label")
    drawing.text(WIDTH - RIGHT, HEIGHT - 8, "time throttled by the system, %", css="label", anchor="end")


def _goal(drawing: Drawing, x: Scale, y: Scale, throttled: float, quality: float) -> None:
    """The corner in which a policy throttles no more than Unity and is no worse than the Unreal plug-in."""
    drawing.line(x(throttled), TOP, x(throttled), y(quality), css="limit")
    drawing.line(LEFT, y(quality), x(throttled), y(quality), css="limit")
    drawing.text(LEFT + 6, TOP + 12, "goal", css="note")
