"""What the bytes of a lowered program depend on, as one digest."""

from __future__ import annotations

import hashlib
import json
import operator
from typing import Any

import torch
from torch import fx, nn

from ebbtide.lowering.backend import backend as backend_of
from ebbtide.lowering.capture import plain_graph
from ebbtide.lowering.spec import ProgramSpec, methods_of, sample_inputs

# Raised whenever this package lowers the same graph to other bytes.
_LOWERING = 2


def spec_digest(spec: ProgramSpec, *, backend: str = "xnnpack") -> str:
    """SHA-256, in hex, over everything that a program's bytes follow from.

    That is every method's graph (operators and arguments; names of nodes do not matter), weights, shapes, the
    temperatures, the back end with its versions, and this package's own version. The program's id is not part of it,
    so that two builds which need the same program share it.
    """
    chosen = backend_of(backend)
    digest = hashlib.sha256()
    head = {"lowering": _LOWERING, "backend": chosen.name, "precision": chosen.precision, **chosen.versions()}
    digest.update(json.dumps(head, sort_keys=True).encode())
    inputs = sample_inputs(spec)
    for method in methods_of(spec):
        shape = list(inputs[method.name].shape)
        digest.update(json.dumps([method.name, method.position, method.temperature, shape]).encode())
        for part in method.module if isinstance(method.module, nn.Sequential) else [method.module]:
            graph = part if isinstance(part, fx.GraphModule) and _is_plain(part) else None
            # A module that is code and not yet a graph is captured; its input may not be the method's own.
            digest.update(_digest(graph or _captured(part, method.module, inputs[method.name])))
    return digest.hexdigest()


def _is_plain(module: fx.GraphModule) -> bool:
    """Whether it is operators only; an exported module's call of its guards does not count."""
    return all("_guards_fn" in str(node.target) for node in module.graph.nodes if node.op == "call_module")


def _captured(part: nn.Module, whole: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    if isinstance(whole, nn.Sequential) and part is not whole:
        with torch.inference_mode():
            for before in whole:
                if before is part:
                    break
                example = before(example)
        example = example.clone(memory_format=torch.contiguous_format)
    return plain_graph(part, example)


def _digest(module: fx.GraphModule) -> bytes:
    digest = hashlib.sha256()
    numbers: dict[fx.Node, int] = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            continue
        numbers[node] = len(numbers)
        target = "" if node.op in ("placeholder", "get_attr", "output") else str(node.target)
        digest.update(f"{node.op} {target} {_plain(node.args, numbers)} {_plain(node.kwargs, numbers)}\n".encode())
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(module)
            if isinstance(value, torch.Tensor):
                digest.update(f"{value.dtype} {list(value.shape)}\n".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _plain(value: Any, numbers: dict[fx.Node, int]) -> Any:
    if isinstance(value, fx.Node):
        return f"%{numbers[value]}"
    if isinstance(value, (list, tuple)):
        return [_plain(item, numbers) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, numbers) for key, item in sorted(value.items())}
    return repr(value)
