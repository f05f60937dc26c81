"""One pass that gathers both gradient statistics of a model whose weights stand still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ebbtide.errors import EbbtideError
from ebbtide.model import Graph
from ebbtide.model.operators import name_of, set_argument
from ebbtide.saliency.statistics import Norm, Statistics
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.data import Split


def collect(
    graph: Graph,
    split: Split,
    *,
    batches: int = 100,
    batch_size: int = 100,
    seed: int = 0,
    norm: Norm = "eval",
    classes: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Statistics:
    """Gather the signed sum and the absolute mean of the gradients of batches, both in one pass.

    The pass runs on a copy, so the graph, its running statistics included, is the same to the bit afterwards. Dropout
    is off; `norm` decides for batch norm alone. Samples are drawn without repetition in an order that follows from the
    seed; when they are used up they are shuffled again. Parameters that do not affect the logits have gradients of 0,
    those that are frozen (``requires_grad`` off) are treated as all others.

    Importance by the product of weight and gradient is the first-order Taylor estimate of Molchanov et al. 2019
    (arXiv:1906.10771); summing signed gradients over batches is the form of Corti et al. 2023 (arXiv:2311.13349).

    Args:
        graph: a trained classifier; it is evaluated where its parameters are.
        split: labelled samples, never those that the report's numbers come from; labels count in the graph's outputs.
        batches: how many, 1 or more.
        batch_size: samples in each, 1 or more; with `norm` "train" 2 or more.
        seed: of the order of samples, 0 or more.
        norm: "eval": batch norm uses its running statistics, as when the model runs; "train": those of the batch.
        classes: take only samples of these labels; None takes all.
        progress: a task of batches, with the mean loss so far.

    Raises:
        EbbtideError: ``saliency.plan`` for numbers out of range, ``saliency.too_few`` where the samples do not fill one
            batch, ``saliency.nonfinite`` where a loss or gradient is NaN or infinite.
    """
    chosen = _samples(graph, split, classes)
    _check(batches, batch_size, seed, norm, available=len(chosen))
    twin = graph.copy().eval()
    if norm == "train":
        _use_batch_statistics(twin)
    parameters = dict(twin.module.named_parameters(remove_duplicate=False))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    signed = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    absolute = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    total = 0.0
    with progress.task("gradients", total=batches) as task:
        for number, indices in enumerate(_draw(chosen, batches, batch_size, seed), start=1):
            twin.module.zero_grad(set_to_none=True)
            x, y = split.tensor(indices).to(twin.device), split.targets(indices).to(twin.device)
            loss = F.cross_entropy(twin(x), y)
            if not torch.isfinite(loss):
                raise _nonfinite(f"The loss of batch {number} of {batches} is {float(loss.detach())}", None)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, parameter in parameters.items():
                if parameter.grad is None:
                    continue
                if not torch.isfinite(parameter.grad).all():
                    raise _nonfinite(f"The gradient of {name} in batch {number} of {batches} is not finite", name)
                signed[name] += parameter.grad
                absolute[name] += parameter.grad.abs()
            total += float(loss.detach())
            task.advance(1, loss=total / number)
    return Statistics(
        signed={name: found.float().cpu() for name, found in signed.items()},
        absolute={name: (found / batches).float().cpu() for name, found in absolute.items()},
        batches=batches,
        batch_size=batch_size,
        norm=norm,
        classes=None if classes is None else tuple(sorted({int(label) for label in classes})),
        samples=len(chosen),
        seed=seed,
    )


def _samples(graph: Graph, split: Split, classes: Sequence[int] | None) -> NDArray[np.int64]:
    """Positions of the samples to draw from, ascending."""
    labels = np.asarray(split.labels)
    unknown = sorted({int(label) for label in (*np.unique(labels), *(classes or ())) if not 0 <= label < graph.classes})
    if unknown or (classes is not None and len(classes) == 0):
        raise EbbtideError(
            "saliency.plan",
            "The samples have labels that the model has no output for."
            if unknown
            else "No classes are left to collect gradients on.",
            expected=f"labels from 0 to {graph.classes - 1}",
            found=", ".join(map(str, unknown)) or "none",
            hint="Give the split that the model's outputs belong to, and classes among them.",
        )
    taken = np.ones(len(labels), bool) if classes is None else np.isin(labels, np.asarray(classes))
    return np.flatnonzero(taken)


def _check(batches: int, batch_size: int, seed: int, norm: str, *, available: int) -> None:
    smallest = 2 if norm == "train" else 1
    if batches < 1 or batch_size < smallest or seed < 0 or norm not in ("eval", "train"):
        raise EbbtideError(
            "saliency.plan",
            "The gradients cannot be collected in this way.",
            expected=f"batches of 1 or more, batch_size of {smallest} or more, seed of 0 or more, norm eval or train",
            found=f"batches {batches}, batch_size {batch_size}, seed {seed}, norm {norm}",
        )
    if available < batch_size:
        raise EbbtideError(
            "saliency.too_few",
            "There are too few samples to collect gradients on.",
            expected=f"{batch_size}, which is one batch",
            found=str(available),
            hint="Lower batch_size, take more classes, or give more data.",
        )


def _draw(chosen: NDArray[np.int64], batches: int, batch_size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Positions of the samples of each batch; what does not fill a batch waits for the next shuffle."""
    random = np.random.default_rng(seed)
    per_pass = len(chosen) // batch_size
    for number in range(batches):
        if number % per_pass == 0:
            order = random.permutation(chosen)
        start = number % per_pass * batch_size
        # Reading a mapped file in ascending order touches each page once.
        yield np.sort(order[start : start + batch_size])


def _use_batch_statistics(graph: Graph) -> None:
    for node in graph.module.graph.nodes:
        if name_of(node) == "batch_norm":
            set_argument(node, "training", True)
    graph.module.recompile()


def _nonfinite(message: str, place: str | None) -> EbbtideError:
    return EbbtideError(
        "saliency.nonfinite",
        message,
        place=place,
        hint="Look for extreme values in the data and for weights that overflow; train again with a lower "
        "learning_rate.",
    )
