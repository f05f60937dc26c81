"""What one pass over labelled samples says of every weight, with all that it depends on; kept in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save

from ebbtide.errors import EbbtideError
from ebbtide.steps import storage_errors, write_bytes

Norm = Literal["eval", "train"]

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Statistics:
    """Gradients of the cross-entropy with respect to each parameter, of a model whose weights stood still.

    With L_m the mean loss of batch m, both are of the parameter's shape, float32, on the CPU, per unit of the weight:

    Args:
        signed: parameter name to the sum over batches of dL_m / dW. Batches that pull a weight in opposite directions
            cancel: such a weight stands where the loss is flat.
        absolute: parameter name to the mean over batches of \\|dL_m / dW\\|. Nothing cancels.
        batches: how many batches.
        batch_size: samples in each of them.
        norm: "eval": batch norm used its running statistics; "train": the batch's own.
        classes: labels of the samples that were taken, ascending; None where all were.
        samples: how many different samples there were to take; fewer than batches * batch_size were taken repeatedly.
        seed: of their order.
    """

    signed: Mapping[str, torch.Tensor] = field(repr=False)
    absolute: Mapping[str, torch.Tensor] = field(repr=False)
    batches: int
    batch_size: int
    norm: Norm
    classes: tuple[int, ...] | None
    samples: int
    seed: int

    def save(self, path: Path) -> None:
        """Write one .safetensors file; equal statistics give equal bytes.

        Raises:
            EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
        """
        tensors = {
            f"{kind}/{name}": tensor.contiguous()
            for kind, kept in (("signed", self.signed), ("absolute", self.absolute))
            for name, tensor in kept.items()
        }
        facts = {
            "format": _FORMAT,
            "batches": self.batches,
            "batch_size": self.batch_size,
            "norm": self.norm,
            "classes": None if self.classes is None else list(self.classes),
            "samples": self.samples,
            "seed": self.seed,
        }
        with storage_errors(path.parent):
            write_bytes(path, save(tensors, {"statistics": json.dumps(facts)}))

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """The statistics that `save` wrote.

        Raises:
            EbbtideError: ``saliency.statistics`` where the file is not there, damaged or of another format.
        """
        try:
            with safe_open(path, framework="pt") as stored:
                facts = json.loads((stored.metadata() or {})["statistics"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if facts.pop("format") != _FORMAT:
                raise ValueError("another format")
            kept: dict[str, dict[str, torch.Tensor]] = {"signed": {}, "absolute": {}}
            for name, tensor in tensors.items():
                kind, _, parameter = name.partition("/")
                kept[kind][parameter] = tensor
            classes = facts.pop("classes")
            return cls(
                signed=kept["signed"],
                absolute=kept["absolute"],
                **facts,
                classes=None if classes is None else tuple(classes),
            )
        except Exception as error:
            raise EbbtideError(
                "saliency.statistics",
                f"The gradient statistics cannot be read: {type(error).__name__}: {error}",
                place=str(path),
                hint="Remove the file and collect them again.",
            ) from error
