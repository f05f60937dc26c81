"""The tail of every exit and head: logits to probabilities and confidence, computed inside the program."""

from __future__ import annotations

import torch
from torch import nn


class Scored(nn.Module):
    """A classifier that puts out ``(probabilities (n, k), confidence (n,), logits (n, k))``, all float32.

    With ``z = logits / temperature``, the probabilities are ``softmax(z)`` and the confidence is the log-odds of the
    best class, ``log(p / (1 - p)) = z_best - log(sum of exp(z) over the other classes)``. The sum is taken relative to
    the largest of the others, so nothing saturates where p itself is 1 in float32. On a tie the class of the lowest
    index is the best and the other one counts among the others. Logits are as the classifier gave them.

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
        best = scores.argmax(dim=1, keepdim=True)
        is_best = torch.arange(scores.shape[1], device=scores.device).unsqueeze(0) == best
        top = scores.amax(dim=1, keepdim=True)
        others = torch.where(is_best, -torch.inf, scores)
        runner_up = others.amax(dim=1, keepdim=True)
        rest = torch.log(torch.exp(others - runner_up).sum(dim=1, keepdim=True))
        confidence = (top - runner_up - rest).squeeze(1)
        return torch.softmax(scores, dim=1), confidence, logits
