"""The graph that is the model: what is trained, cut, shrunk and lowered from here on."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from ebbtide.model.operators import DROPOUTS, argument, name_of, set_argument
from ebbtide.model.shapes import device_of, propagate


class Graph:
    """A classifier as a graph of aten operators with its parameters.

    Take a model of two convolutions, ``conv - bn - relu - conv - pool - linear``. Its graph has the nodes
    ``x, conv2d, batch_norm, relu, conv2d_1, adaptive_avg_pool2d, flatten, linear`` in the order they run, one tensor
    in, ``(N, *input_shape)`` float32, and one out, the logits ``(N, classes)``. The batch N is free; everything else
    is fixed. Parameters keep the names that they have in the source module, so its state dicts fit.

    Each node's ``meta["val"]`` is a fake tensor with a symbolic batch; ``meta["nn_module_stack"]`` and
    ``meta["stack_trace"]`` say where in the source it comes from.

    Args:
        module: the graph: one placeholder, one output tensor, no mutation.
        input_shape: shape of a sample: (C, H, W) or (C, T).
        notes: what was done on the way here that a user may want to know, in sentences.

    ``memory`` holds what was found out about the graph and stays true until `refresh`.
    """

    def __init__(self, module: fx.GraphModule, input_shape: tuple[int, ...], *, notes: tuple[str, ...] = ()) -> None:
        self.module = module
        self.input_shape = tuple(input_shape)
        self.notes = notes
        self.memory: dict[str, object] = {}
        self.refresh()

    def refresh(self) -> None:
        """Bring the graph's values up to date after its nodes or parameters were changed."""
        self.memory.clear()
        self.module.graph.lint()
        self.module.recompile()
        for node, value in propagate(self.module, self.input_shape).items():
            node.meta["val"] = value

    @property
    def logits(self) -> fx.Node:
        """The node that puts out the logits."""
        node = self.module.graph.output_node().args[0]
        assert isinstance(node, fx.Node)
        return node

    @property
    def classes(self) -> int:
        """How many classes the logits are for."""
        return int(self.logits.meta["val"].shape[1])

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return device_of(self.module)

    @property
    def training(self) -> bool:
        """Whether batch norm takes the batch's statistics and dropout drops."""
        return self.module.training

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The logits (N, classes) of a batch (N, *input_shape)."""
        result: torch.Tensor = self.module(x)
        return result

    def train(self) -> Graph:
        """Switch batch norm and dropout to training."""
        set_training(self.module, True)
        return self

    def eval(self) -> Graph:
        """Switch batch norm to its running statistics and dropout off."""
        set_training(self.module, False)
        return self

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by their names in the source module; detached, not copied."""
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items()}

    def digest(self) -> str:
        """SHA-256 (hex) over the names, types, shapes and bytes of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state().items()):
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy tensors into the parameters and buffers.

        Raises:
            EbbtideError: ``model.checkpoint_missing``, ``_extra``, ``_shape`` or ``_nonfinite`` with the names.
        """
        from ebbtide.model.checkpoint import fill

        fill(self.module, state, place="state")

    def copy(self) -> Graph:
        """The same graph with parameters of its own, contiguous in memory."""
        twin = copy.copy(self)
        twin.memory = dict(self.memory)
        twin.module = own_copy(self.module)
        return twin

    def to(self, device: str | torch.device) -> Graph:
        """Move parameters, buffers and the places where the graph makes tensors to a device, in place."""
        if self.device != torch.device(device):
            move(self.module, torch.device(device))
            self.refresh()
        return self


def set_training(module: fx.GraphModule, training: bool) -> None:
    """Switch batch norm and dropout of a graph between training and evaluation, in place.

    Only the flag of each operator changes: momentum, epsilon and probability stay the source module's own. A batch
    norm without running statistics uses the batch's own in both.
    """
    for node in module.graph.nodes:
        name = name_of(node)
        if name == "batch_norm":
            set_argument(node, "training", training or argument(node, "running_mean") is None)
        elif name in DROPOUTS:
            set_argument(node, "train", training)
    module.training = training
    module.recompile()


def move(module: fx.GraphModule, device: torch.device) -> None:
    """Move a graph's tensors, and the device literals that export wrote into its nodes, in place."""
    module.to(device)
    for node in module.graph.nodes:
        if node.kwargs.get("device") is not None:
            node.kwargs = {**node.kwargs, "device": device}
    module.recompile()


def own_copy(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a graph whose tensors are its own and contiguous.

    A view would drag its whole storage into a lowered program, and channels_last weights cannot be lowered.
    """
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return twin


def attribute(module: torch.nn.Module, path: str) -> Any:
    """What a dotted path names inside a module."""
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def replace_parameter(module: torch.nn.Module, path: str, value: torch.Tensor) -> None:
    """Put a new parameter at a dotted path; it keeps its name and whether it is trained."""
    owner, _, name = path.rpartition(".")
    parent = module.get_submodule(owner)
    old = getattr(parent, name)
    if isinstance(old, torch.nn.Parameter):
        setattr(parent, name, torch.nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(parent, name, value)
