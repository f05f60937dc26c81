"""What a report says of a model for a class set, the same on every kind of page."""

from __future__ import annotations

from ebbtide.report import wording
from ebbtide.report.personal import Drop, Packed, Sparsity, Tried
from ebbtide.report.record import BuildRecord
from ebbtide.report.wording import amount, percent, size

RIVALS = {"universal": "universal", "tuned": "fine-tuned whole"}
UNITS = {
    "macs": "multiply-accumulates",
    "weights": "weights of the masked layers",
    "ranks": "blocks of each block-row",
}
_SCORES = {
    "absolute": "weight times mean absolute gradient on images of the class set",
    "signed": "weight times summed gradient on images of the class set",
    "magnitude": "the size of the weights",
    "random": "chance",
}


def budget_name(found: Sparsity, one: Tried) -> str:
    """``6.3 % of the multiply-accumulates``: what is left."""
    return f"{percent(one.kept)} of the {UNITS[found.unit]}"


def drop_words(drop: Drop | None) -> str:
    """``0.42, at most 0.97 (9 lost, 5 won of 1,200)``; a dash where there is none."""
    if drop is None:
        return "–"
    return (
        f"{_points(drop.points)}, at most {_points(drop.bound_points)} ({drop.lost} lost, {drop.won} won of {drop.n:,})"
    )


def _points(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def verdict(record: BuildRecord) -> str:
    """What stands first on a page: what is left of the universal model, what it reaches, and what the rivals do."""
    found = record.sparsity
    if found is None:
        return wording.verdict(record)
    taken, model = found.taken, record.model
    of = f"For {len(model.class_set or model.classes)} of {model.universal_classes} classes"
    left = f"{percent(taken.kept)} of the universal model’s {UNITS[found.unit]} are left"
    if found.pattern == "hybrid":
        left += " (a stock runtime is not faster for it)"
    elif taken.latency and found.universal.latency and found.universal.latency.p50_us:
        left += f" and {percent(taken.latency.p50_us / found.universal.latency.p50_us)} of its time"
    metric = wording.METRIC_NAMES[record.metric]
    reach = f"{percent(taken.test.accuracy)} {metric} on {taken.test.n:,} test samples"
    rivals = f"the universal model reaches {percent(found.universal.test.accuracy)}"
    if found.tuned is not None:
        rivals += f", fine-tuned whole {percent(found.tuned.test.accuracy)}"
    return f"{of}, {left}, with {reach}; {rivals}. In the bundle: {_lowered(wording.verdict(record))}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def summary(found: Sparsity) -> str:
    """How the model came about, in sentences."""
    what = "whole channels were taken out" if found.pattern == "channels" else "weights were masked in blocks and N:M"
    taught = {"universal": "the universal model", "tuned": "the fine-tuned whole model", "none": ""}[found.teacher]
    learned = f"from labels and from {taught}" if taught else "from labels"
    first = (
        f"From the universal model {what} ({found.sizes}), those first that matter least by {_SCORES[found.scores]}; "
        f"what is left learned {learned} on the class set’s train samples."
    )
    whole = " The class set is all classes: nothing is won from leaving any out." if found.all_classes else ""
    return f"{first} {_goal(found)}{whole}"


def _goal(found: Sparsity) -> str:
    taken = found.taken
    against = f"the {'universal' if found.reference == 'universal' else 'fine-tuned whole'} model"
    if found.max_drop_points is None:
        return f"The recipe asked for {percent(taken.budget)} of the {UNITS[found.unit]}, drops count from {against}."
    return (
        f"It is the cheapest of {len(found.trials)} that were tried whose loss against {against} is, with "
        f"{100 * found.confidence:g}\u00a0% confidence, at most {found.max_drop_points:g} points on select. Each bound "
        "holds for itself; the choice among them was made on select, so test may show a larger loss."
    )


def cost_note(record: BuildRecord, found: Sparsity) -> str:
    """What latency means here, and what the figures are of."""
    then = " All widths were tuned together afterwards: what ships has other weights." if _tuned_after(record) else ""
    return f"{_latency_note(found)}{then}"


def _tuned_after(record: BuildRecord) -> bool:
    return record.widths is not None and record.widths.tuned_epochs > 0


def _latency_note(found: Sparsity) -> str:
    if found.pattern == "hybrid":
        return (
            "Masked zeros are no speed-up on a stock runtime: every latency of this report is that of the dense "
            "network, which computes them all. Kept multiply-accumulates are an analytic count."
        )
    return (
        "Latency is of each network in one method, timed in one interleaved run; fine-tuned whole, the universal model "
        "takes as long as before."
    )


def packed_summary(packed: Packed | None) -> str:
    """What the packed form takes; empty where nothing is masked."""
    if packed is None:
        return ""
    return (
        f"Packed ({packed.file}, docs/packed.md): {size(packed.packed_bytes)} against {size(packed.dense_bytes)} of "
        f"dense weights, {packed.dense_bytes / packed.packed_bytes:.2f}× smaller; as xz {size(packed.packed_xz_bytes)} "
        f"against {size(packed.dense_xz_bytes)}. By the formula the masked layers take {size(packed.formula_bytes)}: "
        f"values, places in their groups and places of blocks, with {percent(packed.sparsity)} zeros. No runtime reads "
        "it yet."
    )


def macs_words(one: Tried) -> str:
    """True multiply-accumulates, and those of kept weights where others are masked."""
    kept = "" if one.kept_macs is None else f" ({amount(one.kept_macs)} of kept weights)"
    return f"{amount(one.macs)}{kept}"


def origin_words(one: Tried) -> str:
    """What a trial went on from."""
    return "universal" if one.started is None else percent(one.started)


def verdict_words(found: Sparsity, index: int) -> str:
    """What became of a trial."""
    one = found.trials[index]
    said = {True: "within", False: "not within", None: ""}[one.within]
    words = [part for part in ("ships" if index == found.chosen else "", said, one.stopped or "") if part]
    return ", ".join(words) or "–"
