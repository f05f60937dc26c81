"""The table that ships, chosen on what the lowered programs themselves said of select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.programs import Programs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebbtide.exits import Records
    from ebbtide.model import Metric
    from ebbtide.search import Costs, Score

DENSE = "dense"
"""The configuration without exits; it always ships, as a tier or beside them."""


@dataclass(frozen=True)
class Row:
    """One configuration: its thresholds by position in the program, and what it promises on select.

    Attributes:
        id: ``c0``, ``c1``, ... or `DENSE`.
        thresholds: of the exits in its path.
        value: metric on select.
        mean_macs: on select.
        shares: where the samples of select leave; all exits of the program, the head last.
    """

    id: str
    thresholds: dict[int, float]
    value: float
    mean_macs: float
    shares: tuple[float, ...]

    def row(self, positions: tuple[int, ...]) -> NDArray[np.float32]:
        """Thresholds as the search writes them."""
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


def choose_table(programs: Programs) -> Table:
    """Search thresholds for good, on the programs' own records of select."""
    project = programs.candidates.backbone.project
    inputs = {
        "records": project.store.digest(programs.records_file),
        "macs": programs.macs,
        **project.inputs("tiers", "metric"),
    }
    content = project.json_step("table", inputs, lambda: _search(programs), code=("ebbtide.search", "ebbtide.exits"))
    rows = tuple(
        Row(
            id=row["id"],
            thresholds={int(p): t for p, t in row["thresholds"].items()},
            value=row["value"],
            mean_macs=row["mean_macs"],
            shares=tuple(row["shares"]),
        )
        for row in content["rows"]
    )
    return Table(rows, tuple(content["tiers"]), tuple((v, m) for v, m in content["points"]), content)


def program_costs(macs: dict[str, int]) -> Costs:
    """MACs of a program's methods, by name."""
    from ebbtide.search import Costs

    stages = [name for name in macs if name.startswith("stage")]
    return Costs(
        stages=tuple(macs[f"stage{i}"] for i in range(len(stages))),
        exits={int(name.removeprefix("exit")): value for name, value in macs.items() if name.startswith("exit")},
        head=macs["head"],
    )


def score_row(records: Records, macs: dict[str, int], row: Row, *, metric: Metric, classes: int) -> Score:
    """A configuration's exact score on any records of its program."""
    from ebbtide.search import score

    return score(records, program_costs(macs), row.row(records.positions), metric=metric, classes=classes)


def _search(programs: Programs) -> dict[str, Any]:
    from ebbtide.build.scores import choose
    from ebbtide.exits import Records

    backbone = programs.candidates.backbone
    recipe = backbone.project.recipe
    everything = Records.load(programs.records_file)
    select = everything.first(backbone.facts["provenance"]["splits"]["select"]["count"])
    found = choose(
        select,
        program_costs(programs.macs),
        recipe=recipe,
        classes=backbone.classes,
        gate=list(everything.confidences[:-1]),
    )
    ids = [DENSE if not row.thresholds else f"c{index}" for index, row in enumerate(found.rows)]
    return {
        "rows": [
            {
                "id": name,
                "thresholds": {str(p): t for p, t in row.thresholds},
                "value": row.score.value,
                "mean_macs": row.score.mean_cost,
                "shares": list(row.score.shares),
            }
            for name, row in zip(ids, found.rows, strict=True)
        ],
        "tiers": [ids[index] for index in found.tiers],
        "points": [[c.score.value, c.score.mean_cost] for c in found.scored],
    }
