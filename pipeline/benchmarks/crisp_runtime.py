"""Latency and size of a class-specific model against the universal one; `crisp.py` calls this.

Neither depends on weights, so a model is rebuilt from the widths that its run has recorded.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crisp_training import NETWORK
from widths_programs import lower_widths
from widths_runtime import latency_ratio

from ebbtide.model import Graph, restrict_head
from ebbtide.sparsity.protocol import pattern_type


@dataclass(frozen=True)
class Against:
    """A model against the universal one, as factors.

    Args:
        speedup: median over alternating rounds of the universal model's latency over the model's.
        bytes_ratio: bytes of the programs.
    """

    speedup: float
    bytes_ratio: float


def rebuilt(result: Mapping[str, Any]) -> Graph:
    """The structure of a run's model."""
    graph = restrict_head(NETWORK.untrained(0), range(len(result["classes"])))
    channels = pattern_type("channels")()
    for step in result["trail"]:
        graph = channels.rebuild(graph, step)
    return graph.eval()


def against_universal(result: Mapping[str, Any], place: Path) -> Against:
    """Lower both, one method each, and run them in turn on one thread."""
    wide, narrow = lower_widths({"w100": NETWORK.untrained(0).eval(), "w10": rebuilt(result)}, place)
    sizes = [program.file.stat().st_size for program in (wide, narrow)]
    return Against(statistics.median(latency_ratio(wide, narrow)), sizes[0] / sizes[1])
