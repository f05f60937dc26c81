"""What the report shows of a model made smaller for its class set, gathered from the steps of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebbtide.build.measuring import Measurements
from ebbtide.build.sparsity import Shrinking
from ebbtide.build.sparsity_rivals import Rivals, record_times
from ebbtide.build.sparsity_trials import Made
from ebbtide.build.stages_summary import latency_of
from ebbtide.build.widths_summary import whole_by_reason

if TYPE_CHECKING:
    from ebbtide.report import facts, personal


def summarise_sparsity(
    shrinking: Shrinking,
    rivals: Rivals,
    scored: dict[str, Any],
    packed: dict[str, Any] | None,
    measurements: Measurements,
) -> personal.Sparsity:
    """The section on the model for the class set.

    Args:
        shrinking: what was tried.
        rivals: programs that were timed.
        scored: what they say on test (`score_rivals`).
        packed: sizes of the packed form; None where nothing is masked.
        measurements: of this host.
    """
    from ebbtide.report import personal

    workshop, told = shrinking.workshop, shrinking.plan["pattern"]
    section, words = workshop.section, workshop.universal.facts
    masked = section.pattern == "hybrid"
    sizes = f"blocks of {told['block']}, {told['n']}:{told['m']}" if masked else f"multiples of {told['multiple']}"
    latency = latency_of(record_times(measurements, rivals.untouched))

    def rival(name: Any, made: Made) -> personal.Rival:
        key = "untouched" if name == "universal" else "tuned"
        return personal.Rival(
            name=name,
            macs=made.model["macs"],
            passes=made.facts["passes"],
            select=_on_select(shrinking, made),
            test=_scored(scored[key], scored["n"]),
            latency=latency,
        )

    def timed(index: int) -> facts.Latency | None:
        program = rivals.taken if index == shrinking.chosen else rivals.trials.get(index, rivals.untouched)
        return latency_of(record_times(measurements, program))

    return personal.Sparsity(
        pattern=section.pattern,
        sizes=sizes,
        unit=section.unit,
        scores=section.scores,
        teacher=section.distillation.teacher,
        max_drop_points=section.max_drop_points,
        confidence=section.confidence,
        reference=section.reference,
        all_classes=len(words["class_set"]) == len(words["universal_classes"]),
        universal=rival("universal", shrinking.untouched),
        tuned=None if shrinking.tuned is None else rival("tuned", shrinking.tuned),
        trials=tuple(
            _tried(shrinking, index, scored["trials"][index], scored["n"], timed(index))
            for index in range(len(shrinking.trials))
        ),
        chosen=shrinking.chosen,
        whole=tuple(whole_by_reason(shrinking.plan["whole"])),
        packed=None if packed is None else _packed(packed),
    )


def _tried(
    shrinking: Shrinking, index: int, scored: dict[str, Any], count: int, latency: facts.Latency | None
) -> personal.Tried:
    from ebbtide.report import personal

    made = shrinking.trials[index]
    verdict = shrinking.verdicts[index] if shrinking.verdicts else None
    start = made.inputs["start"]
    return personal.Tried(
        budget=made.facts["budget"],
        kept=min(1.0, made.facts["kept"]),
        macs=made.model["macs"],
        kept_macs=made.facts["kept_macs"],
        passes=made.facts["passes"],
        started=None if start is None else start["budget"],
        select=_on_select(shrinking, made),
        test=_scored(scored["value"], count),
        latency=latency,
        drop=None if verdict is None else _drop(verdict["drop"]),
        drop_test=_drop(scored["drop"]),
        within=None if verdict is None else verdict["within"],
        stopped=made.facts["stopped"],
    )


def _drop(found: dict[str, Any]) -> personal.Drop:
    from ebbtide.report import personal

    return personal.Drop(
        n=found["samples"],
        lost=found["lost"],
        won=found["won"],
        points=found["points"],
        bound_points=found["bound_points"],
    )


def _on_select(shrinking: Shrinking, made: Made) -> facts.Scored:
    return _scored(made.facts["select"], shrinking.workshop.universal.samples("select"))


def _scored(value: float, count: int) -> facts.Scored:
    from ebbtide.report import facts

    return facts.Scored(accuracy=value, n=count)


def _packed(found: dict[str, Any]) -> personal.Packed:
    from ebbtide.report import personal

    formula = found["formula"]
    bits = formula["index_bits"] + formula["block_bits"]
    return personal.Packed(
        file=found["file"],
        dense_bytes=found["dense"],
        dense_xz_bytes=found["dense_xz"],
        packed_bytes=found["packed"],
        packed_xz_bytes=found["packed_xz"],
        formula_bytes=formula["value_bytes"] + (bits + 7) // 8,
        sparsity=found["sparsity"],
    )
