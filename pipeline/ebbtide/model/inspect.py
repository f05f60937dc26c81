"""A model's stages and cut points for people: a table, JSON, a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

from ebbtide.model.cost import Cost, cost
from ebbtide.model.cuts import CutPoint, choose_cuts, cut_points
from ebbtide.model.graph import Graph
from ebbtide.model.stages import split

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 860, 16, 16, 92, 44
_STYLE = (
    ".ink{fill:#1a2230}.soft{fill:#5b6675}.line{stroke:#5b6675}.bar{fill:#2f6f9f}.head{fill:#a0673a}"
    ".track{fill:#e6eaee}.back{fill:#ffffff}text{font:13px system-ui,sans-serif}.small{font-size:11px}"
    "@media (prefers-color-scheme:dark){.ink{fill:#e8ecf1}.soft{fill:#9aa6b4}.line{stroke:#9aa6b4}"
    ".bar{fill:#6fb1dd}.head{fill:#dba679}.track{fill:#2a323c}.back{fill:#14191f}}"
)


@dataclass(frozen=True)
class Part:
    """A stage or the head, with its cost and where it ends."""

    name: str
    ends_at: str | None
    shape: tuple[int, ...]
    layout: str | None
    cost: Cost


@dataclass(frozen=True)
class Inspection:
    """What `inspect_graph` found.

    Args:
        input_shape: shape of a sample.
        classes: number of logits.
        points: all cut points.
        cuts: names of those that end the stages.
        parts: the stages in order, then the head.
        total: cost of the whole model.
        notes: what was done on the way from the source to the graph.
    """

    input_shape: tuple[int, ...]
    classes: int
    points: tuple[CutPoint, ...]
    cuts: tuple[str, ...]
    parts: tuple[Part, ...]
    total: Cost
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each stage and the head; MACs and bytes per sample, share of the model's MACs 0..1."""
        total = max(self.total.macs, 1)
        return [
            {
                "part": part.name,
                "ends_at": part.ends_at,
                "shape": list(part.shape),
                "layout": part.layout,
                **part.cost.to_json(),
                "share": part.cost.macs / total,
            }
            for part in self.parts
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; operators are listed under their part."""
        return {
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "total": self.total.to_json(),
            "cut_points": [{**asdict(p), "shape": list(p.shape), "used": p.name in self.cuts} for p in self.points],
            "parts": [
                {**row, "operators": [asdict(node) for node in part.cost.nodes]}
                for row, part in zip(self.rows(), self.parts, strict=True)
            ],
            "notes": list(self.notes),
        }


def inspect_graph(graph: Graph, *, stages: Literal["auto"] | int | Sequence[str] = "auto") -> Inspection:
    """Cut points, stages and costs of a model.

    Args:
        graph: the model.
        stages: as in `choose_cuts`.

    Raises:
        EbbtideError: ``model.cut_point``.
    """
    cuts = choose_cuts(graph, stages)
    staged = split(graph, cuts)
    parts = [
        Part(
            name=f"stage{position}",
            ends_at=staged.cuts[position],
            shape=staged.boundaries[position],
            layout=staged.layouts[position],
            cost=cost(stage, staged.inputs_of(position)),
        )
        for position, stage in enumerate(staged.stages)
    ]
    head = cost(staged.head, staged.inputs_of(len(staged.stages)))
    parts.append(Part(name="head", ends_at=None, shape=(graph.classes,), layout=None, cost=head))
    return Inspection(
        input_shape=graph.input_shape,
        classes=graph.classes,
        points=cut_points(graph),
        cuts=cuts,
        parts=tuple(parts),
        total=cost(graph.module, graph.input_shape),
        notes=graph.notes,
    )


def draw(found: Inspection) -> str:
    """An SVG of the stages: a bar for each over the model's MACs, and a tick at each cut point; light and dark."""
    span = _WIDTH - _LEFT - _RIGHT
    height = _TOP + _ROW * len(found.parts) + 16
    total = max(found.total.macs, 1)
    lines = [
        text(_LEFT, 26, f"{found.total.macs / 1e6:,.1f} M MACs, {found.total.parameters:,} parameters, "
              f"input {_shape(found.input_shape)}, {found.classes} classes"),
        text(_LEFT, 46, f"{len(found.points)} cut points over the model's MACs; the long ones end a stage",
              kind="soft small"),
        f'<rect class="track" x="{_LEFT}" y="62" width="{span}" height="6"/>',
    ]  # fmt: skip
    for point in found.points:
        x = _LEFT + span * point.share
        end = 80 if point.name in found.cuts else 70
        lines.append(
            f'<line class="line" x1="{x:.1f}" y1="58" x2="{x:.1f}" y2="{end}" stroke-width="1.5">'
            f"<title>{escape(point.name)} {_shape(point.shape)}, {point.share:.1%}</title></line>"
        )
    before = 0
    for row, part in enumerate(found.parts):
        top = _TOP + _ROW * row
        x, width = _LEFT + span * before / total, max(span * part.cost.macs / total, 2.0)
        before += part.cost.macs
        kind = "head" if part.ends_at is None else "bar"
        words = (
            f"{part.name}: {part.cost.macs / 1e6:,.1f} M MACs ({part.cost.macs / total:.1%}), "
            f"{part.cost.weight_bytes / 1024:,.0f} KiB weights, peak {part.cost.peak_bytes / 1024:,.0f} KiB, "
            + (f"ends at {part.ends_at} {_shape(part.shape)}" if part.ends_at else f"{_shape(part.shape)} logits")
        )
        lines += [
            f'<rect class="track" x="{_LEFT}" y="{top}" width="{span}" height="14" rx="3"/>',
            f'<rect class="{kind}" x="{min(x, _LEFT + span - width):.1f}" y="{top}" width="{width:.1f}" height="14" '
            'rx="3"/>',
            text(_LEFT, top + 29, words, kind="ink small"),
        ]
    return page(lines, height, "Stages and cut points")


def page(lines: Sequence[str], height: int, label: str) -> str:
    """SVG elements as a drawing that follows the reader's light or dark."""
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">'
    )
    back = f'<rect class="back" width="{_WIDTH}" height="{height}"/>'
    return "\n".join([opening, f"<style>{_STYLE}</style>", back, *lines, "</svg>", ""])


def text(x: float, y: float, words: str, *, kind: str = "ink") -> str:
    """A line of text; kind is a class of the page's style: ink, soft, each also small."""
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
