"""The report's section on a model for a class set, and its first picture."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from report_factory import full_record, record_fields

from ebbtide.report import BuildRecord, render_picture
from ebbtide.report.html import render_html
from ebbtide.report.markdown import render_markdown


def drop(points: float, bound: float) -> dict[str, Any]:
    return {"n": 1200, "lost": 21, "won": 9, "points": points, "bound_points": bound}


def latency(p50: float) -> dict[str, Any]:
    return {"p50_us": p50, "p90_us": 1.2 * p50}


def tried(budget: float, *, within: bool | None = True, p50: float = 400.0, **more: Any) -> dict[str, Any]:
    return {
        "budget": budget,
        "kept": budget - 0.004,
        "macs": int(budget * 40_000_000),
        "passes": 34,
        "select": {"accuracy": 0.91 + budget / 50, "n": 1200},
        "test": {"accuracy": 0.905 + budget / 50, "n": 1000},
        "latency": latency(p50),
        "drop": None if within is None else drop(0.25, 0.93),
        "drop_test": drop(0.4, 1.2),
        "within": within,
        **more,
    }


def sparsity_fields(pattern: str = "channels", **more: Any) -> dict[str, Any]:
    whole = {"macs": 40_000_000, "select": {"accuracy": 0.905, "n": 1200}, "test": {"accuracy": 0.9, "n": 1000}}
    return {
        "pattern": pattern,
        "sizes": "multiples of 8" if pattern == "channels" else "blocks of 8, 2:4",
        "unit": "macs" if pattern == "channels" else "weights",
        "scores": "absolute",
        "teacher": "universal",
        "max_drop_points": 1.0,
        "confidence": 0.95,
        "reference": "tuned",
        "universal": {"name": "universal", "passes": 0, "latency": latency(5200.0), **whole},
        "tuned": {"name": "tuned", "passes": 34, "latency": latency(5200.0), **whole},
        "trials": [tried(0.2, p50=1100.0), tried(0.05, within=False), tried(0.1, p50=640.0, started=0.2)],
        "chosen": 2,
        "whole": [{"reason": "the classifier's outputs are the classes", "subjects": ["fc"]}],
        **more,
    }


def record(**options: Any) -> BuildRecord:
    return BuildRecord.model_validate(record_fields() | {"sparsity": sparsity_fields(**options)})


def test_pages_have_no_section_when_the_model_is_the_universal_one() -> None:
    assert 'id="sparsity"' not in render_html(full_record())
    assert "model for the class set" not in render_markdown(full_record())
    assert "plot-sparsity" not in render_picture(full_record())


def test_pages_show_every_trial_with_its_bound_and_both_rivals() -> None:
    found = record()
    page, text = (render(found).replace("\u00a0", " ") for render in (render_html, render_markdown))
    section = text.partition("## The model for the class set")[2].partition("\n## ")[0]
    assert '<section id="sparsity">' in page
    for where in (page, section):
        for words in (
            "fine-tuned whole",
            "0.25, at most 0.93 (21 lost, 9 won of 1,200)",
            "0.40, at most 1.20",
            "not within",
            "ships, within",
            "9.6 %",
            "multiples of 8",
            "at most 1 points on select",
        ):
            assert words in where
    rows = [
        line for line in section.splitlines() if line.startswith(("| universal", "| fine-tuned", "| 1", "| 2", "| 3"))
    ]
    assert len(rows) == 2 + 2 * 3
    assert "fc (the classifier's outputs are the classes)" in text
    assert page.index("plot-sparsity") < page.index("plot-macs")


def test_first_sentence_says_what_is_left_and_what_the_rivals_reach() -> None:
    said = render_markdown(record()).replace("\u00a0", " ")
    assert "9.6 % of the universal model’s multiply-accumulates are left and 12.3 % of its time" in said
    assert "the universal model reaches 90.0 %, fine-tuned whole 90.0 %" in said


def test_latency_of_masks_is_always_called_dense() -> None:
    packed = {
        "file": "model.ebbpack",
        "dense_bytes": 1000,
        "dense_xz_bytes": 900,
        "packed_bytes": 250,
        "packed_xz_bytes": 240,
        "formula_bytes": 180,
        "sparsity": 0.85,
    }
    found = record(pattern="hybrid", packed=packed)
    page, text = (render(found).replace("\u00a0", " ") for render in (render_html, render_markdown))
    for where in (page, text):
        assert "Masked zeros are no speed-up on a stock runtime" in where
        assert "a stock runtime is not faster for it" in where
        assert "250 B against 1.00 kB" in where
        assert "of its time, with" not in where
    assert "median time of a prediction, dense" in render_picture(found)


def test_picture_is_of_work_when_something_was_not_timed() -> None:
    fields = sparsity_fields()
    fields["trials"][1]["latency"] = None
    found = BuildRecord.model_validate(record_fields() | {"sparsity": fields})
    assert "multiply-accumulates per prediction" in render_picture(found)
    assert render_picture(found).count("way-dot") >= 2


def test_record_is_refused_when_its_parts_do_not_fit() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"chosen": 3}, {"tuned": None}, {"trials": []})
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            record(**wrong)
