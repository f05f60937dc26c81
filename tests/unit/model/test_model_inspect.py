from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from model_samples import SmallResNet, lively

from ebbtide.model import capture
from ebbtide.model.inspect import draw, inspect_graph


@pytest.fixture(scope="module")
def found():
    return inspect_graph(capture(lively(SmallResNet()), (3, 16, 16)), stages=3)


def test_inspect_rows_add_up_when_model_is_cut(found):
    rows = found.rows()
    assert [row["part"] for row in rows] == ["stage0", "stage1", "stage2", "head"]
    assert sum(row["macs"] for row in rows) == found.total.macs
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[-2]["ends_at"] == "blocks.3.relu"


def test_inspect_json_round_trips_and_lists_operators(found):
    value = json.loads(json.dumps(found.to_json()))
    operators = [node for part in value["parts"] for node in part["operators"]]
    assert sum(node["macs"] for node in operators) == value["total"]["macs"]
    assert sum(point["used"] for point in value["cut_points"]) == 3


def test_inspect_drawing_is_svg_with_every_part_and_cut_point(found):
    tree = ElementTree.fromstring(draw(found))
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert all(any(text.startswith(f"{row['part']}:") for text in texts) for row in found.rows())
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}line"))) == len(found.points)
    width = float(tree.get("viewBox").split()[2])
    for bar in tree.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.get("x", 0)) + float(bar.get("width")) <= width
