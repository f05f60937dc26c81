"""Backbone and exits trained together, distilled from the original: a new backbone, not the one that came.

EENN (arXiv:2403.07957, section "Build" of its code) ends with such epochs, with the plain sum of all losses and without
a teacher. Here the original model teaches every exit and the head, so that what the head knew is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ebbtide.errors import EbbtideError
from ebbtide.exits.key import ExitKey
from ebbtide.exits.protocol import Exit
from ebbtide.model import Graph, History, Metric, cut_points, metric_value
from ebbtide.model.cuts import find
from ebbtide.model.loss import Distillation, blended_loss
from ebbtide.model.training import batch_on, computing_in, fit, training_precision
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.data import Split
    from ebbtide.recipe import TrainingSection

_BATCH = 256
_RIDERS = "ebbtide_exits"


@dataclass(frozen=True)
class Joint:
    """What joint training made.

    Attributes:
        graph: the new backbone; the original is as it was.
        exits: trained, in evaluation mode; they belong to this backbone alone.
        history: of the run; the levels of its epochs are the exits, by ``str`` of their keys.
    """

    graph: Graph
    exits: dict[ExitKey, Exit]
    history: History


def train_joint(
    graph: Graph,
    cuts: Sequence[str],
    exits: Mapping[ExitKey, Exit],
    train: Split,
    select: Split,
    *,
    settings: TrainingSection,
    metric: Metric,
    exit_share: float = 0.5,
    weight: float = 0.5,
    temperature: float = 2.0,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Joint:
    """Train a copy of a backbone together with copies of its exits.

    The loss is (1 - s) times the head's and s times the mean of the exits', each (1 - w) CE + w T^2 KL to the original
    model's logits on the same batch. All gradients reach the backbone. Killed and continued it ends with the same
    bytes; a divergence raises, and the originals are untouched in any case.

    Args:
        graph: the original.
        cuts: names of its cut points in order; an exit's position is the index of one.
        exits: where to start from, best trained on the frozen backbone.
        train: samples to learn from.
        select: samples that head and exits are shown on after each epoch; nothing is chosen by it.
        settings: optimiser, schedule, precision, seed and device.
        metric: what to show.
        exit_share: s, 0..1.
        weight: w, 0..1.
        temperature: T, above 0.
        checkpoint: file that is written after each epoch and continued from; None keeps none.
        progress: a task of batches, with loss, metrics and seconds to go.

    Raises:
        EbbtideError: ``exits.settings`` for a share out of range or no exit; ``model.distillation``,
            ``model.training_diverged``, ``model.training_device``, ``model.cut_point``.
    """
    if not exits or not 0.0 <= exit_share <= 1.0:
        raise EbbtideError(
            "exits.settings",
            "A backbone and exits cannot be trained together with these settings",
            expected="at least one exit, and a share of the exits' loss from 0 to 1",
            found=f"{len(exits)} exits, share {exit_share:g}",
            place="exits",
        )
    distillation = Distillation(graph, weight, temperature)
    trainee = _Together(graph.copy(), cuts, exits, settings, distillation, exit_share)
    history = fit(
        trainee,
        train,
        select,
        settings=settings,
        metric=metric,
        label="train exits and backbone",
        identity={
            "cuts": list(cuts),
            "exits": [str(key) for key in trainee.keys],
            "start": trainee.graph.digest(),
            "exit_share": exit_share,
            "distillation": distillation.to_json(),
        },
        checkpoint=checkpoint,
        progress=progress,
    )
    return Joint(trainee.graph, trainee.dismount(), history)


class _Together:
    """A backbone and its exits, as what `fit` trains; meanwhile the exits are part of the graph's module."""

    def __init__(
        self,
        graph: Graph,
        cuts: Sequence[str],
        exits: Mapping[ExitKey, Exit],
        settings: TrainingSection,
        distillation: Distillation,
        exit_share: float,
    ) -> None:
        self.graph = graph
        self.keys = tuple(sorted(exits))
        points = cut_points(graph)
        self._nodes = [find(points, cuts[key.position]).node for key in self.keys]
        self._settings, self._distillation, self._exit_share = settings, distillation, exit_share
        self._exits = {key: copy.deepcopy(exits[key]).requires_grad_(True) for key in self.keys}
        graph.module.add_module(_RIDERS, nn.ModuleList(self._exits.values()))

    def dismount(self) -> dict[ExitKey, Exit]:
        """Take the exits off the graph's module."""
        self.graph.module.delete_submodule(_RIDERS)
        return {key: exit_module.eval().requires_grad_(False) for key, exit_module in self._exits.items()}

    def state(self) -> dict[str, Tensor]:
        return self.graph.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.graph.load(state)

    def begin(self) -> None:
        self.graph.train()
        for exit_module in self._exits.values():
            exit_module.train()
        self._device = self.graph.device
        self._precision = training_precision(self._settings.precision, self._device)
        # Built where the tensors stay for the epoch: it shares them.
        self._seeing = _with_maps(self.graph, self._nodes)

    def accumulate(self, x: Tensor, y: Tensor, *, epoch: int, step: int) -> Tensor:
        with computing_in(self._precision, self._device):
            logits = self._logits(x)
            goal = self._distillation.logits(x) if self._distillation.weight else None
        *at_exits, head = (self._loss(one.float(), y, goal) for one in logits)
        loss = (1.0 - self._exit_share) * head + self._exit_share * torch.stack(at_exits).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _logits(self, x: Tensor) -> list[Tensor]:
        """Of every exit, then of the head."""
        head, *maps = self._seeing(x)
        return [*(self._exits[key](value) for key, value in zip(self.keys, maps, strict=True)), head]

    def _loss(self, logits: Tensor, y: Tensor, goal: Tensor | None) -> Tensor:
        return blended_loss(
            logits,
            y,
            goal,
            label_smoothing=self._settings.label_smoothing,
            weight=self._distillation.weight,
            temperature=self._distillation.temperature,
        )

    def scores(self, select: Split, metric: Metric) -> tuple[float, dict[str, float]]:
        self.graph.eval()
        for exit_module in self._exits.values():
            exit_module.eval()
        self._seeing = _with_maps(self.graph, self._nodes)
        found: list[list[Any]] = [[] for _ in (*self.keys, "head")]
        with torch.inference_mode():
            for x, _ in select.batches(_BATCH):
                for rows, logits in zip(found, self._logits(batch_on(x, self._device)), strict=True):
                    rows.append(logits.argmax(1).cpu().numpy())
        labels, classes = np.asarray(select.labels), self.graph.classes
        *at_exits, head = (metric_value(metric, np.concatenate(rows), labels, classes) for rows in found)
        return head, {str(key): value for key, value in zip(self.keys, at_exits, strict=True)}


def _with_maps(graph: Graph, nodes: Sequence[str]) -> fx.GraphModule:
    """The graph in its present mode, with the tensors of some nodes as further outputs; parameters are shared."""
    twin = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    logits = twin.graph_copy(graph.module.graph, copied)
    by_name = {node.name: one for node, one in copied.items()}
    twin.output((logits, *(by_name[name] for name in nodes)))
    return fx.GraphModule(graph.module, twin)
