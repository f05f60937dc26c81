"""Scales, fronts and the pictures as XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_factory import full_record, record_fields, small_record

from ebbtide.report import plots, render_picture
from ebbtide.report.record import BuildRecord
from ebbtide.report.svg import Drawing, Scale, round_ticks, tick_text

SVG = "{http://www.w3.org/2000/svg}"


def elements(svg: str, css: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(svg).iter() if one.get("class", "").split(" ")[0] == css]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_inside_the_axis_and_are_few(low: float, reach: float) -> None:
    high = low + reach
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low - reach * 1e-6 <= tick <= high + reach * 1e-6 for tick in ticks)
    assert ticks == sorted(ticks)


def test_logarithmic_scale_places_powers_evenly() -> None:
    scale = Scale(1.0, 100.0, 0.0, 200.0, logarithmic=True)
    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    assert {1.0, 10.0, 100.0} <= set(scale.ticks())


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (2.5, "2.5"), (1000.0, "1000"), (0.1 + 0.2, "0.3")])
def test_tick_text_has_no_idle_digits(value: float, text: str) -> None:
    assert tick_text(value) == text


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_front_holds_exactly_the_unbeaten_points(points: list[tuple[int, int]]) -> None:
    def beaten(one: tuple[int, int]) -> bool:
        return any(o != one and o[0] <= one[0] and o[1] >= one[1] for o in points)

    assert set(plots.pareto_front(points)) == {one for one in points if not beaten(one)}


@pytest.mark.parametrize("count", [10, 600, 5000])
def test_thinned_points_keep_the_front_and_stay_few(count: int) -> None:
    points = [(float(index), float(index * 7919 % count)) for index in range(count)]
    kept = plots.thinned(points)
    assert set(plots.pareto_front(points)) <= set(kept) <= set(points)
    assert len(kept) == len(set(kept)) == (count if count <= 600 else pytest.approx(600, rel=0.2))


def test_accuracy_plot_shows_every_tier_the_dense_model_and_all_points() -> None:
    record = full_record()
    for svg in (plots.accuracy_against_macs(record), plots.accuracy_against_time(record)):
        assert svg is not None
        assert len(elements(svg, "tier")) == 4
        assert len(elements(svg, "dense")) == 1
        assert len(elements(svg, "scored")) == 40
        assert len(elements(svg, "control")) == 2
        assert len(elements(svg, "promised")) == 8
        assert len(elements(svg, "tier-range")) == 4
    labels = [one.text for one in elements(plots.accuracy_against_macs(record), "tier-label")]
    assert sorted(labels) == ["0", "1", "2", "3"]


def test_cheaper_tier_stands_left_and_better_tier_stands_above() -> None:
    discs = elements(plots.accuracy_against_macs(full_record()), "tier")  # the last tier is drawn first
    across = [float(one.get("cx", "nan")) for one in discs]
    down = [float(one.get("cy", "nan")) for one in discs]
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)


def test_everything_drawn_lies_inside_the_picture() -> None:
    for svg in (plots.accuracy_against_macs(full_record()), plots.accuracy_against_macs(small_record())):
        for one in ElementTree.fromstring(svg).iter(f"{SVG}circle"):
            assert 0 <= float(one.get("cx", "nan")) <= plots.WIDTH
            assert 0 <= float(one.get("cy", "nan")) <= plots.HEIGHT


def test_points_far_below_are_counted_when_they_do_not_fit() -> None:
    fields = record_fields()
    fields["scored"] = [*fields["scored"], *({"accuracy": 0.1, "mean_macs": 1e5} for _ in range(3))]
    svg = plots.accuracy_against_macs(BuildRecord.model_validate(fields))
    assert [one.text for one in elements(svg, "note")] == ["3 scored below this picture"]


def test_axis_becomes_logarithmic_when_costs_differ_much() -> None:
    fields = record_fields()
    fields["configurations"][3]["mean_macs"] = 9_000
    svg = plots.accuracy_against_macs(BuildRecord.model_validate(fields))
    across = [float(one.get("cx", "nan")) for one in elements(svg, "tier")]
    assert across[1] - across[0] > across[3] - across[1]


def test_time_plot_is_left_out_when_nothing_was_timed() -> None:
    assert plots.accuracy_against_time(small_record()) is None


def test_time_plot_reaches_to_p90() -> None:
    svg = plots.accuracy_against_time(full_record())
    assert svg is not None
    assert len(elements(svg, "tier-slow")) == 8


def test_unread_test_split_is_drawn_hollow() -> None:
    (disc,) = elements(plots.accuracy_against_macs(small_record()), "tier")
    assert disc.get("class") == "tier unmeasured"


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_plot_is_drawn_when_every_accuracy_is_extreme(accuracy: float) -> None:
    fields: dict[str, Any] = record_fields()
    score = {"accuracy": accuracy, "n": 1}
    for one in (*fields["configurations"], fields["dense"]):
        one["select"] = one["test"] = score
    fields["scored"], fields["controls"] = [], []
    svg = plots.accuracy_against_macs(BuildRecord.model_validate(fields))
    assert len(elements(svg, "tier")) == 4
    assert "nan" not in svg


def test_leaving_shares_fill_the_bar() -> None:
    record = full_record()
    svg = plots.leaving_shares(record, record.tiers[1])
    assert svg is not None
    widths = [float(one.get("width", "nan")) for one in elements(svg, "bar")]
    assert sum(widths[:3]) == pytest.approx(468 - 3 * 1.5, abs=0.5)
    assert "exit0 31.0" in svg


def test_title_and_description_are_named_by_the_picture() -> None:
    root = ElementTree.fromstring(plots.accuracy_against_macs(full_record()))
    ids = {one.get("id") for one in root}
    assert set(root.get("aria-labelledby", "").split()) <= ids
    assert "tier 0: promised 98.3" in (root.findtext(f"{SVG}desc") or "").replace("\u00a0", " ")


def test_text_is_escaped_in_a_drawing() -> None:
    drawing = Drawing("x", 10, 10, "<b>", "&")
    drawing.add("text", text='</text><script>"', tip="<i>", x=1)
    svg = drawing.render()
    assert "<script>" not in svg
    assert ElementTree.fromstring(svg) is not None


def test_picture_stands_alone_with_its_own_colours() -> None:
    picture = render_picture(full_record())
    root = ElementTree.fromstring(picture)
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme:dark" in style
    assert "--tide:" in style
    assert "promised on select" in picture
    assert picture == render_picture(full_record())
