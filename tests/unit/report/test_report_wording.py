"""Numbers and judgements in words."""

from __future__ import annotations

from typing import Any

import pytest
from report_factory import full_record, record_fields, small_record

from ebbtide.report import wording
from ebbtide.report.record import BuildRecord, Latency


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (wording.percent(0.97215), "97.2 %"),
        (wording.percent(None), "–"),
        (wording.percent(0.0), "0.0 %"),
        (wording.amount(0), "0"),
        (wording.amount(640), "640"),
        (wording.amount(999.6), "1.00 k"),
        (wording.amount(1_234_567), "1.23 M"),
        (wording.amount(4.1e9), "4.10 G"),
        (wording.size(999), "999 B"),
        (wording.size(3_458_088), "3.46 MB"),
        (wording.size(None), "–"),
        (wording.time(812.4), "812 µs"),
        (wording.time(999.7), "1.00 ms"),
        (wording.time(2.1e6), "2.10 s"),
        (wording.seconds(0.42), "0.42 s"),
        (wording.seconds(119.99), "120 s"),
        (wording.seconds(185), "3 min 05 s"),
        (wording.ratio(1, 4), "0.25×"),
        (wording.ratio(1, 0), "–"),
        (wording.ratio(None, 2), "–"),
        (wording.shape((16, 8, 8)), "16 × 8 × 8"),
        (wording.latency(None), "not measured"),
        (wording.latency(Latency(p50_us=98.2, p90_us=141)), "98 / 141 µs"),
        (wording.latency(Latency(p50_us=812, p90_us=1240)), "0.81 / 1.24 ms"),
        (wording.latency(Latency(p50_us=0.31, p90_us=0.5)), "0.31 / 0.50 µs"),
    ],
)
def test_number_is_written_as_a_reader_expects(found: str, expected: str) -> None:
    assert plain(found) == expected


def record_with(**changes: Any) -> BuildRecord:
    return BuildRecord.model_validate({**record_fields(), **changes})


def test_verdict_names_the_cheapest_tier_that_keeps_the_accuracy() -> None:
    assert plain(wording.verdict(full_record())) == (
        "With 55 % of the dense model’s multiply-accumulates and 66 % of its time, tier 1 reaches 97.4 % accuracy "
        "on 270 test samples; the dense model reaches 98.2 %."
    )


def test_verdict_does_not_claim_speed_when_the_tier_is_slower() -> None:
    fields = record_fields()
    fields["configurations"][1]["latency"] = {"p50_us": 160.0, "p90_us": 170.0}
    text = plain(wording.verdict(BuildRecord.model_validate(fields)))
    assert "but 1.07× its time" in text
    assert "% of its time" not in text


def test_verdict_says_so_when_no_tier_keeps_the_accuracy() -> None:
    dense = {**record_fields()["dense"], "select": {"accuracy": 0.999, "n": 270}}
    text = plain(wording.verdict(record_with(dense=dense)))
    assert text.startswith("No tier promised to stay within 1 point of the dense model: tier 0 reaches 97.8 %")


def test_verdict_chooses_on_select_when_test_would_flatter_another_tier() -> None:
    fields = record_fields()
    fields["configurations"][2]["test"] = {"accuracy": 0.999, "n": 270}
    assert "tier 1 reaches" in wording.verdict(BuildRecord.model_validate(fields))


def test_verdict_speaks_of_select_and_of_no_time_when_nothing_was_measured() -> None:
    text = plain(wording.verdict(small_record()))
    assert "(time not measured)" in text
    assert "270 select samples." in text


def test_verdict_says_full_cost_when_nothing_is_saved() -> None:
    fields = record_fields()
    fields["configurations"] = [{**fields["configurations"][0], "mean_macs": 944_768}]
    fields["classes"] = []
    assert wording.verdict(BuildRecord.model_validate(fields)).startswith("At the dense model’s full cost, tier 0")


def test_promise_is_missed_when_the_whole_interval_lies_below_it() -> None:
    fields = record_fields()
    fields["configurations"][2]["test"] = {"accuracy": 0.90, "n": 270}
    record = BuildRecord.model_validate(fields)
    judged = wording.promise(record, record.tiers[2])
    assert judged is not None
    assert not judged.kept
    assert judged.text == "missed (−6.7 points)"
    assert plain(wording.promise_summary(record)).startswith("Tier 2 was measured below the promise")


def test_promise_summary_says_nothing_was_measured_when_test_is_sealed() -> None:
    assert wording.promise_summary(small_record()).startswith("The test split has not been read")


def test_no_interval_is_claimed_when_the_metric_is_no_plain_accuracy() -> None:
    record = record_with(metric="macro_f1")
    assert wording.interval(record.tiers[0].test, record.metric) == ""
    assert "macro F1" in wording.verdict(record)
    missed = wording.promise(record, record.tiers[3])
    assert missed is not None
    assert not missed.kept
