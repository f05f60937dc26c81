"""The table that ships, chosen on what the lowered programs themselves said of select."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.programs import Programs, WidthProgram
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.build.scores import Scorable
    from ebbtide.exits import Records
    from ebbtide.model import Metric
    from ebbtide.search import Costs, Score

DENSE = "dense"
"""A width's configuration without exits; it always ships, as a tier or beside them."""


@dataclass(frozen=True)
class Row:
    """One configuration: its thresholds by position in its width's program, and what it promises on select.

    Attributes:
        id: ``c0``, ``c1``, ... or `DENSE`, with the width in front (``w50-c3``) where it is not the widest.
        width: whose program it runs; its thresholds mean nothing in another.
        thresholds: of the exits in its path.
        value: metric promised: that on select, less `optimism`.
        mean_macs: on select.
        shares: where the samples of select leave; all exits of the width's program, the head last.
        optimism: what was taken off because the row was chosen on the same samples.
    """

    id: str
    width: str
    thresholds: dict[int, float]
    value: float
    mean_macs: float
    shares: tuple[float, ...]
    optimism: float = 0.0

    def row(self, positions: tuple[int, ...]) -> NDArray[np.float32]:
        """Thresholds as the search writes them, for records of its own width."""
        from ebbtide.search import OFF

        return np.array([self.thresholds.get(p, OFF) for p in positions], dtype=np.float32)


@dataclass(frozen=True)
class Table:
    """The configurations and tiers of a build.

    Attributes:
        rows: best quality first.
        tiers: ids, tier 0 first.
        points: metric and mean MACs of everything that was scored.
        content: the same as JSON, for keys of later steps and for sealing.
    """

    rows: tuple[Row, ...]
    tiers: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    content: dict[str, Any]


def choose_table(programs: Programs, times: Mapping[str, Mapping[str, float]] | None = None) -> Table:
    """Search thresholds for good, on the programs' own records of select.

    Args:
        programs: of all widths.
        times: by program digest, microseconds of its methods; None where no latency is limited.

    Raises:
        EbbtideError: ``search.no_configuration`` if no configuration keeps the limits of ``exits.constraint``.
    """
    project = programs.project
    inputs = {
        "widths": [[one.width, project.store.digest(one.records_file), one.macs] for one in programs.widths],
        "times": times,
        "reference": programs.widest.candidates.reference,
        **project.inputs("tiers", "metric", "exits.search", "exits.constraint", "seed"),
    }
    content = project.json_step(
        "table", inputs, lambda: _search(programs, times), code=("ebbtide.search", "ebbtide.exits")
    )
    rows = tuple(
        Row(
            id=row["id"],
            width=row["width"],
            thresholds={int(p): t for p, t in row["thresholds"].items()},
            value=row["value"],
            mean_macs=row["mean_macs"],
            shares=tuple(row["shares"]),
            optimism=row["optimism"],
        )
        for row in content["rows"]
    )
    return Table(rows, tuple(content["tiers"]), tuple((v, m) for v, m in content["points"]), content)


def program_costs(macs: dict[str, int]) -> Costs:
    """MACs of a program's methods, by name."""
    from ebbtide.search import Costs

    return Costs.of_methods(macs)


def score_row(records: Records, program: WidthProgram, row: Row, *, metric: Metric, classes: int) -> Score:
    """A configuration's exact score on any records of its width's program.

    Raises:
        EbbtideError: ``search.width`` if the configuration belongs to another width.
    """
    from ebbtide.search import score

    if row.width != program.width:
        raise EbbtideError(
            "search.width",
            f"Configuration {row.id} cannot be scored on another width's program",
            expected=row.width,
            found=program.width,
        )
    return score(records, program_costs(program.macs), row.row(records.positions), metric=metric, classes=classes)


def _search(programs: Programs, times: Mapping[str, Mapping[str, float]] | None) -> dict[str, Any]:
    from ebbtide.build.scores import choose, search_settings

    settings = search_settings(programs.project.recipe, programs.universal.samples("select"))
    found = choose(
        [_scorable(one, times) for one in programs.widths],
        recipe=programs.project.recipe,
        classes=programs.universal.classes,
        reference=programs.widest.candidates.reference,
        progress=programs.project.progress,
    )
    widest = programs.widest.width
    names = [DENSE if not row.thresholds else f"c{index}" for index, row in enumerate(found.rows)]
    ids = [n if row.width == widest else f"{row.width}-{n}" for n, row in zip(names, found.rows, strict=True)]
    return {
        "rows": [
            {
                "id": name,
                "width": row.width,
                "thresholds": {str(p): t for p, t in row.thresholds},
                "value": row.score.value,
                "mean_macs": row.score.mean_cost,
                "shares": list(row.score.shares),
                "optimism": row.optimism,
            }
            for name, row in zip(ids, found.rows, strict=True)
        ],
        "tiers": [ids[index] for index in found.tiers],
        "settings": {**asdict(settings), "trade_offs": list(settings.trade_offs)},
        "points": [[c.score.value, c.score.mean_cost] for c in found.scored],
    }


def _scorable(one: WidthProgram, times: Mapping[str, Mapping[str, float]] | None) -> Scorable:
    from ebbtide.build.scores import Scorable
    from ebbtide.search import Costs

    everything = one.records()
    return Scorable(
        width=one.width,
        records=everything.first(one.candidates.selected),
        costs=program_costs(one.macs),
        gate=list(everything.confidences[:-1]),
        times=None if times is None else Costs.of_methods(times[one.program.sha256]),
    )
