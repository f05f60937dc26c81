"""Numbers and judgements in words, the same on every kind of page."""

from __future__ import annotations

from dataclasses import dataclass

from ebbtide.report.nested import Widths
from ebbtide.report.outside import Outside
from ebbtide.report.record import BuildRecord, Configuration, Latency, Model, Scored

CLOSE_ENOUGH = 0.01
"""A tier within one point of the dense model (on select) counts as keeping its accuracy in the verdict."""

METRIC_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}


def percent(share: float | None, digits: int = 1) -> str:
    """0.9722 -> ``97.2 %``; an unknown share is a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def decimal(value: float | None, digits: int = 3) -> str:
    """0.8734 -> ``0.873``; an unknown value is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def significant(value: float) -> str:
    """Three significant digits without an exponent: 1.23, 12.3, 123, 1230."""
    if value == 0:
        return "0"
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    text = f"{value:.0f}" if step == 0 and float(value).is_integer() else significant(value)
    return f"{text}\u00a0{units[step]}".rstrip("\u00a0")


def amount(count: float | None) -> str:
    """A count such as MACs or parameters: ``1.23 M``."""
    return "–" if count is None else _scaled(float(count), ("", "k", "M", "G", "T"))


def size(size_bytes: float | None) -> str:
    """Bytes in decimal units: ``3.46 MB``."""
    return "–" if size_bytes is None else _scaled(float(size_bytes), ("B", "kB", "MB", "GB"))


def time(time_us: float | None) -> str:
    """Microseconds as ``812 µs``, ``1.24 ms`` or ``2.10 s``."""
    return "–" if time_us is None else _scaled(float(time_us), ("µs", "ms", "s"))


def seconds(value: float) -> str:
    """Seconds of a build step: ``0.42 s``, ``12.3 s``, ``3 min 05 s``."""
    if value < 120:
        return f"{significant(value)}\u00a0s"
    whole = round(value)
    return f"{whole // 60}\u00a0min\u00a0{whole % 60:02d}\u00a0s"


def latency(found: Latency | None) -> str:
    """p50 and p90 in one unit, so that the two compare at a glance: ``0.81 / 1.24 ms``."""
    if found is None:
        return "not measured"
    number, _, unit = time(found.p90_us).rpartition("\u00a0")
    digits = len(number.partition(".")[2])
    fast = found.p50_us / {"µs": 1.0, "ms": 1e3, "s": 1e6}[unit]
    return f"{fast:.{digits}f} / {number}\u00a0{unit}"


def ratio(value: float | None, base: float | None) -> str:
    """A cost as a multiple of the dense model's: ``0.43×``; a dash where either is unknown."""
    return f"{value / base:.2f}×" if value is not None and base else "–"


def configuration_name(one: Configuration) -> str:
    """What a reader calls it: its tier if it has one, else its id."""
    return one.id if one.tier is None else f"tier {one.tier}"


def configuration_label(record: BuildRecord, one: Configuration) -> str:
    """The same with its width, where there are several."""
    return configuration_name(one) + (f" ({one.width})" if record.widths else "")


def classes_summary(model: Model) -> str:
    """What the head answers with, and what it is judged on where that is less."""
    if model.class_set and len(model.class_set) < len(model.classes):
        return f"all {len(model.classes)} classes, judged on samples of {len(model.class_set)} of them"
    return f"{len(model.classes)} of {model.universal_classes} classes"


def outside_summary(outside: Outside) -> str:
    """How outside detection was chosen, in sentences."""
    scores = {
        "energy": "the energy of the logits (higher is stranger)",
        "confidence": "the confidence of the answer, negated (higher is less sure)",
    }
    chosen = (
        f"An answer is “outside” where {scores[outside.score]} lies above the threshold of the exit or head that gave "
        f"it. The thresholds are the lowest at which a configuration takes at most {percent(outside.allowed)} of the "
        "class set’s own select samples for outside."
    )
    counts = " and ".join(f"{count:,} of {split}" for split, count in outside.samples.items() if count)
    measured = (
        f"Told apart from samples of the {outside.other_classes} other classes ({counts})."
        if counts
        else "There are no samples of other classes: how much of them is caught is not known."
    )
    asked = (
        "No other bundle is named to be asked." if outside.fallback is None else f"Then {outside.fallback} is asked."
    )
    return f"{chosen} {measured} {asked}"


def search_summary(widths: Widths) -> str:
    """How the widths of all levels were found, in sentences."""
    ways = {
        "bottom-up": "smallest width first",
        "top-down": "largest width first",
        "joint": "all widths at once",
        "uniform": "the same share of every group",
    }
    orders = {
        "importance": "summed gradients",
        "saliency": "mean absolute gradients",
        "magnitude": "the size of their weights",
        "random": "chance",
        "none": "their place in the model",
    }
    proven = "proven to be the best" if widths.exact else f"within {percent(widths.gap, 2)} of the best"
    found = "" if widths.search == "uniform" else f", {proven}"
    norm = (
        "All widths use the whole network’s batch norm statistics"
        if widths.norm == "shared"
        else "Every width has batch norm statistics of its own"
    )
    tuned = f"tuned together for {widths.tuned_epochs} epochs" if widths.tuned_epochs else "not tuned"
    return (
        f"Channels are ordered by {orders[widths.order]} and shared out {ways[widths.search]}{found}, in multiples of "
        f"{widths.multiple}; then all widths were {tuned}. {norm}."
    )


def payload_summary(widths: Widths) -> str:
    """What several widths cost on the wire; empty where it was not packed."""
    if not widths.xz_bytes or not widths.widest_xz_bytes:
        return ""
    return (
        f"The programs of all {len(widths.levels)} widths take {size(widths.xz_bytes)} as one xz stream, "
        f"{widths.xz_bytes / widths.widest_xz_bytes:.3f}× the widest alone ({size(widths.widest_xz_bytes)})."
    )


def norm_summary(widths: Widths) -> str:
    """What private batch norm statistics cost in bytes and buy in the metric; empty where they are shared."""
    found = widths.private
    if found is None:
        return ""
    pairs = zip(widths.levels, found.shared_select, strict=True)
    bought = ", ".join(
        f"{level.name} {percent(level.select.accuracy)} instead of {percent(shared)}" for level, shared in pairs
    )
    more = found.xz_bytes - found.shared_xz_bytes
    return (
        f"Private batch norm statistics cost {size(more)} as xz ({size(found.xz_bytes)} against "
        f"{size(found.shared_xz_bytes)} with shared ones) and buy, on select with the same weights: {bought}."
    )


def shape(dimensions: tuple[int, ...]) -> str:
    """``16 × 8 × 8``."""
    return " × ".join(str(one) for one in dimensions) or "–"


def interval(scored: Scored | None, metric: str) -> str:
    """The 95 % interval as ``95.4 to 98.3 %``; empty where the metric is no plain share of right answers."""
    if scored is None or metric != "accuracy":
        return ""
    low, high = scored.interval
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


@dataclass(frozen=True)
class Promise:
    """What select promised, held against what test measured."""

    kept: bool
    text: str


def promise(record: BuildRecord, one: Configuration) -> Promise | None:
    """Judge one configuration's promise; None where test was not measured.

    With plain accuracy a promise is broken when the whole 95 % interval of the measurement lies below
    it. Other metrics have no such interval; there a point below counts as broken.
    """
    if one.test is None:
        return None
    difference = 100 * (one.test.accuracy - one.select.accuracy)
    kept = one.test.interval[1] >= one.select.accuracy if record.metric == "accuracy" else difference >= -1.0
    sign = "+" if difference >= 0 else "−"
    return Promise(kept=kept, text=f"{'kept' if kept else 'missed'} ({sign}{abs(difference):.1f} points)")


def promise_summary(record: BuildRecord) -> str:
    """One sentence over all promises."""
    judged = [(one, found) for one in record.tiers if (found := promise(record, one)) is not None]
    if not judged:
        return "The test split has not been read: every accuracy here is a promise."
    missed = [configuration_name(one) for one, found in judged if not found.kept]
    how = "the measurement’s 95 % interval" if record.metric == "accuracy" else "one point"
    if not missed:
        return f"Every promise held: no measured {METRIC_NAMES[record.metric]} fell below it by more than {how}."
    verb = "was" if len(missed) == 1 else "were"
    return f"{', '.join(missed).capitalize()} {verb} measured below the promise by more than {how}."


def verdict(record: BuildRecord) -> str:
    """One sentence a reader may quote: the cheapest tier that keeps the accuracy, and what it costs.

    The tier is chosen on select and its figure is quoted from test, so the sentence does not pick
    the luckiest measurement.
    """
    tiers, dense = record.tiers, record.dense
    promised = dense.select or record.model.select
    goal = (promised.accuracy if promised else max(one.select.accuracy for one in tiers)) - CLOSE_ENOUGH
    keeping = [one for one in tiers if one.select.accuracy >= goal]
    best = min(keeping or [tiers[0]], key=lambda one: one.mean_macs)
    score, split = (best.test, "test") if best.test else (best.select, "select")
    dense_score = dense.test if split == "test" else promised
    metric = METRIC_NAMES[record.metric]
    reach = f"{configuration_name(best)} reaches {percent(score.accuracy)} {metric} on {score.n:,} {split} samples"
    beside = f"; the dense model reaches {percent(dense_score.accuracy)}" if dense_score else ""
    sentence = f"{_cost_clause(record, best, kept=bool(keeping))} {reach}{beside}."
    return sentence[0].upper() + sentence[1:]


def _cost_clause(record: BuildRecord, best: Configuration, *, kept: bool) -> str:
    dense = record.dense
    macs = best.mean_macs / dense.macs if dense.macs else 1.0
    if not kept:
        return f"no tier promised to stay within {100 * CLOSE_ENOUGH:.0f} point of the dense model:"
    if macs >= 0.995:
        return "at the dense model’s full cost,"
    clause = f"with {100 * macs:.0f}\u00a0% of the dense model’s multiply-accumulates"
    if best.latency is None or dense.latency is None or not dense.latency.p50_us:
        return f"{clause} (time not measured),"
    times = best.latency.p50_us / dense.latency.p50_us
    if times >= 0.98:
        return f"{clause} but {times:.2f}× its time,"
    return f"{clause} and {100 * times:.0f}\u00a0% of its time,"
