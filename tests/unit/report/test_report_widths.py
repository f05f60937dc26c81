"""The report's section on nested widths, on all three kinds of page."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError
from report_factory import full_record, record_fields, wide_record, widths_fields
from rich.console import Console

from ebbtide.report import BuildRecord, render_html, render_markdown, summary_table
from ebbtide.report.width_plots import accuracy_against_width, kept_channels, shade
from ebbtide.report.wording import norm_summary, payload_summary, search_summary

SVG = "{http://www.w3.org/2000/svg}"


def elements(svg: str, css: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(svg).iter() if css in (one.get("class") or "").split()]


def widths_of(record: BuildRecord):  # type: ignore[no-untyped-def]
    assert record.widths is not None
    return record.widths


def test_pages_have_no_section_on_widths_when_there_is_one_width() -> None:
    record = full_record()
    assert record.widths is None
    assert 'id="widths"' not in render_html(record)
    assert "## Widths" not in render_markdown(record)


@pytest.mark.parametrize("norm", ["shared", "private"])
def test_pages_show_every_level_with_its_figures_when_there_are_widths(norm: str) -> None:
    record = wide_record(norm=norm)
    for page in (render_html(record), render_markdown(record)):
        words = re.sub(r"<[^>]*>|\\", "", page).replace("\u00a0", " ")
        for said in ("w30", "w60", "w100", "29.6 %", "94.1 %", "97.8 %", "71.0 %", "1.036× the widest alone"):
            assert said in words, said
        assert "the classifier" in words
        assert ("instead of" in words) is (norm == "private")
    assert BuildRecord.from_json(record.to_json()) == record


def test_pages_escape_names_of_groups_and_reasons_when_they_hold_markup() -> None:
    record = wide_record()
    page = render_html(record)
    assert "head.<2>" not in page
    assert "head.&lt;2&gt;" in page
    assert "meet <30" not in page + render_markdown(record)
    assert "blocks.<1>" not in kept_channels(widths_of(record))


def test_tier_names_its_width_when_there_are_several() -> None:
    page = render_html(wide_record())
    assert re.search(r"tier 3 <span class=\"muted\">\(c3, width w30\)", page)
    assert ", width " not in render_html(full_record())
    assert "| tier 3 (w30) |" in render_markdown(wide_record())
    assert "| tier 3 |" in render_markdown(full_record())
    printed = Console(width=100, record=True, file=io.StringIO())
    printed.print(summary_table(wide_record()))
    assert "tier 3 (w30)" in printed.export_text()


def test_controls_say_that_they_were_not_tuned_when_the_recipe_did_not_ask() -> None:
    record = wide_record(tuned_controls=False)
    rows = [line for line in render_markdown(record).splitlines() if line.startswith("| uniform")]
    assert len(rows) == 3
    assert all(row.endswith("| – |") for row in rows)
    svg = accuracy_against_width(record, widths_of(record))
    assert not [one for one in elements(svg, "uniform") if "untuned" not in (one.get("class") or "")]
    tuned = wide_record()
    svg = accuracy_against_width(tuned, widths_of(tuned))
    assert [one for one in elements(svg, "uniform") if "untuned" not in (one.get("class") or "")]


def test_accuracy_plot_has_a_disc_for_each_level_and_says_what_lies_below() -> None:
    record = wide_record()
    svg = accuracy_against_width(record, widths_of(record))
    assert len(elements(svg, "tier")) == 3
    assert [one.text for one in elements(svg, "tier-label")] == ["100", "60", "30"]
    assert re.search(r"\d+ below this picture", svg)
    costs = [float(str(one.get("cx"))) for one in elements(svg, "tier")]
    assert costs == sorted(costs, reverse=True)


def test_kept_plot_segments_add_up_to_what_the_levels_keep() -> None:
    widths = widths_of(wide_record())
    svg = kept_channels(widths)
    bars = elements(svg, "bar")
    # The first group keeps as many at w60 as at w30, so it has two segments; the other has three.
    assert len(bars) == 5
    frames = elements(svg, "whole-group")
    assert len(frames) == 2
    second = [one for one in bars if one.get("y") == frames[1].get("y")]
    full = float(str(frames[1].get("width")))
    starts = [(float(str(one.get("x"))) - float(str(frames[1].get("x")))) / full for one in second]
    assert starts == pytest.approx([0, 16 / 64, 40 / 64], abs=1e-3)
    texts = [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "16 / 40 / 64" in texts
    assert any(text and text.startswith("…") for text in texts)


def test_shade_falls_from_the_narrowest_to_the_widest_when_there_are_many_levels() -> None:
    shades = [shade(index, 10) for index in range(10)]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, 4)
    assert [shade(index, 3) for index in range(3)] == [0, 2, 4]
    assert [shade(index, 2) for index in range(2)] == [0, 4]


def test_summaries_say_what_was_done() -> None:
    fields = widths_fields(norm="private")
    fields |= {"exact": False, "gap": 0.0123, "search": "joint", "order": "saliency", "tuned_epochs": 0}
    record = BuildRecord.model_validate(wide_record().model_dump() | {"widths": fields})
    widths = widths_of(record)
    said = search_summary(widths)
    for words in ("mean absolute gradients", "all widths at once", "within 1.23", "not tuned", "of its own"):
        assert words in said
    assert "19 kB" in norm_summary(widths).replace("19.0", "19").replace("\u00a0", " ")
    assert "1.036×" in payload_summary(widths)
    shared = widths_of(wide_record())
    assert norm_summary(shared) == ""
    assert "proven to be the best" in search_summary(shared)


def test_record_refuses_a_level_whose_configuration_does_not_ship() -> None:
    fields = record_fields()
    fields["widths"] = widths_fields()
    with pytest.raises(ValidationError, match="w30-dense"):
        BuildRecord.model_validate(fields)
