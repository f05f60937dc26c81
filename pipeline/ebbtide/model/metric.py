"""What a recipe counts as right: accuracy, balanced accuracy, macro F1."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from ebbtide.errors import EbbtideError
from ebbtide.model.graph import Graph

if TYPE_CHECKING:
    from ebbtide.data import Split

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
_BATCH = 256


def metric_value(
    metric: Metric, predictions: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: int | None = None
) -> float:
    """A metric of predictions, 0..1, as scikit-learn defines it.

    Balanced accuracy is the mean recall of the classes that occur in the labels; macro F1 the mean F1 of those that
    occur in the labels or predictions. 0 where there are no samples.

    Args:
        metric: which one.
        predictions: class indices (n,).
        labels: class indices (n,).
        classes: number of classes; None: those up to the last that occurs.
    """
    if len(labels) == 0:
        return 0.0
    if classes is None:
        classes = int(max(predictions.max(), labels.max())) + 1
    if metric == "accuracy":
        return float(np.mean(predictions == labels))
    hits = np.bincount(labels[predictions == labels], minlength=classes).astype(np.float64)
    actual = np.bincount(labels, minlength=classes)
    if metric == "balanced_accuracy":
        return float(np.mean(hits[actual > 0] / actual[actual > 0]))
    if metric == "macro_f1":
        total = actual + np.bincount(predictions, minlength=classes)
        return float(np.mean(2 * hits[total > 0] / total[total > 0]))
    known = ", ".join(get_args(Metric))
    raise EbbtideError(
        "recipe.value",
        f"There is no metric {metric!r}",
        expected=f"one of {known}",
        place="metric",
        hint="Write one of these.",
    )


def predict(model: Callable[[torch.Tensor], torch.Tensor], split: Split) -> np.ndarray[Any, Any]:
    """The class that a model finds for each sample of a split, (n,) int64; a Graph is run in evaluation mode."""
    device = model.device if isinstance(model, Graph) else torch.device("cpu")
    was_training = isinstance(model, Graph) and model.training
    if isinstance(model, Graph):
        model.eval()
    try:
        with torch.inference_mode():
            found = [model(x.to(device)).argmax(1).cpu().numpy() for x, _ in split.batches(_BATCH)]
    finally:
        if was_training and isinstance(model, Graph):
            model.train()
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def evaluate(model: Callable[[torch.Tensor], torch.Tensor], split: Split, *, metric: Metric) -> float:
    """A model's metric on a split, 0..1.

    Args:
        model: takes a batch, puts out logits; a Graph is run in evaluation mode on its device.
        split: labelled samples.
        metric: which one.
    """
    return metric_value(metric, predict(model, split), np.asarray(split.labels))


_WRONG_INPUT = "The usual cause is a wrong normalisation (data.input.mean and std), channel order, or order of classes."


def chance_warning(
    value: float,
    labels: np.ndarray[Any, Any],
    *,
    metric: Metric,
    classes: int,
    subject: str = "The model",
    cause: str = _WRONG_INPUT,
) -> str | None:
    """What to tell the user where a trained model does no better than a guess, else None.

    A guess is the commonest class for accuracy, and 1 / classes for the other metrics; within half again of that
    (or a point) a trained model is suspicious. `subject` and `cause` say what was measured and what is likely wrong.
    """
    counts = np.bincount(labels, minlength=classes)
    chance = float(counts.max(initial=0) / max(len(labels), 1)) if metric == "accuracy" else 1.0 / classes
    if value > max(1.5 * chance, chance + 0.01) or chance > 0.9:
        return None
    return f"{subject}'s {metric.replace('_', ' ')} is {value:.2%}, and a guess gets {chance:.2%}. {cause}"
