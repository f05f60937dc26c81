"""Rows that keep promised limits: at most so much loss, at most so much time; or why no row does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ebbtide.errors import EbbtideError
from ebbtide.exits import Records
from ebbtide.search.candidate import Candidate
from ebbtide.search.costs import Costs
from ebbtide.search.score import Score, score
from ebbtide.search.tiers import pareto

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Limits:
    """What every row must keep, as promised on select; None where nothing is asked.

    Attributes:
        max_drop_points: loss against the reference, in points of the metric (hundredths), 0 to 100.
        max_latency_us: mean time of a prediction, above 0.
        max_worst_latency_us: time of a prediction that goes through everything, above 0.

    Raises:
        EbbtideError: ``search.limits`` if a limit is out of range.
    """

    max_drop_points: float | None = None
    max_latency_us: float | None = None
    max_worst_latency_us: float | None = None

    def __post_init__(self) -> None:
        drop = self.max_drop_points
        if drop is not None and not 0.0 <= drop <= 100.0:
            raise EbbtideError("search.limits", "max_drop_points is out of range", expected="0 to 100", found=str(drop))
        for name in ("max_latency_us", "max_worst_latency_us"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0.0:
                raise EbbtideError("search.limits", f"{name} is out of range", expected="above 0", found=str(limit))


@dataclass(frozen=True)
class Timed:
    """What times of configurations are computed from, for one width.

    Attributes:
        records: of select.
        costs: microseconds, measured.
    """

    records: Records
    costs: Costs

    def score(self, candidate: Candidate) -> Score:
        """Mean and worst time of a configuration, from where the samples of select leave."""
        classes = int(self.records.labels.max()) + 1
        thresholds = candidate.row(self.records.keys)
        return score(self.records, self.costs, thresholds, metric="accuracy", classes=classes)


@dataclass(frozen=True)
class Within:
    """The rows that keep all limits.

    Attributes:
        rows: those that no other beats, best quality first; empty if nothing keeps the limits.
        binding: names of the limits that stand in the way if there is no row: each one that no configuration keeps by
            itself, or else all that cannot be kept together.
        reason: the same in a sentence with numbers; empty if there are rows.
    """

    rows: tuple[Candidate, ...]
    binding: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Limit:
    name: str
    most: float
    measured: Callable[[Candidate], float]
    words: str

    def kept(self, candidate: Candidate) -> bool:
        return self.measured(candidate) <= self.most + _ROUNDING


def within(
    candidates: Sequence[Candidate],
    limits: Limits,
    *,
    reference: float,
    times: Mapping[str, Timed] | None = None,
) -> Within:
    """The Pareto table of the configurations that keep limits, by what they promise on select alone.

    Args:
        candidates: of one or several widths.
        limits: any of them may be None.
        reference: metric on select that a loss is counted against, 0..1; that of the dense model as a rule.
        times: by width, for limits of latency.

    Raises:
        EbbtideError: ``search.limits`` if a latency is limited and a width has no times.
    """
    asked = _asked(candidates, limits, reference, times or {})
    rows = pareto([one for one in candidates if all(limit.kept(one) for limit in asked)])
    if rows or not candidates:
        return Within(tuple(rows), reason="" if rows else "There are no configurations to choose from.")
    alone = [limit for limit in asked if not any(limit.kept(one) for one in candidates)]
    parts = [
        f"no configuration keeps {limit.name} = {limit.most:g}: the nearest {limit.words} "
        f"{min(map(limit.measured, candidates)):.4g}"
        for limit in alone
    ]
    if not alone:
        for limit in asked:
            rest = [one for one in candidates if all(other.kept(one) for other in asked if other is not limit)]
            nearest = f"the nearest {limit.words} {min(map(limit.measured, rest)):.4g}" if rest else "nothing is left"
            parts.append(f"with the other limits kept, {limit.name} = {limit.most:g} is not: {nearest}")
    sentence = "; ".join(parts)
    return Within((), tuple(limit.name for limit in alone or asked), sentence[:1].upper() + sentence[1:] + ".")


def _asked(
    candidates: Sequence[Candidate], limits: Limits, reference: float, times: Mapping[str, Timed]
) -> list[_Limit]:
    asked = []
    if limits.max_drop_points is not None:

        def drop(candidate: Candidate) -> float:
            return 100.0 * (reference - candidate.score.value)

        asked.append(_Limit("max_drop_points", limits.max_drop_points, drop, "loses"))
    if limits.max_latency_us is None and limits.max_worst_latency_us is None:
        return asked
    missing = sorted({candidate.width for candidate in candidates} - set(times))
    if missing:
        raise EbbtideError(
            "search.limits",
            "A limit of latency needs measured times of every width",
            found=f"no times of {missing[0] or 'the only width'}",
        )
    timed = {candidate: times[candidate.width].score(candidate) for candidate in candidates}
    if limits.max_latency_us is not None:
        asked.append(_Limit("max_latency_us", limits.max_latency_us, lambda c: timed[c].mean_cost, "takes"))
    if limits.max_worst_latency_us is not None:
        worst = limits.max_worst_latency_us
        asked.append(_Limit("max_worst_latency_us", worst, lambda c: timed[c].worst_cost, "takes"))
    return asked
