"""Latency of a class-specific model against that of the universal one; `crisp.py` calls this.

It does not depend on weights, so a model is rebuilt from the widths that its run has recorded.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crisp_training import NETWORK
from widths_programs import lower_widths
from widths_runtime import times_of

from ebbtide.model import Graph, restrict_head
from ebbtide.sparsity.protocol import pattern_type


def rebuilt(result: Mapping[str, Any]) -> Graph:
    """The structure of a run's model."""
    graph = restrict_head(NETWORK.untrained(0), range(len(result["classes"])))
    channels = pattern_type("channels")()
    for step in result["trail"]:
        graph = channels.rebuild(graph, step)
    return graph.eval()


def speedups(results: Mapping[str, Mapping[str, Any]], scratch: Path) -> dict[str, float]:
    """By run, the universal model's latency over that of the run's model: the median over rounds, one thread.

    All are timed in turn in one measurement, so that their ratios can be compared with each other, too.

    Args:
        results: of runs of channels, by the run's name.
        scratch: where programs are kept.
    """
    (universal,) = lower_widths({"w100": NETWORK.untrained(0).eval()}, scratch / "universal")
    small = {name: lower_widths({"w10": rebuilt(result)}, scratch / name)[0] for name, result in results.items()}
    rounds = times_of({"universal": universal, **small})
    return {
        name: statistics.median(a / b for a, b in zip(rounds["universal"], rounds[name], strict=True)) for name in small
    }
