"""The record: round trip, refusals, and the two formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import full_record, record_fields, small_record

from ebbtide.errors import EbbtideError
from ebbtide.report import BuildRecord, load_record
from ebbtide.report.record import Step
from ebbtide.report.statistics import probability_of, wilson_interval


@pytest.mark.parametrize("record", [full_record(), small_record()], ids=["full", "small"])
def test_record_comes_back_equal_when_stored_as_json(record: BuildRecord) -> None:
    text = record.to_json()
    again = BuildRecord.from_json(text)
    assert again == record
    assert again.to_json() == text


def test_json_is_equal_when_mappings_are_given_in_another_order() -> None:
    fields = record_fields()
    versions = fields["provenance"]["versions"]
    turned = dict(reversed(versions.items()))
    assert list(turned) != list(versions)
    other = {**fields, "provenance": {**fields["provenance"], "versions": turned}}
    assert BuildRecord.model_validate(other).to_json() == BuildRecord.model_validate(fields).to_json()


def _with(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    fields: Any = json.loads(full_record().to_json())
    place = fields
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return dict(fields)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("dense", "maccs"), 1, "dense.maccs"),
        (("dense", "macs"), -1, "dense.macs"),
        (("model", "classes"), 3, "model.classes"),
        (("configurations", 0, "select", "accuracy"), 1.01, "configurations.0.select.accuracy"),
        (("configurations", 1, "id"), "c0", "not unique"),
        (("configurations", 3, "tier"), 2, "without gaps or repeats"),
        (("configurations",), [], "configurations"),
        (("classes", 0, "accuracy"), {"c9": 1.0}, "unknown configurations"),
        (("format",), 2, "format"),
        (("created",), "today", "created"),
    ],
    ids=lambda one: ".".join(map(str, one)) if isinstance(one, tuple) else None,
)
def test_record_is_refused_with_its_place_when_a_field_is_wrong(path: tuple[str, ...], value: Any, said: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        BuildRecord.from_json(json.dumps(_with(path, value)), place="report.json")
    assert caught.value.code == "report.record"
    assert said in caught.value.message
    assert caught.value.place == "report.json"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": NaN}'])
def test_record_is_refused_when_the_text_is_no_record(text: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        BuildRecord.from_json(text)
    assert caught.value.code == "report.record"


def test_load_record_says_what_to_name_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        load_record(tmp_path / "report.json")
    assert caught.value.code == "report.record"
    assert "report.json" in (caught.value.hint or "")


def test_infinite_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Step(method="p/exit0", threshold=math.inf)


def test_others_are_the_configurations_that_no_tier_names() -> None:
    fields = record_fields()
    fields["configurations"][3] = {**fields["configurations"][3], "tier": None}
    record = BuildRecord.model_validate(fields)
    assert [one.id for one in record.tiers] == ["c0", "c1", "c2"]
    assert [one.id for one in record.others] == ["c3"]


def test_wilson_interval_equals_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson without continuity correction).
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson_interval(successes / n, n)
        assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_in_range(case: tuple[int, int]) -> None:
    right, n = case
    low, high = wilson_interval(right / n, n)
    assert 0.0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1.0


@given(st.floats(-1e300, 1e300))
def test_probability_never_overflows_and_is_symmetric(log_odds: float) -> None:
    assert 0.0 <= probability_of(log_odds) <= 1.0
    assert probability_of(log_odds) + probability_of(-log_odds) == pytest.approx(1.0)


def test_probability_of_known_thresholds() -> None:
    assert probability_of(0.0) == 0.5
    assert probability_of(math.log(9)) == pytest.approx(0.9)
