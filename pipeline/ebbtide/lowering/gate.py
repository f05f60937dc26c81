"""The gate: a lowered program must decide, sample by sample, as the model that it was lowered from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ebbtide.engine import Array, Loaded
from ebbtide.errors import EbbtideError
from ebbtide.lowering.spec import MethodSpec, ProgramSpec, methods_of

MINIMUM_SAMPLES = 512
TOLERANCE = 1e-3

_BATCH = 64


@dataclass(frozen=True)
class MethodGap:
    """How far one lowered method is from the eager one, over all samples.

    Args:
        method: its name.
        logits: largest absolute difference of a logit; for a stage, of an element of its output.
        confidence: largest absolute difference of a confidence; 0 for a stage.
        probability: largest absolute difference of a probability; 0 for a stage.
        labels: how many samples got another label.
        worst: index of the sample with the largest difference of confidence (of an element, for a stage).
    """

    method: str
    logits: float
    confidence: float
    probability: float
    labels: int
    worst: int


@dataclass(frozen=True)
class Scores:
    """What the exits and the head of a program put out, by method name, for n samples.

    Args:
        logits: (n, k) float32 each.
        probabilities: (n, k) float32 each.
        confidences: (n,) float32 each.
    """

    logits: dict[str, Array]
    probabilities: dict[str, Array]
    confidences: dict[str, Array]

    def labels(self, method: str) -> NDArray[np.int64]:
        """Index of the largest logit, the lowest on a tie."""
        best: NDArray[np.int64] = self.logits[method].argmax(axis=1)
        return best


@dataclass(frozen=True)
class GateReport:
    """What the gate saw.

    Args:
        samples: how many.
        methods: the gaps, in the program's order.
        configurations: the names of the configurations held against each other; all agree on label and exit.
    """

    samples: int
    methods: tuple[MethodGap, ...]
    configurations: tuple[str, ...]


def gate(
    spec: ProgramSpec,
    loaded: Loaded,
    samples: Array,
    *,
    configurations: Mapping[str, Mapping[int, float]],
    ids: Sequence[str] | None = None,
    minimum: int = MINIMUM_SAMPLES,
    tolerance: float = TOLERANCE,
) -> GateReport:
    """Hold a lowered float32 program against its modules.

    Args:
        spec: what was lowered.
        loaded: the program in an engine.
        samples: (n, *input_shape) float32, preprocessed, n >= `minimum`.
        configurations: by name, the exits that are on: position to threshold (leave when confidence > threshold in
            float32). An empty one leaves at the head.
        ids: names of the samples for messages; their indices by default.
        minimum: fewest samples that will do.
        tolerance: largest difference of a confidence.

    Raises:
        EbbtideError: ``lowering.gate`` naming method, sample and the two values; ``lowering.spec`` for too few samples
            or a threshold where there is no exit.
    """
    names = [str(index) for index in range(len(samples))] if ids is None else list(ids)
    if len(samples) < minimum or len(names) != len(samples):
        raise EbbtideError(
            "lowering.spec",
            f"The gate got {len(samples)} samples and {len(names)} ids.",
            expected=f"at least {minimum}, as many of one as of the other",
            place=spec.id,
        )
    eager, lowered, gaps = compare(spec, loaded, samples)
    for gap in gaps:
        if gap.method in eager.logits:
            _same_scores(spec, eager, lowered, method=gap.method, names=names, tolerance=tolerance)
    for configuration, thresholds in configurations.items():
        _same_decisions(spec, eager, lowered, thresholds=thresholds, names=names, configuration=configuration)
    return GateReport(len(samples), gaps, tuple(configurations))


def compare(spec: ProgramSpec, loaded: Loaded, samples: Array) -> tuple[Scores, Scores, tuple[MethodGap, ...]]:
    """Run every method of both on every sample, each on what the stages before it put out on its own side.

    Returns:
        The eager scores, the lowered scores (the records from which thresholds are chosen for good), the gaps.
    """
    methods = list(methods_of(spec))
    eager, lowered = _empty(methods), _empty(methods)
    far = {method.name: (-1.0, 0) for method in methods if method.kind == "stage"}
    for start in range(0, len(samples), _BATCH):
        batch = np.ascontiguousarray(samples[start : start + _BATCH])
        kept = _eager_batch(methods, batch, eager)
        for row in range(len(batch)):
            value = batch[row : row + 1]
            for method in methods:
                outputs = loaded.run(method.name, value)
                if method.kind != "stage":
                    _append(lowered, method.name, outputs)
                    continue
                (value,) = outputs
                gap = float(np.abs(value - kept[method.name][row : row + 1]).max())
                if not gap <= far[method.name][0]:
                    far[method.name] = (gap, start + row)
    ours, theirs = _joined(eager), _joined(lowered)
    gaps = [
        MethodGap(method.name, far[method.name][0], 0.0, 0.0, 0, far[method.name][1])
        if method.kind == "stage"
        else _gap(method.name, ours, theirs)
        for method in methods
    ]
    return ours, theirs, tuple(gaps)


_Parts = dict[str, list[tuple[Array, ...]]]


def _empty(methods: Sequence[MethodSpec]) -> _Parts:
    return {method.name: [] for method in methods if method.kind != "stage"}


def _append(parts: _Parts, method: str, outputs: tuple[Array, ...]) -> None:
    parts[method].append(outputs)


def _eager_batch(methods: Sequence[MethodSpec], batch: Array, parts: _Parts) -> dict[str, Array]:
    value, kept = torch.from_numpy(batch), {}
    with torch.inference_mode():
        for method in methods:
            output = method.eager()(value)
            if method.kind == "stage":
                value = output
                kept[method.name] = output.numpy()
            else:
                _append(parts, method.name, tuple(part.numpy() for part in output))
    return kept


def _joined(parts: _Parts) -> Scores:
    whole = {name: [np.concatenate(column) for column in zip(*rows, strict=True)] for name, rows in parts.items()}
    return Scores(
        logits={name: columns[2] for name, columns in whole.items()},
        probabilities={name: columns[0] for name, columns in whole.items()},
        confidences={name: columns[1] for name, columns in whole.items()},
    )


def _gap(method: str, eager: Scores, lowered: Scores) -> MethodGap:
    confidence = _apart(eager.confidences[method], lowered.confidences[method])
    return MethodGap(
        method=method,
        logits=float(_apart(eager.logits[method], lowered.logits[method]).max()),
        confidence=float(confidence.max()),
        probability=float(_apart(eager.probabilities[method], lowered.probabilities[method]).max()),
        labels=int((eager.labels(method) != lowered.labels(method)).sum()),
        worst=int(confidence.argmax()),
    )


def _apart(ours: Array, theirs: Array) -> Array:
    # Not a number on either side is as far apart as can be, and must not slip through a comparison.
    apart: Array = np.nan_to_num(np.abs(ours - theirs), nan=np.inf)
    return apart


def _same_scores(
    spec: ProgramSpec, eager: Scores, lowered: Scores, *, method: str, names: Sequence[str], tolerance: float
) -> None:
    apart = _apart(eager.confidences[method], lowered.confidences[method])
    worst = int(apart.argmax())
    if apart[worst] > tolerance:
        ours, theirs = eager.confidences[method][worst], lowered.confidences[method][worst]
        raise _refusal(spec, method, names[worst], what="confidence", ours=f"{ours:.6g}", theirs=f"{theirs:.6g}")


def _same_decisions(
    spec: ProgramSpec,
    eager: Scores,
    lowered: Scores,
    *,
    thresholds: Mapping[int, float],
    names: Sequence[str],
    configuration: str,
) -> None:
    last = "forward" if spec.single else "head"
    for position in thresholds:
        if position not in spec.exits:
            raise EbbtideError(
                "lowering.spec",
                f"Configuration {configuration!r} has a threshold at position {position}, where there is no exit.",
                expected=f"some of {sorted(spec.exits)}",
                place=spec.id,
            )
    left = [decisions(scores, thresholds, last=last) for scores in (eager, lowered)]
    for sample, (ours, theirs) in enumerate(zip(*left, strict=True)):
        if ours[0] != theirs[0]:
            first, second = (
                f"leaves at {method} (confidence at {ours[0]}: {scores.confidences[ours[0]][sample]:.6g})"
                for method, scores in ((ours[0], eager), (theirs[0], lowered))
            )
            what = f"exit under {configuration!r}"
            raise _refusal(spec, ours[0], names[sample], what=what, ours=first, theirs=second)
        if ours[1] != theirs[1]:
            raise _refusal(
                spec, ours[0], names[sample], what="label", ours=f"class {ours[1]}", theirs=f"class {theirs[1]}"
            )


def decisions(scores: Scores, thresholds: Mapping[int, float], *, last: str = "head") -> list[tuple[str, int]]:
    """For each sample the method at which it leaves and its label.

    Args:
        scores: of every exit named by `thresholds` and of `last`.
        thresholds: by position; leave when confidence > threshold, both float32.
        last: where a sample leaves that no exit kept.
    """
    count = len(scores.confidences[last])
    left = np.full(count, last, dtype=object)
    label = scores.labels(last).copy()
    open_ = np.ones(count, dtype=bool)
    for position in sorted(thresholds):
        name = f"exit{position}"
        leaves = open_ & (scores.confidences[name] > np.float32(thresholds[position]))
        left[leaves], label[leaves] = name, scores.labels(name)[leaves]
        open_ &= ~leaves
    return [(str(method), int(index)) for method, index in zip(left, label, strict=True)]


def _refusal(spec: ProgramSpec, method: str, sample: str, *, what: str, ours: str, theirs: str) -> EbbtideError:
    return EbbtideError(
        "lowering.gate",
        f"Lowered {method!r} of {spec.id!r} differs from the model in {what} for sample {sample}.",
        expected=f"{ours} (eager)",
        found=f"{theirs} (lowered)",
        hint="lower again; if it stays, choose other stages or report the model",
        place=f"{spec.id}/{method}",
        details={"program": spec.id, "method": method, "sample": sample, "eager": ours, "lowered": theirs},
    )
