"""The file that a training run continues from after it was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save

from ebbtide.steps import Progress, storage_errors, write_bytes


class Stateful(Protocol):
    """Whose tensors are kept."""

    def state(self) -> dict[str, torch.Tensor]:
        """All that a continued run needs, by name; not copied."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy back what `state` gave."""


class TrainingFile:
    """Weights, optimiser state and history after the last whole epoch, in one .safetensors file.

    Args:
        path: where; its folder exists.
        identity: what the run depends on; a file of another run is not continued from.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.identity = identity

    def write(self, trained: Stateful, optimizer: torch.optim.Optimizer, epochs: list[dict[str, Any]]) -> None:
        """Replace the file by the present state; at every moment it is whole.

        Raises:
            EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
        """
        tensors = {f"model/{name}": tensor for name, tensor in trained.state().items()}
        for index, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer/{index}/{key}"] = value
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        data = save(own, {"identity": self.identity, "epochs": json.dumps(epochs)})
        with storage_errors(self.path.parent):
            write_bytes(self.path, data)

    def restore(
        self, trained: Stateful, optimizer: torch.optim.Optimizer, *, progress: Progress
    ) -> list[dict[str, Any]]:
        """Fill trainee and optimiser from the file and return its history; an empty one where there is none to use.

        A damaged file, or one of another run, is not used, and that is said.
        """
        if not self.path.is_file():
            return []
        try:
            with safe_open(self.path, framework="pt") as stored:
                facts = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            epochs: list[dict[str, Any]] = json.loads(facts["epochs"])
        except Exception as error:
            progress.say(f"The checkpoint {self.path.name} is damaged ({type(error).__name__}); training starts over.")
            return []
        if facts.get("identity") != self.identity:
            progress.say(f"The checkpoint {self.path.name} belongs to another training run; training starts over.")
            return []
        trained.load({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
        parameters = _parameters(optimizer)
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                _place(optimizer, parameters[int(index)], key, tensor)
        progress.say(f"Training continues after epoch {len(epochs)}.")
        return epochs


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _place(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, key: str, value: torch.Tensor) -> None:
    if value.shape == parameter.shape and key != "step":
        # In the parameter's own memory order and device, as the optimiser would have made it.
        value = torch.empty_like(parameter, requires_grad=False).copy_(value)
    optimizer.state[parameter][key] = value
