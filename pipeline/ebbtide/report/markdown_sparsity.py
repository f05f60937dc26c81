"""The report's section on the model for a class set, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.report import sparsity_words, wording
from ebbtide.report.markdown_text import escaped, score, table
from ebbtide.report.personal import Sparsity
from ebbtide.report.record import BuildRecord


def sparsity_parts(record: BuildRecord, found: Sparsity) -> Iterator[str]:
    """Paragraphs and tables in their order."""
    yield escaped(sparsity_words.summary(found))
    yield _models(record, found)
    yield escaped(sparsity_words.cost_note(record, found))
    yield _drops(found)
    packed = sparsity_words.packed_summary(found.packed)
    if packed:
        yield escaped(packed)
    if found.whole:
        yield "\n".join(
            f"- stays as it is: {escaped(', '.join(one.subjects))} ({escaped(one.reason)})" for one in found.whole
        )


def _models(record: BuildRecord, found: Sparsity) -> str:
    header = ("Model", "Select", "Test", "MACs", "p50 / p90", "Passes")
    rows = [
        (
            sparsity_words.RIVALS[one.name],
            score(record, one.select),
            score(record, one.test),
            wording.amount(one.macs),
            wording.latency(one.latency),
            str(one.passes),
        )
        for one in (found.universal, found.tuned)
        if one is not None
    ]
    rows += [
        (
            f"{number}: {wording.percent(one.kept)}",
            score(record, one.select),
            score(record, one.test),
            sparsity_words.macs_words(one),
            wording.latency(one.latency),
            str(one.passes),
        )
        for number, one in enumerate(found.trials, 1)
    ]
    return table(header, rows)


def _drops(found: Sparsity) -> str:
    header = ("Trial", "Allowed", "Left", "From", "Loss on select", "Loss on test", "Verdict")
    rows = [
        (
            str(index + 1),
            wording.percent(one.budget),
            wording.percent(one.kept),
            sparsity_words.origin_words(one),
            sparsity_words.drop_words(one.drop),
            sparsity_words.drop_words(one.drop_test),
            escaped(sparsity_words.verdict_words(found, index)),
        )
        for index, one in enumerate(found.trials)
    ]
    return table(header, rows)
