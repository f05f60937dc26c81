"""The report's section on early exits."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from report_factory import full_record, record_fields

from ebbtide.report import BuildRecord
from ebbtide.report.early_words import promise_rows
from ebbtide.report.html import render_html
from ebbtide.report.markdown import render_markdown

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def segment(processor: str, kind: str, *stages: str, exits: tuple[int, ...] = ()) -> dict[str, Any]:
    ends = [{"position": at, "type": "pool-mlp", "us": 3.0, "threshold": 1.0, "share": 0.25} for at in exits]
    sizes = {"macs": 5e5, "us": 120.0, "memory_bytes": 4000}
    return {"processor": processor, "kind": kind, "origin": "throughput", "stages": stages, "exits": ends, **sizes}


def early_fields(**more: Any) -> dict[str, Any]:
    points = [{"accuracy": 0.95 + index / 100, "mean_macs": 2e5 * (index + 1)} for index in range(3)]
    return {
        "train": "frozen",
        "types": ["pool-linear", "pool-mlp"],
        "search": "exact steps",
        "widths": [
            {
                "width": "w100",
                "kept": ["0:pool-mlp", "1:pool-linear"],
                "chosen": ["1:pool-linear"],
                "mean_loss_points": 0.125,
                "worst_loss_points": 0.5,
                "whole": 0.9815,
                "macs": 944_768,
                "ways": [{"name": "this search", "points": points}, {"name": "single pass", "points": points}],
            }
        ],
        "shown": "c1",
        "leaving": [
            {
                "name": "exit1",
                "share": 0.4,
                "examples": [
                    {"image": PIXEL, "label": "seven", "answer": "seven"},
                    {"image": PIXEL, "label": "<seven>", "answer": "one"},
                ],
            }
        ],
        "mapped": [
            {
                "profile": "phone",
                "possible": 3,
                "rejects": ["There is no link cpu -> npu."],
                "rows": [
                    {
                        "configuration": "c0",
                        "segments": [
                            segment("cpu", "cpu", "stage0", exits=(0,)),
                            segment("server", "server", "stage1", "head", exits=(1,)),
                        ],
                        "transfers": [
                            {"start": "cpu", "end": "server", "before": "stage1", "size_bytes": 4096, "us": 80.0}
                        ],
                        "mean_us": 200.0,
                        "worst_us": 330.0,
                        "first_us": 900.0,
                        "served": True,
                    },
                    {"configuration": "c1", "binding": "It takes at least 9 of 5 us."},
                ],
            }
        ],
        **more,
    }


def pages(**more: Any) -> tuple[str, str]:
    record = BuildRecord.model_validate(record_fields() | {"early": early_fields(**more)})
    return render_html(record).replace("\u00a0", " "), render_markdown(record).replace("\u00a0", " ")


def test_pages_have_no_section_without_exits() -> None:
    assert 'id="early"' not in render_html(full_record())
    assert "## Early exits" not in render_markdown(full_record())


def test_pages_tell_how_exits_were_chosen_and_where_parts_run() -> None:
    for page in pages():
        for words in ("the backbone is the model as it came", "1:pool-linear, of 2 worth having"):
            assert words in page
        for words in ("900 µs expected on the first processor alone", "its end may run on a server"):
            assert words in page
        assert "not mapped: It takes at least 9 of 5 us." in page


def test_page_draws_fronts_examples_and_mappings() -> None:
    page, _ = pages()
    for words in ('id="plot-exits-w100-title"', 'id="plot-mapping-phone-c0-title"', "single pass: 96.0 %", "4.10 kB"):
        assert words in page
    assert page.count(PIXEL) == 2
    assert "<s>one</s> &lt;seven&gt;" in page


def test_pages_say_that_a_joint_backbone_is_a_new_one() -> None:
    for page in pages(train="joint", original=0.9741):
        assert "the bundle holds a new backbone" in page
        assert "97.4 %" in page


def test_pages_say_what_halves_mean_and_show_both_directions() -> None:
    scored = {"accuracy": 0.9512, "n": 5000}
    row = {"id": "c0", "tier": 0, "promised": {"accuracy": 0.9533, "n": 5000}, "measured": scored, "mean_macs": 5e5}
    swapped = {"dense_promised": 0.96, "dense_measured": 0.9562, "dense_macs": 1e6, "rows": [row]}
    for page in pages(halves=True, swapped=swapped):
        assert "one half of the official test samples" in page
        for words in ("95.33 %", "95.12 %", "-0.50", "0.50×"):
            assert words in page


def test_promises_are_held_against_their_standard_error() -> None:
    rows = {row.configuration.id: row for row in promise_rows(full_record())}
    first = rows["c0"]
    assert first.points == pytest.approx(100 * (0.9778 - 0.9833))
    error = 100 * ((0.9833 * 0.0167 + 0.9778 * 0.0222) / 270) ** 0.5
    assert first.error_points == pytest.approx(error)
    assert first.within is True


def test_reliability_shows_what_it_was_without_temperature() -> None:
    fields = record_fields()
    one = dict(fields["reliability"][0])
    one["before"] = [{"n": 10, "probability": 0.9, "accuracy": 0.6}]
    fields["reliability"] = [one]
    page = render_html(BuildRecord.model_validate(fields)).replace("\u00a0", " ")
    assert "(without temperature 30.0 %)" in page


def test_image_that_is_no_embedded_png_is_refused() -> None:
    broken = early_fields()
    broken["leaving"][0]["examples"][0]["image"] = "https://example.org/x.png"
    with pytest.raises(ValidationError):
        BuildRecord.model_validate(record_fields() | {"early": broken})
