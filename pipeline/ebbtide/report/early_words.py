"""What is said of early exits, on every kind of page."""

from __future__ import annotations

from dataclasses import dataclass

from ebbtide.report.early import ChosenExits, EarlyExits, MappedRow
from ebbtide.report.record import BuildRecord, Configuration
from ebbtide.report.wording import METRIC_NAMES, percent, time


def how_made(record: BuildRecord, early: EarlyExits) -> str:
    """How exits and thresholds came about."""
    trained = (
        "Exits were trained on the model's frozen features: the backbone is the model as it came."
        if early.train == "frozen"
        else "Backbone and exits learned on together, taught by the original: the bundle holds a new backbone "
        f"({METRIC_NAMES[record.metric]} of the original on select: {percent(early.original)})."
    )
    words = f"{trained} Types: {', '.join(early.types)}. Search: {early.search}."
    if early.constraint:
        words += f" Every configuration with exits {early.constraint}."
    return words


def halves_words(early: EarlyExits) -> str:
    """What `split: test-halves` means for the figures; empty with three plain splits."""
    if not early.halves:
        return ""
    return (
        "The weights saw every training sample, so temperatures and thresholds were chosen on one half of the official "
        "test samples (called select here) and everything measured comes from the other half (called test). The halves "
        "then changed places; both results are shown."
    )


def chosen_words(found: ChosenExits) -> str:
    """Which exits a width's program has, and what keeping few of them costs."""
    if not found.kept:
        return f"{found.width}: no exit gains anything."
    mean = found.mean_loss_points
    lost = (
        f"{abs(mean):.2f} points on average {'below' if mean >= 0 else 'above'} a table with any type at any position "
        f"(at most {found.worst_loss_points:.2f} below)"
    )
    chosen = ", ".join(found.chosen) or "none"
    return f"{found.width}: its program has {chosen}, of {len(found.kept)} worth having; those are {lost}."


def mapped_words(row: MappedRow) -> str:
    """What a mapping takes."""
    if row.mean_us is None:
        return f"not mapped: {row.binding}"
    words = f"{time(row.mean_us)} expected, {time(row.worst_us)} where nothing leaves early"
    if row.transfers:
        words += f", {time(sum(one.us for one in row.transfers))} of it on the way between processors"
    if row.first_us is not None and row.first_us != row.mean_us:
        words += f"; {time(row.first_us)} expected on the first processor alone"
    if row.served:
        words += "; its end may run on a server"
    return words


@dataclass(frozen=True)
class PromiseRow:
    """A configuration's promise against its measurement.

    Attributes:
        configuration: which.
        points: measured less promised, in points.
        error_points: standard error of that difference; None where the metric is no plain accuracy.
    """

    configuration: Configuration
    points: float
    error_points: float | None

    @property
    def within(self) -> bool | None:
        """Whether the difference is at most two standard errors."""
        return None if self.error_points is None else abs(self.points) <= 2 * self.error_points


def promise_rows(record: BuildRecord) -> list[PromiseRow]:
    """Promised against measured for every configuration that was measured, the tiers first."""
    rows = []
    for one in [*record.tiers, *record.others]:
        if one.test is None:
            continue
        error = None
        if record.metric == "accuracy":
            variances = [s.accuracy * (1 - s.accuracy) / s.n for s in (one.select, one.test)]
            error = 100 * sum(variances) ** 0.5
        rows.append(PromiseRow(one, 100 * (one.test.accuracy - one.select.accuracy), error))
    return rows


def promise_words(rows: list[PromiseRow]) -> str:
    """How often and by how much promises were off."""
    if not rows:
        return ""
    mean = sum(row.points for row in rows) / len(rows)
    words = f"Measured less promised is {mean:+.2f} points on average over {len(rows)} configurations"
    judged = [row.within for row in rows if row.within is not None]
    if judged:
        words += f"; {sum(judged)} of {len(judged)} are within two standard errors of the difference"
    return words + "."
