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
from widths_runtime import latency_ratio

from ebbtide.model import Graph, restrict_head
from ebbtide.sparsity.protocol import pattern_type


def rebuilt(result: Mapping[str, Any]) -> Graph:
    """The structure of a run's model."""
    graph = restrict_head(NETWORK.untrained(0), range(len(result["classes"])))
    channels = pattern_type("channels")()
    for step in result["trail"]:
        graph = channels.rebuild(graph, step)
    return graph.eval()


def speedup(result: Mapping[str, Any], place: Path) -> float:
    """Median over alternating rounds of the universal model's latency over the run's model's, one thread."""
    wide, narrow = lower_widths({"w100": NETWORK.untrained(0).eval(), "w10": rebuilt(result)}, place)
    return statistics.median(latency_ratio(wide, narrow))
