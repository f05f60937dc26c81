"""Which weights of a graph count: kept blocks of each layer, and N of each M weights inside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from ebbtide.errors import EbbtideError
from ebbtide.model import Coupling, Graph, Widths, cost
from ebbtide.model.graph import attribute
from ebbtide.sparsity.layout import Layer, Levels, Shape, layers_of, matrix, tensor
from ebbtide.steps import storage_errors, write_bytes

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a graph's layers, in the order of `layout.matrix`.

    Args:
        shape: sizes of the pattern.
        layers: every weight of the graph, the dense ones and their reasons included.
        macs: true multiply-accumulates of the whole graph, masks not counted, per sample.
        groups: NM: by weight, for those that carry N:M, bool (R, C): N true in each M consecutive columns.
        blocks: BLK: by weight, for those that carry blocks, bool (H, V): whether a block is kept.
    """

    shape: Shape
    layers: tuple[Layer, ...]
    macs: int
    groups: Mapping[str, torch.Tensor] = field(repr=False)
    blocks: Mapping[str, torch.Tensor] = field(repr=False)

    @classmethod
    def whole(cls, graph: Graph, shape: Shape, levels: tuple[Widths, ...] = ()) -> Masks:
        """Masks that keep every weight.

        Args:
            graph: the model; with levels, its units in their final order.
            shape: sizes of the pattern.
            levels: widths of the narrower levels, ascending, by coupling group.

        Raises:
            EbbtideError: ``sparsity.nothing_to_prune``.
        """
        layers = layers_of(graph, shape, levels)
        some = [layer for layer in layers if layer.carries != "nothing"]
        groups = {layer.name: torch.ones(layer.rows, layer.weights // layer.rows, dtype=torch.bool) for layer in some}
        square = [layer for layer in some if layer.carries == "blocks"]
        blocks = {layer.name: torch.ones(layer.grid(shape.block), dtype=torch.bool) for layer in square}
        return cls(shape, layers, cost(graph.module, graph.input_shape).macs, groups, blocks)

    @property
    def masked(self) -> tuple[Layer, ...]:
        """The layers that carry some of the pattern."""
        return tuple(layer for layer in self.layers if layer.carries != "nothing")

    @property
    def excluded(self) -> tuple[Layer, ...]:
        """The layers that do not carry all of it, each with its reason."""
        return tuple(layer for layer in self.layers if layer.carries != "blocks")

    def keep(self, layer: Layer) -> torch.Tensor:
        """NM and BLK of a masked layer together, bool (R, C)."""
        groups = self.groups[layer.name]
        return groups if layer.carries == "groups" else groups & spread(self.blocks[layer.name], self.shape.block)

    def weight_masks(self) -> dict[str, torch.Tensor]:
        """By weight, `keep` in the weight's own shape; of the masked layers."""
        return {layer.name: tensor(self.keep(layer), layer.size).contiguous() for layer in self.masked}

    def apply(self, graph: Graph) -> Graph:
        """A copy of a graph in which the weights that do not count are zero.

        Raises:
            EbbtideError: ``sparsity.masks`` where the graph's weights are of other shapes.
        """
        self._check(graph)
        twin = graph.copy()
        with torch.no_grad():
            for name, kept in self.weight_masks().items():
                weight = attribute(twin.module, name)
                # Not a product: -0.0 and what is not finite must go too.
                weight.masked_fill_(~kept.to(weight.device), 0.0)
        return twin

    def kept_blocks(self, layer: Layer) -> NDArray[np.int64]:
        """How many blocks a layer keeps, (H, bands): in each block-row of each band of columns."""
        blocks = self.blocks[layer.name].numpy()
        return np.stack([blocks[:, band].sum(axis=1) for band in layer.bands(self.shape.block)], axis=1)

    def kept_by_formula(self, layer: Layer) -> Fraction:
        """V' / V * N / M of a masked layer, the share of its weights that the pattern keeps; 1 for a dense one.

        V' is the mean over block-rows, which are all alike in the masks that this package makes.
        """
        share = Fraction(self.shape.n, self.shape.m)
        if layer.carries == "nothing":
            return Fraction(1)
        if layer.carries == "groups":
            return share
        blocks = self.blocks[layer.name]
        return share * Fraction(int(blocks.sum()), blocks.numel())

    def sparsity(self, layer: Layer | None = None) -> float:
        """Share of zeros that the masks make, counted; of one masked layer, or of the weights of all of them."""
        layers = self.masked if layer is None else (layer,)
        kept = sum(int(self.keep(one).sum()) for one in layers)
        return 1.0 - kept / sum(one.weights for one in layers)

    def sparsity_by_formula(self) -> float:
        """1 - sum w V'/V N/M / sum w over the masked layers; what `sparsity` counts once N:M has been chosen."""
        kept = sum(layer.weights * self.kept_by_formula(layer) for layer in self.masked)
        return float(1 - kept / sum(layer.weights for layer in self.masked))

    def kept_macs(self) -> int:
        """The graph's true multiply-accumulates, those of masked layers times the share of weights kept, per sample.

        An analytic count: a runtime without kernels for the pattern computes all of them.
        """
        spared = [layer.macs - layer.macs * int(self.keep(layer).sum()) // layer.weights for layer in self.masked]
        return self.macs - sum(spared)

    def at(self, coupling: Coupling, widths: Widths, small: Graph) -> Masks:
        """The masks of a narrower width.

        Args:
            coupling: of the whole graph.
            widths: units kept, by group; one of the levels that the masks were made with.
            small: the graph of these widths, as `ebbtide.model.narrow` makes it.

        Raises:
            EbbtideError: ``sparsity.masks`` where a block or a group of M would be cut through.
        """
        places = coupling.places(widths)
        layers, groups, blocks = [], {}, {}
        for layer in self.layers:
            size = (layer.rows, layer.inputs)
            rows, columns = (places.get((layer.name, axis), np.arange(size[axis])) for axis in (0, 1))
            layers.append(_narrowed(layer, rows, columns))
            if layer.carries == "nothing":
                continue
            self._whole_runs(layer, columns, self.shape.m)
            groups[layer.name] = _cut(self.groups[layer.name], layer.places, rows, columns)
            if layer.carries == "blocks":
                block_rows, block_columns = (
                    self._whole_runs(layer, index, self.shape.block) for index in (rows, columns)
                )
                blocks[layer.name] = _cut(self.blocks[layer.name], layer.places, block_rows, block_columns)
        macs = cost(small.module, small.input_shape).macs
        found = Masks(self.shape, tuple(layers), macs, groups, blocks)
        found._check(small)
        return found

    def _whole_runs(self, layer: Layer, index: NDArray[np.int64], edge: int) -> NDArray[np.int64]:
        """Which runs of `edge` channels an index keeps; it must keep all or none of each."""
        runs, counts = np.unique(index // edge, return_counts=True)
        if (counts != edge).any():
            raise EbbtideError(
                "sparsity.masks",
                "A width cuts through the blocks or groups of the masks",
                expected=f"all or none of each {edge} channels",
                found=f"{int(counts[counts != edge][0])} of them",
                place=layer.name,
                hint="Make the masks with these width levels, and widths multiples of the block.",
            )
        return runs

    def _check(self, graph: Graph) -> None:
        sizes = {name: tuple(value.shape) for name, value in graph.state().items()}
        for layer in self.layers:
            if sizes.get(layer.name) != layer.size:
                raise EbbtideError(
                    "sparsity.masks",
                    "The masks belong to another graph",
                    expected=str(layer.size),
                    found=str(sizes.get(layer.name, "no such weight")),
                    place=layer.name,
                    hint="Use them with the graph they were made for.",
                )

    def to_json(self) -> dict[str, Any]:
        """For people: what each layer keeps, and why where it does not carry blocks."""
        return {
            "shape": asdict(self.shape),
            "sparsity": self.sparsity(),
            "macs": self.macs,
            "kept_macs": self.kept_macs(),
            "layers": [
                {
                    "weight": layer.name,
                    "carries": layer.carries,
                    "reason": layer.reason,
                    "weights": layer.weights,
                    "kept": float(self.keep(layer).double().mean()) if layer.carries != "nothing" else 1.0,
                }
                for layer in self.layers
            ],
        }

    def digest(self) -> str:
        """SHA-256 of everything in the masks, in hexadecimal."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def save(self, path: Path) -> None:
        """Write one .safetensors file; equal masks give equal bytes.

        Raises:
            EbbtideError: ``steps.disk_full`` or ``steps.read_only``.
        """
        with storage_errors(path.parent):
            write_bytes(path, self._bytes())

    def _bytes(self) -> bytes:
        tensors = {f"groups/{name}": kept.contiguous() for name, kept in self.groups.items()}
        tensors |= {f"blocks/{name}": kept.contiguous() for name, kept in self.blocks.items()}
        layers = [
            asdict(layer) | {"row_level": layer.row_level.tolist(), "column_level": layer.column_level.tolist()}
            for layer in self.layers
        ]
        facts = {"format": _FORMAT, "shape": asdict(self.shape), "macs": self.macs, "layers": layers}
        found: bytes = save(tensors, {"masks": json.dumps(facts)})
        return found

    @classmethod
    def load(cls, path: Path) -> Masks:
        """The masks that `save` wrote.

        Raises:
            EbbtideError: ``sparsity.masks`` where the file is not there, damaged or of another format.
        """
        try:
            with safe_open(path, framework="pt") as stored:
                facts = json.loads((stored.metadata() or {})["masks"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if facts["format"] != _FORMAT:
                raise ValueError("another format")
            kept: dict[str, dict[str, torch.Tensor]] = {"groups": {}, "blocks": {}}
            for key, value in tensors.items():
                kind, _, name = key.partition("/")
                kept[kind][name] = value
            layers = tuple(_layer(**layer) for layer in facts["layers"])
            return cls(Shape(**facts["shape"]), layers, facts["macs"], kept["groups"], kept["blocks"])
        except Exception as error:
            raise EbbtideError(
                "sparsity.masks",
                "The masks cannot be read",
                found=f"{type(error).__name__}: {error}",
                place=str(path),
                hint="Remove the file and make them again.",
            ) from error


def _layer(*, size: list[int], row_level: list[int], column_level: list[int], **facts: Any) -> Layer:
    levels: list[Levels] = [np.asarray(level, np.int64) for level in (row_level, column_level)]
    return Layer(size=tuple(size), row_level=levels[0], column_level=levels[1], **facts)


def spread(blocks: torch.Tensor, edge: int) -> torch.Tensor:
    """A mask of blocks (H, V) as one of weights (H b, V b)."""
    return blocks.repeat_interleave(edge, 0).repeat_interleave(edge, 1)


def masked(weight: torch.Tensor, layer: Layer, masks: Masks) -> torch.Tensor:
    """A weight as a matrix (R, C) in which what does not count is zero."""
    return matrix(weight).masked_fill(~masks.keep(layer), 0.0)


def _cut(mask: torch.Tensor, places: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> torch.Tensor:
    """Some rows of a mask, and some of its columns at every kernel position."""
    cube = mask.reshape(mask.shape[0], places, -1)
    return cube[torch.from_numpy(rows)][:, :, torch.from_numpy(columns)].reshape(len(rows), -1)


def _narrowed(layer: Layer, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Layer:
    macs = layer.macs * len(rows) // layer.rows * len(columns) // layer.inputs
    size = (len(rows), len(columns), *layer.size[2:])
    return Layer(
        layer.name, size, layer.carries, layer.reason, macs, layer.row_level[rows], layer.column_level[columns]
    )
