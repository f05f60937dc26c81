"""Pictures of accuracy against cost for the docs: panels side by side, drawn from results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ebbtide.report.html import templates
from ebbtide.report.svg import Drawing, Scale, tick_text
from ebbtide.steps import write_bytes

PANEL, HEIGHT = 430.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 40.0, 50.0
ROW = 19.0
"""Height of a row of the legend."""


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Args:
        name: in the legend, where it stands once for all panels.
        css: its style, one of the report's ways: own, uniform, magnitude, random; or control, for crosses.
        points: (cost, accuracy) in the axes' units, in the order in which a line goes through them.
        joined: whether there is a line.
    """

    name: str
    css: str
    points: tuple[tuple[float, float], ...]
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        title: above it.
        costs, accuracies: what the axes show; points outside are left out.
        series: what is drawn, the most important one first.
        whole: accuracy of the network without any of it, a dashed line; None draws none.
        logarithmic: whether costs are on a logarithmic axis.
    """

    title: str
    costs: tuple[float, float]
    accuracies: tuple[float, float]
    series: tuple[Series, ...]
    whole: float | None = None
    logarithmic: bool = False


def draw_fronts(path: Path, panels: Sequence[Panel], *, title: str, cost: str, accuracy: str) -> None:
    """Write a picture that stands alone and follows the reader's light or dark setting.

    Args:
        path: of the .svg; its name becomes the ids in it.
        panels: from left to right.
        title: what it shows.
        cost, accuracy: the axes' words.
    """
    legend = list({one.name: one for panel in panels for one in panel.series}.values())
    said = ". ".join(f"{panel.title}: {', '.join(map(_range, panel.series))}" for panel in panels)
    height = HEIGHT + ROW * len(legend) + 4
    drawing = Drawing(path.stem, PANEL * len(panels), height, title, f"{said}.")
    for number, panel in enumerate(panels):
        _panel(drawing, panel, PANEL * number, cost, accuracy)
    for number, one in enumerate(legend):
        y = HEIGHT + ROW * number + 8
        _mark(drawing, one.css, LEFT + 8, y - 4)
        drawing.text(LEFT + 22, y, one.name, css="tick")
    style = templates().get_template("picture.css.j2").render()
    write_bytes(path, (drawing.render(style=style) + "\n").encode())


def _range(one: Series) -> str:
    best, last = max(accuracy for _, accuracy in one.points), min(accuracy for _, accuracy in one.points)
    return f"{one.name} {last:.1f} to {best:.1f}"


def _panel(drawing: Drawing, panel: Panel, start: float, cost: str, accuracy: str) -> None:
    left, right, low = start + LEFT, start + PANEL - RIGHT, HEIGHT - BOTTOM
    x = Scale(*panel.costs, left, right, panel.logarithmic)
    y = Scale(*panel.accuracies, low, TOP)
    for value in y.ticks(6):
        drawing.line(left, y(value), right, y(value), css="grid")
        drawing.text(left - 8, y(value) + 4.5, tick_text(round(value, 3)), css="tick", anchor="end")
    for value in x.ticks(6):
        drawing.line(x(value), low, x(value), low + 4, css="axis")
        drawing.text(x(value), low + 19, tick_text(round(value, 3)), css="tick", anchor="middle")
    drawing.line(left, low, right, low, css="axis")
    drawing.text(left, 16, panel.title, css="strong")
    drawing.text(left, 31, accuracy, css="note")
    drawing.text(right, low + 38, cost, css="label", anchor="end")
    if panel.whole is not None:
        drawing.line(left, y(panel.whole), right, y(panel.whole), css="dense-line")
    for one in reversed(panel.series):
        shown = [point for point in one.points if x.holds(point[0]) and y.holds(point[1])]
        if one.joined and len(shown) > 1:
            drawing.polyline([(x(a), y(b)) for a, b in shown], css=f"way {one.css}")
        for a, b in shown:
            _mark(drawing, one.css, x(a), y(b), tip=f"{one.name}: {b:.2f} at {a:.3g}")


def _mark(drawing: Drawing, css: str, x: float, y: float, tip: str = "") -> None:
    if css == "control":
        drawing.cross(x, y, 3.5, css=css, tip=tip)
    else:
        drawing.add("circle", css=f"way-dot {css}", tip=tip, cx=x, cy=y, r=3.2)
