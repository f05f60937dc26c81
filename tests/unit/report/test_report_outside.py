"""The report's section on outside detection, and what it says of heads."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from report_factory import TIERS, full_record, record_fields

from ebbtide.report import BuildRecord
from ebbtide.report.html import render_html
from ebbtide.report.markdown import render_markdown
from ebbtide.report.wording import classes_summary, outside_summary


def rates(index: int, *, known: bool = True) -> dict[str, Any]:
    others = {"false_inside": 0.3125 + index / 100, "auroc": 0.8773 - index / 100} if known else {}
    count = {"inside": 270, "outside": 500 if known else 0}
    return {**count, "false_outside": 0.0441 + index / 1000, "right_and_inside": 0.9123, **others}


def outside_fields(*, known: bool = True, fallback: str | None = "universal") -> dict[str, Any]:
    return {
        "score": "energy",
        "allowed": 0.05,
        "fallback": fallback,
        "other_classes": 90 if known else 0,
        "samples": {"select": 500, "test": 499} if known else {},
        "rows": [
            {
                "configuration": name,
                "thresholds": {"exit0": -3.25, "head": -7.5 + index},
                "select": rates(index, known=known),
                "test": rates(index + 1, known=known),
            }
            for index, (name, *_) in enumerate(TIERS)
        ],
    }


def record(**options: Any) -> BuildRecord:
    return BuildRecord.model_validate(record_fields() | {"outside": outside_fields(**options)})


def test_pages_have_no_section_when_every_answer_is_a_class() -> None:
    assert 'id="outside"' not in render_html(full_record())
    assert "## Outside" not in render_markdown(full_record())


def test_pages_show_rates_of_both_splits_for_every_configuration() -> None:
    found = record()
    page, text = (render(found).replace("\u00a0", " ") for render in (render_html, render_markdown))
    assert '<section id="outside">' in page
    assert '<a href="#outside">' in page
    section = text.partition("## Outside")[2].partition("\n## ")[0]
    for where in (page, section):
        for words in ("0.877", "0.867", "31.2 %", "32.2 %", "4.4 %", "91.2 %", "head -7.50", "universal is asked"):
            assert words in where
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert sum("| select |" in row for row in rows) == sum("| test |" in row for row in rows) == len(TIERS)


def test_summary_says_what_is_not_known_without_samples_of_other_classes() -> None:
    found = record(known=False, fallback=None)
    assert found.outside is not None
    said = outside_summary(found.outside)
    assert "no samples of other classes" in said
    assert "No other bundle" in said
    assert "–" in render_markdown(found).partition("## Outside")[2].partition("\n## ")[0]
    assert "0.877" not in render_html(found)


def test_record_comes_back_from_json_and_refuses_rows_that_do_not_fit() -> None:
    found = record()
    assert BuildRecord.from_json(found.to_json()) == found
    fields = outside_fields()
    fields["rows"] = fields["rows"][1:]
    with pytest.raises(ValidationError, match="outside detection"):
        BuildRecord.model_validate(record_fields() | {"outside": fields})


def test_full_head_says_what_it_is_judged_on() -> None:
    fields = record_fields()
    fields["model"] |= {"head": "full", "class_set": ("1", "7"), "universal_classes": 10}
    full = BuildRecord.model_validate(fields)
    words = "all 10 classes, judged on samples of 2 of them"
    assert classes_summary(full.model) == words
    assert words in render_html(full)
    assert words in render_markdown(full)
    assert classes_summary(full_record().model) == "10 of 10 classes"
