"""The tail of every exit and head: logits to probabilities and confidence, computed inside the program."""

from __future__ import annotations

import torch
from torch import nn


class Scored(nn.Module):
    """A classifier that puts out ``(probabilities (n, k), confidence (n,), logits (n, k))``, all float32.

    With ``z = logits / temperature``, the probabilities are ``softmax(z)`` and the confidence is the log-odds of the
    best class, ``log(p / (1 - p)) = z_best - log(sum of exp(z) over the other classes)``. The sum is taken relative to
    the second largest score, so nothing saturates where p itself is 1 in float32. On a tie one class is the best and
    its twin counts among the others. Logits are as the classifier gave them.

    Args:
        classifier: puts out logits (n, k), k >= 2.
        temperature: > 0.
    """

    reciprocal: torch.Tensor

    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = float(temperature)
        self.register_buffer("reciprocal", torch.tensor([[1.0 / temperature]], dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score a batch."""
        logits = self.classifier(x)
        scores = logits * self.reciprocal
        largest = torch.topk(scores, 2, dim=1).values
        top, runner_up = largest[:, :1], largest[:, 1:]
        # Scores above the second largest are taken for it, which gives the best class a term of exactly 1: to take that
        # off again is cheaper than to mask the best class out, most of all with many classes.
        rest = torch.exp(torch.clamp(scores - runner_up, max=0.0)).sum(dim=1, keepdim=True) - 1.0
        confidence = (top - runner_up - torch.log(rest)).squeeze(1)
        return torch.softmax(scores, dim=1), confidence, logits
