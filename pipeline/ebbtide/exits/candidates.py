"""Every exit that could be: all types at all positions, each trained once whatever is searched over them later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ebbtide.exits.features import FeatureCache
from ebbtide.exits.key import ExitKey
from ebbtide.exits.place import Place
from ebbtide.exits.pools import Pool
from ebbtide.exits.protocol import Exit, build_exit, exit_type
from ebbtide.exits.training import ExitHistory, ExitSettings, train_exits
from ebbtide.steps import Progress, silent

_GROUP_BYTES = 1 << 30
_CHUNK = 4096


@dataclass(frozen=True)
class Possible:
    """Which exits there can be.

    Attributes:
        keys: in order of position and type.
        left_out: the others, with reasons.
    """

    keys: tuple[ExitKey, ...]
    left_out: dict[ExitKey, str]


def possible_exits(places: Mapping[int, Place], types: Iterable[str]) -> Possible:
    """All types at all positions.

    Args:
        places: by position.
        types: names of exit types.

    Raises:
        EbbtideError: ``exits.unknown_type``.
    """
    kinds = {name: exit_type(name) for name in sorted(set(types))}
    reasons = {ExitKey(p, name): kind.unfit(places[p]) for p in sorted(places) for name, kind in kinds.items()}
    return Possible(
        keys=tuple(key for key, reason in reasons.items() if reason is None),
        left_out={key: reason for key, reason in reasons.items() if reason is not None},
    )


def pools_of(keys: Iterable[ExitKey], places: Mapping[int, Place]) -> dict[int, list[Pool]]:
    """The distinct poolings of exits by position, as `cache_features` takes them."""
    found: dict[int, dict[str, Pool]] = {}
    for key in keys:
        pool = build_exit(key.type, places[key.position]).pool
        found.setdefault(key.position, {}).setdefault(pool.name, pool)
    return {position: list(pools.values()) for position, pools in found.items()}


def fit_exits(
    keys: Sequence[ExitKey],
    places: Mapping[int, Place],
    cache: FeatureCache,
    *,
    settings: ExitSettings,
    progress: Progress = silent,
) -> dict[ExitKey, tuple[Exit, ExitHistory]]:
    """Train each exit once, those of one type and form together; the backbone is not needed any more.

    Args:
        keys: which exits.
        places: by position.
        cache: of train, with the poolings of all of them (`pools_of`).
        settings: how; the head's logits for a KL part are the cache's.
        progress: a task for each group.

    Raises:
        EbbtideError: ``exits.features``, ``exits.settings``, ``exits.unfit``.
    """
    fresh = {key: build_exit(key.type, places[key.position]) for key in keys}
    found: dict[ExitKey, tuple[Exit, ExitHistory]] = {}
    for group in _groups(fresh, cache):
        histories = train_exits(
            [fresh[key] for key in group],
            [_features(key, fresh[key], cache) for key in group],
            cache.labels,
            settings=settings,
            head_logits=np.asarray(cache.logits),
            passes=cache.passes,
            label=f"Training {group[0].type}, {len(group)} position{'s' if len(group) > 1 else ''}",
            progress=progress,
        )
        found |= {key: (fresh[key], history) for key, history in zip(group, histories, strict=True)}
    return {key: found[key] for key in keys}


def exit_logits(exits: Mapping[ExitKey, Exit], cache: FeatureCache) -> dict[ExitKey, NDArray[np.float32]]:
    """Logits (n, classes) of trained exits on cached features."""
    found = {}
    with torch.inference_mode():
        for key, module in exits.items():
            rows = _features(key, module, cache)
            chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
            found[key] = np.concatenate([module.classify(torch.from_numpy(_copy(c))).numpy() for c in chunks])
    return found


def _copy(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def _features(key: ExitKey, module: Exit, cache: FeatureCache) -> NDArray[np.float32]:
    return cache.pooled[key.position, module.pool.name]


def _groups(exits: Mapping[ExitKey, Exit], cache: FeatureCache) -> list[list[ExitKey]]:
    """Exits of one type whose parameters and features have the same shapes, as many as memory takes."""
    alike: dict[tuple[object, ...], list[ExitKey]] = {}
    for key, module in exits.items():
        shapes = [tuple(parameter.shape) for parameter in module.classify.parameters()]
        alike.setdefault((key.type, *shapes, _features(key, module, cache).shape), []).append(key)
    groups = []
    for keys in alike.values():
        size = _features(keys[0], exits[keys[0]], cache).size * 4
        most = max(1, _GROUP_BYTES // size)
        groups += [keys[start : start + most] for start in range(0, len(keys), most)]
    return groups
