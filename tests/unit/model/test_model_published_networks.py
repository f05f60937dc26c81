"""The networks of the published tables cost what the tables say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ebbtide.model import capture, cost

ADAPTERS = Path(__file__).resolve().parents[3] / "pipeline" / "benchmarks" / "adapters"
KEYWORDS = (1, 49, 10)
MACS = {
    "dnn_s": ((1, 25, 10), {}, 79_200),
    "dnn_l": ((1, 25, 10), {}, 494_424),
    "cnn_s": (KEYWORDS, {}, 2_498_304),
    "cnn_l": (KEYWORDS, {}, 12_636_672),
    "dscnn_s": (KEYWORDS, {}, 2_656_768),
    "dscnn_l": (KEYWORDS, {}, 28_327_812),
    "dscnn_s_images": ((1, 28, 28), {}, 3_776_384),
    "dscnn_s_images on colour": ((3, 32, 32), {"channels": 3}, 5_227_136),
    # The table leaves the classifier out: 1024 inputs, two classes.
    "mobilenet_v1": ((3, 96, 96), {}, 104_274_432 + 2 * 1024),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_equal_the_published_table(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ADAPTERS))
    import reds_nets

    shape, arguments, macs = MACS[name]
    graph = capture(getattr(reds_nets, name.split()[0])(**arguments), shape)
    assert cost(graph.module, shape).macs == macs
    sys.modules.pop("reds_nets")
