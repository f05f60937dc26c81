"""The `policy` section: its defaults are the product's, and numbers out of order are refused where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.errors import EbbtideError
from ebbtide.recipe import PolicySection, Recipe, load_recipe

SMALL = "model: {timm: resnet18}\ndata: {digits: true}\ntraining: {epochs: 3}\n"


def load(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(SMALL + text, encoding="utf-8")
    return load_recipe(path)


def test_defaults_are_the_policy_of_a_bundle_that_names_none(tmp_path: Path) -> None:
    assert PolicyEntry.model_validate(PolicySection().model_dump()) == DEFAULT_POLICY
    assert load(tmp_path, "").policy == PolicySection()
    assert set(PolicySection.model_fields) == set(PolicyEntry.model_fields)


def test_a_number_that_is_given_replaces_its_default_alone(tmp_path: Path) -> None:
    found = load(tmp_path, "policy: {enter_mh: [850, 930, 940], up_hold_ms: 0}").policy
    expected = DEFAULT_POLICY.model_copy(update={"enter_mh": (850, 930, 940), "up_hold_ms": 0})
    assert PolicyEntry.model_validate(found.model_dump()) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("enter_mh: [750, 950, 850]", "fall"),
        ("battery_enter_percent: [5, 10, 20]", "rise"),
        ("status_floor: [0, 2, 1, 3, 3, 3, 3]", "fall"),
        ("apple_floor: [3, 2, 1, 0]", "fall"),
        ("battery_temperature_enter_dc: [430, 410, 390]", "fall"),
        ("enter_mh: [750, 850]", "3"),
        ("hysteresis_mh: -1", "0"),
        ("saver_floor: 4", "3"),
        ("up_hold_ms: 60.5", "whole number"),
        ("hysteresis: 65", "hysteresis_mh"),
    ],
)
def test_numbers_are_refused_when_they_are_out_of_order_or_range(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        load(tmp_path, f"policy: {{{text}}}")
    (found,) = caught.value.details["problems"]
    assert found["place"].endswith("r.yaml:4")
    assert found["hint"]
    assert said in " ".join(str(value) for value in found.values())
