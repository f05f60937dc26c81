"""The report as Markdown: the same tables without the pictures, for a repository or a pull request."""

from __future__ import annotations

import re

from ebbtide.report import sparsity_words, wording
from ebbtide.report.markdown_early import early_parts
from ebbtide.report.markdown_outside import outside_parts
from ebbtide.report.markdown_sparsity import sparsity_parts
from ebbtide.report.markdown_text import escaped, score, table
from ebbtide.report.markdown_widths import width_parts
from ebbtide.report.record import BuildRecord, Configuration, Dense


def _fenced(text: str) -> str:
    # The fence must be longer than any run of back ticks inside, or the text could end it.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"


def render_markdown(record: BuildRecord) -> str:
    """The whole report as Markdown text."""
    parts = [
        f"# {escaped(record.name)}",
        f"Build report, sequence {record.sequence}, {escaped(record.created)}, {escaped(record.generator)}.",
        f"**{escaped(sparsity_words.verdict(record))}**",
        escaped(wording.promise_summary(record)),
        headline(record),
    ]
    parts += [f"> **{escaped(n.kind)}: {escaped(n.subject)}.** {escaped(n.text)}" for n in record.notices]
    if record.sparsity:
        parts += ["## The model for the class set", *sparsity_parts(record, record.sparsity)]
    parts += ["## Tiers", _tiers(record)]
    if record.classes:
        parts += ["## Classes", _classes(record)]
    parts += ["## Cost", *_cost(record)]
    if record.widths:
        parts += ["## Widths", *width_parts(record, record.widths)]
    if record.outside:
        parts += ["## Outside", *outside_parts(record, record.outside)]
    if record.early:
        parts += ["## Early exits", *early_parts(record, record.early)]
    if record.exits:
        parts += ["## Exits", _exits(record)]
    if record.devices:
        parts += ["## Bundles", _bundles(record)]
    if record.gates:
        parts += ["## Gate", _gates(record)]
    parts += ["## Provenance", *_provenance(record), "## Recipe", _fenced(record.recipe)]
    return "\n\n".join(parts) + "\n"


def headline(record: BuildRecord) -> str:
    """The table that also stands first on the HTML page."""
    header = (
        "Configuration",
        "Promised (select)",
        "Measured (test)",
        "Mean MACs",
        "p50 / p90",
        "Programs",
        "Peak memory",
    )

    def row(name: str, one: Configuration | Dense, macs: float) -> tuple[str, ...]:
        return (
            name,
            wording.percent(one.select.accuracy if one.select else None),
            score(record, one.test),
            f"{wording.amount(macs)} ({wording.ratio(macs, record.dense.macs)})",
            wording.latency(one.latency),
            wording.size(one.size_bytes),
            wording.size(one.peak_bytes),
        )

    rows = [row(escaped(wording.configuration_label(record, one)), one, one.mean_macs) for one in record.tiers]
    return table(header, [*rows, row("dense model", record.dense, record.dense.macs)])


def _tiers(record: BuildRecord) -> str:
    lines = []
    for one in record.tiers:
        steps = [
            step.method.rpartition("/")[2]
            + (f" > {wording.percent(step.probability, 2)}" if step.threshold is not None else "")
            for step in one.path
        ]
        judged = wording.promise(record, one)
        told = [escaped(one.reason)] if one.reason else []
        told += [f"promise {escaped(judged.text)}"] if judged else []
        for split, shares in (("select", one.shares_select), ("test", one.shares_test)):
            if shares:
                left = ", ".join(f"{escaped(part.name)} {wording.percent(part.share)}" for part in shares)
                told.append(f"leaving on {split}: {left}")
        path = escaped(" → ".join(steps))
        lines.append(
            f"- **{escaped(wording.configuration_label(record, one))}**: {path}" + "".join(f"; {part}" for part in told)
        )
    return "\n".join(lines)


def _classes(record: BuildRecord) -> str:
    header = ("Class", "Samples", *(wording.configuration_name(one) for one in record.tiers), "dense")
    rows = [
        (
            escaped(row.name),
            str(row.n),
            *(wording.percent(row.accuracy.get(one.id)) for one in record.tiers),
            wording.percent(row.dense),
        )
        for row in record.classes
    ]
    return table(header, rows)


def _cost(record: BuildRecord) -> list[str]:
    model = record.model
    about = (
        f"{model.source}: {wording.amount(model.parameters)} parameters, {wording.amount(model.macs)} MACs, "
        f"{wording.size(model.weight_bytes)} of weights, input {wording.shape(model.input_shape)}; "
        f"{wording.classes_summary(model)}."
    )
    header = ("Method", "MACs", "Parameters", "Weights", "Hands on", "p50 / p90", "Delegated")
    rows = [
        (
            escaped(one.name),
            wording.amount(one.macs),
            wording.amount(one.parameters),
            wording.size(one.weight_bytes),
            wording.shape(one.output_shape),
            wording.latency(one.latency),
            wording.percent(one.delegated_share, 0),
        )
        for one in model.stages
    ]
    parts = [escaped(about), table(header, rows)]
    if record.boundary:
        cost = record.boundary
        parts.append(
            f"{cost.stages} stages one after the other take {cost.ratio:.3f}× the time of one method (quartiles "
            f"{cost.spread:.3f} apart, {cost.rounds} rounds, threads: {cost.threads})."
        )
    return parts


def _exits(record: BuildRecord) -> str:
    header = ("Exit", "Type", "After stage", "Accuracy on select", "Own MACs", "Temperature")
    rows = [
        (
            escaped(one.name),
            escaped(one.type),
            str(one.position),
            score(record, one.select),
            wording.amount(one.macs),
            f"{one.temperature:.3f}",
        )
        for one in record.exits
    ]
    return table(header, rows, left=2)


def _bundles(record: BuildRecord) -> str:
    header = ("Device", "Bundle", "Manifest SHA-256", "Shares programs with", "Raw", "As xz")
    rows = [
        (
            escaped(one.profile),
            escaped(one.bundle),
            f"`{escaped(one.manifest_sha256)}`",
            escaped(", ".join(one.shares_programs_with)) or "–",
            wording.size(one.raw_bytes),
            wording.size(one.xz_bytes),
        )
        for one in record.devices
    ]
    return table(header, rows, left=4)


def _gates(record: BuildRecord) -> str:
    header = ("Program", "Samples", "Labels differ", "Exits differ", "Largest score difference", "Result")
    rows = [
        (
            escaped(one.program),
            f"{one.samples:,}",
            str(one.labels_differ),
            str(one.exits_differ),
            f"{one.largest_score_difference:.1e} (limit {one.score_limit:.0e})",
            "passed" if one.passed else "failed",
        )
        for one in record.gates
    ]
    return table(header, rows)


def _provenance(record: BuildRecord) -> list[str]:
    found = record.provenance
    parts = []
    if found.splits:
        splits = [(escaped(one.name), f"{one.count:,}", f"`{escaped(one.digest[:16])}`") for one in found.splits]
        parts.append(table(("Split", "Samples", "Digest of ids"), splits))
    facts = [(escaped(name), escaped(value)) for name, value in found.versions.items()]
    facts += [(f"seed of {escaped(name)}", str(value)) for name, value in found.seeds.items()]
    facts += [(f"SHA-256 of {escaped(name)}", f"`{escaped(value)}`") for name, value in found.hashes.items()]
    if record.machine:
        machine = record.machine
        words = f"{machine.cpu}, {machine.cores} cores, {wording.size(machine.memory_bytes)}, {machine.system}"
        facts.append(("measured on", escaped(words)))
    facts += [(f"step {escaped(one.step)}", wording.seconds(one.seconds)) for one in record.timings]
    if facts:
        parts.append(table(("Fact", "Value"), facts, left=2))
    return parts
