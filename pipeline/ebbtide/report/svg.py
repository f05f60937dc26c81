"""A small writer of SVG plots.

Plots are text, not pictures: colours are CSS variables, so one plot serves light, dark and print;
letters stay letters, so they can be searched and enlarged; nothing random goes in, so equal records
give equal bytes. A plotting library gives none of the three without rewriting what it puts out.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel where a value lies."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value lies inside the axis (and has a logarithm where one is taken)."""
        return self.low <= value <= self.high

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the axis, about `count` of them."""
        return _log_ticks(self.low, self.high) if self.logarithmic else round_ticks(self.low, self.high, count)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten inside [low, high]."""
    step = round_step((high - low) / count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def round_step(rough: float) -> float:
    """The smallest round number not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**decade for decade in decades for factor in (1.0, 2.0, 5.0)]
    inside = [tick for tick in fine if low <= tick <= high]
    whole = [tick for tick in inside if math.isclose(tick, 10.0 ** round(math.log10(tick)))]
    return whole if len(inside) > 7 and len(whole) >= 3 else inside


def tick_text(value: float) -> str:
    """A tick's label without trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is finer than anyone sees."""
    text = f"{value:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


@dataclass
class Drawing:
    """An SVG under construction.

    Args:
        name: a word unique on the page; ids are derived from it.
        title: what the picture is, read out by screen readers.
        description: what it shows, for someone who cannot see it.
    """

    name: str
    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, *, css: str = "", tip: str = "", text: str = "", **attributes: float | str) -> None:
        """Append one element; `tip` becomes its tooltip, `text` its escaped content."""
        written = [f' class="{css}"'] if css else []
        for key, value in attributes.items():
            shown = value if isinstance(value, str) else number(value)
            written.append(f' {key.replace("_", "-")}="{html.escape(shown)}"')
        inside = (f"<title>{html.escape(tip)}</title>" if tip else "") + html.escape(text)
        self.parts.append(f"<{tag}{''.join(written)}>{inside}</{tag}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, *, css: str) -> None:
        """A straight line."""
        self.add("line", css=css, x1=x1, y1=y1, x2=x2, y2=y2)

    def text(self, x: float, y: float, words: str, *, css: str, anchor: str = "start") -> None:
        """Words with their base line at y."""
        self.add("text", css=css, text=words, x=x, y=y, text_anchor=anchor)

    def polyline(self, points: Iterable[tuple[float, float]], *, css: str) -> None:
        """A line through points."""
        self.add("polyline", css=css, points=" ".join(f"{number(x)},{number(y)}" for x, y in points))

    def diamond(self, x: float, y: float, radius: float, *, css: str, tip: str = "") -> None:
        """A square on its corner."""
        corners = ((x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y))
        self.add("polygon", css=css, tip=tip, points=" ".join(f"{number(a)},{number(b)}" for a, b in corners))

    def cross(self, x: float, y: float, radius: float, *, css: str, tip: str = "") -> None:
        """An x."""
        arms = f"M{number(x - radius)} {number(y - radius)}L{number(x + radius)} {number(y + radius)}"
        arms += f"M{number(x - radius)} {number(y + radius)}L{number(x + radius)} {number(y - radius)}"
        self.add("path", css=css, tip=tip, d=arms)

    def render(self, *, style: str = "") -> str:
        """The whole element; `style` is put inside for an SVG that stands alone."""
        title, description = f"{self.name}-title", f"{self.name}-desc"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" '
            f'viewBox="0 0 {number(self.width)} {number(self.height)}" aria-labelledby="{title} {description}">'
            f'<title id="{title}">{html.escape(self.title)}</title>'
            f'<desc id="{description}">{html.escape(self.description)}</desc>'
        )
        return head + (f"<style>{style}</style>" if style else "") + "".join(self.parts) + "</svg>"
