"""The choice of a bundle: the vectors shared with other languages, what holds for any choice, and its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.device import Candidate, Catalog, Choice, Facts, choice_words, choose, facts_from, load_catalog
from ebbtide.device.candidate import Exclusion
from ebbtide.device.choice import ORDER, Limit, Reason
from ebbtide.device.facts import leading_version, numbers
from ebbtide.errors import EbbtideError

DOCUMENT = json.loads((Path(__file__).parents[2] / "vectors/choice/cases.json").read_bytes())
CASES: list[dict[str, Any]] = DOCUMENT["cases"]
CATALOG = Catalog.model_validate(DOCUMENT["catalog"])
CHOSEN = [case for case in CASES if "error" not in case["expected"]]


def candidates_of(case: dict[str, Any]) -> list[Candidate]:
    return [Candidate.model_validate(candidate) for candidate in case["candidates"]]


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case["name"])
def test_choice_equals_vector(case: dict[str, Any]):
    candidates = candidates_of(case)
    choice = choose(facts_from(case["facts"]), candidates, CATALOG)
    assert choice.as_dict() == case["expected"]
    words = choice_words(choice, candidates[choice.candidate])
    assert f"tier {choice.tier} ({choice.width})" in words
    assert all(name in words for name in choice.unknown)


@pytest.mark.parametrize("case", [case for case in CASES if case not in CHOSEN], ids=lambda case: case["name"])
def test_choice_gives_code_of_vector(case: dict[str, Any]):
    with pytest.raises(EbbtideError) as caught:
        choose(facts_from(case["facts"]), candidates_of(case), CATALOG)
    assert caught.value.code == case["expected"]["error"]


def test_vectors_cover_every_word_when_listed():
    expected = [case["expected"] for case in CHOSEN]
    assert {one["reason"] for one in expected} == set(get_args(Reason))
    assert {one["limit"] for one in expected} == set(get_args(Limit))
    assert {code for one in expected for code in one["excluded"]} == {*get_args(Exclusion), None}
    unknown = {name for one in expected for name in one["unknown"]}
    assert unknown == {"ram_bytes", "os_version", "abis", "engine", "runtime_version", "backends"}
    assert {one["group"] for one in expected} == {*(group.id for group in CATALOG.groups), None}
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)


def documents(key: str) -> list[dict[str, Any]]:
    """All different documents under a key of the cases that choose."""
    found = [case[key] for case in CHOSEN]
    return [one for place, one in enumerate(found) if one not in found[:place]]


POOL = [candidate for candidates in documents("candidates") for candidate in candidates]


def chosen(facts: Facts, candidates: list[Candidate]) -> Choice | None:
    try:
        return choose(facts, candidates, CATALOG)
    except EbbtideError:
        return None


@given(st.sampled_from(documents("facts")), st.lists(st.sampled_from(POOL), max_size=5), st.randoms())
def test_choice_does_not_depend_on_order_when_shuffled(facts, pool, random):
    read, candidates = facts_from(facts), [Candidate.model_validate(one) for one in pool]
    shuffled = random.sample(candidates, len(candidates))
    choice, other = chosen(read, candidates), chosen(read, shuffled)
    assert (choice is None) == (other is None)
    if choice is None or other is None:
        return

    def ranked_by(one: Candidate) -> tuple[object, ...]:
        return one.sequence, one.profile, one.name

    assert ranked_by(shuffled[other.candidate]) == ranked_by(candidates[choice.candidate])
    assert sorted(map(str, other.excluded)) == sorted(map(str, choice.excluded))


@given(st.sampled_from(documents("facts")), st.lists(st.sampled_from(POOL), max_size=5))
def test_choice_keeps_within_tiers_and_memory_when_any_fits(facts, pool):
    candidates = [Candidate.model_validate(one) for one in pool]
    choice = chosen(facts_from(facts), candidates)
    if choice is None:
        return
    tiers = candidates[choice.candidate].tiers
    assert 0 <= choice.minimum_tier <= choice.tier <= choice.maximum_tier < len(tiers)
    assert choice.excluded[choice.candidate] is None
    limit = next((group.memory_bytes_max for group in CATALOG.groups if group.id == choice.group), 2**60)
    assert all(tier.memory_bytes <= limit for tier in tiers[choice.minimum_tier : choice.maximum_tier + 1])


@given(st.sampled_from(documents("facts")), st.lists(st.sampled_from(POOL), min_size=1, max_size=5))
def test_one_that_is_left_out_changes_nothing_when_removed(facts, pool):
    read, candidates = facts_from(facts), [Candidate.model_validate(one) for one in pool]
    choice = chosen(read, candidates)
    if choice is None:
        return
    kept = [one for one, code in zip(candidates, choice.excluded, strict=True) if code is None]
    again = choose(read, kept, CATALOG)
    assert kept[again.candidate] == candidates[choice.candidate]
    assert again.reason == choice.reason


def test_order_of_recognition_is_what_the_documentation_says():
    assert ORDER == ("named", "device", "identifier", "soc", "default")


def test_error_says_why_each_was_left_out_when_none_fits():
    case = next(case for case in CASES if case["name"] == "none_fits")
    with pytest.raises(EbbtideError) as caught:
        choose(facts_from(case["facts"]), candidates_of(case), CATALOG)
    error = caught.value.as_dict()
    assert error["found"] == "flowers for nobody is for ios; flowers for phone-one is for other devices (phone-one)"
    assert error["expected"] == "a bundle for android, acme/nine, executorch 1.5.1, with xnnpack"
    assert error["details"] == {"excluded": ["platform", "device"]}
    assert "default profile of android" in error["hint"]


def test_error_says_so_when_there_is_no_bundle():
    with pytest.raises(EbbtideError, match="no bundle to choose from"):
        choose(Facts(platform="ios"), [], CATALOG)


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("34", (34, 0, 0)),
        ("17.2", (17, 2, 0)),
        ("1.5.1+cpu", (1, 5, 1)),
        ("1.7.0a0", (1, 7, 0)),
        ("1.2.3.4", (1, 2, 3)),
    ],
)
def test_numbers_are_the_first_three_when_compared(version, found):
    assert numbers(version) == found


def test_leading_version_is_what_a_system_begins_with():
    assert leading_version("6.8.0-45-generic") == "6.8.0"
    assert leading_version("22.04") == "22.04"
    assert leading_version("rolling") is None


def test_facts_schema_refuses_what_the_reader_refuses():
    check = jsonschema.Draft202012Validator(Facts.model_json_schema()).is_valid
    for case in CASES:
        assert check(case["facts"]) == (case["expected"] != {"error": "device.facts"}), case["name"]


def phone(**more: Any) -> Facts:
    return facts_from({"platform": "android", "engine": "executorch", "runtime_version": "1.5.1"} | more)


def shipped(profile: str, file_bytes: int = 4_000_000) -> Candidate:
    tiers = [{"width": f"w{width}", "file_bytes": file_bytes * width // 100, "peak_bytes": 1} for width in (100, 25)]
    return Candidate.model_validate(
        {"name": "flowers", "sequence": 1, "profile": profile, "platform": "android", "engine": "executorch"}
        | {"runtime_min": "1.5.0", "runtime_max_exclusive": "1.7.0", "backends": [], "tiers": tiers}
    )


def test_pixel_gets_its_own_when_the_shipped_catalogue_is_used():
    bundles = [shipped("any-android"), shipped("galaxy-s24-ultra"), shipped("pixel-8")]
    pixel = phone(brand="google", device="shiba", ram_bytes=7_900_000_000)
    choice = choose(pixel, bundles, load_catalog())
    assert (choice.candidate, choice.reason, choice.group, choice.tier) == (2, "profile:device", "ram-8g", 0)
    assert choice.excluded == (None, "device", None)


def test_unknown_phone_begins_small_when_the_shipped_catalogue_is_used():
    bundles = [shipped("any-android"), shipped("pixel-8")]
    unknown = choose(phone(brand="acme", device="nine"), bundles, load_catalog())
    assert (unknown.reason, unknown.tier, unknown.minimum_tier, unknown.limit) == ("default", 1, 1, "unknown")
    known = choose(phone(brand="acme", device="nine", ram_bytes=2_000_000_000), bundles, load_catalog())
    assert (known.reason, known.group, known.tier, known.minimum_tier) == ("group", "ram-2g", 1, 0)
    large = [shipped("any-android", file_bytes=40_000_000)]
    limited = choose(phone(ram_bytes=2_000_000_000), large, load_catalog())
    assert (limited.minimum_tier, limited.limit, limited.widest) == (1, "memory", "w25")
