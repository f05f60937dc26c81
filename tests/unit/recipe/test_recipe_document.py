"""The YAML reader: places, YAML 1.2 scalars, and texts that are refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import EbbtideError
from ebbtide.recipe import load_recipe
from ebbtide.recipe.document import parse, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1e-3", 0.001),
        ("5E2", 500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("'3'", "3"),
        ("-.inf", float("-inf")),
        ("!!str 3", "3"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_scalar_is_read_as_yaml_1_2_when_plain(text: str, value: object) -> None:
    found = parse(f"k: {text}", "r").data["k"]
    assert found == value
    assert type(found) is type(value)


def test_places_are_lines_when_values_nest() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - y\n", "r.yaml")
    assert document.place(("a", "b")) == "r.yaml:2"
    assert document.place(("a", "c", 1)) == "r.yaml:5"
    assert document.place(("a", "missing")) == "r.yaml:1"


def test_aliases_are_read_when_they_stay_small() -> None:
    assert parse("a: &x {k: 1}\nb: *x\n", "r").data == {"a": {"k": 1}, "b": {"k": 1}}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1, 2\nb: 3\n", 2, "Not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "\\t"),
        ("a: b: c\n", 1, "mapping values"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tag"),
        ("a: !!python/name:os.system ''\n", 1, "tag"),
        ("a: !mine x\n", 1, "tag"),
        ("a: !!binary aGk=\n", 1, "tag"),
        ("a: !!set {x}\n", 1, "tag"),
        ("a: !!int x\n", 1, "not a usable int"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: 1\nb: &b [*b]\n", 2, "contains itself"),
        (BOMB, None, "more than 20,000 values"),
        ("a: " + "[" * 60 + "]" * 60, 1, "levels deep"),
        ("a: 1\nb: \x01\n", 2, "U+0001"),
        ("a: " + "9" * 5000, 1, "not a usable int"),
    ],
)
def test_text_is_refused_with_its_line_when_not_a_plain_document(
    tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EbbtideError) as caught:
        load_recipe(path)
    assert caught.value.code == "recipe.syntax"
    assert caught.value.hint
    assert message in caught.value.message
    assert line is None or caught.value.place == f"{path}:{line}"


def test_duplicate_key_names_both_lines_when_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {timm: a}\ndata: {digits: true}\ntraining: {}\nseed: 1\nseed: 2\n")
    with pytest.raises(EbbtideError) as caught:
        load_recipe(path)
    assert (caught.value.code, caught.value.place) == ("recipe.syntax", f"{path}:5")
    assert f"{path}:4" in caught.value.message


def test_empty_value_is_refused_when_a_key_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {timm: a}\ndata: {digits: true}\ntraining:\n")
    with pytest.raises(EbbtideError) as caught:
        load_recipe(path)
    assert caught.value.place == f"{path}:3"
    assert "{}" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["1", "true", "null", "[a]", "{a: 1}"])
def test_key_is_refused_when_not_text(tmp_path: Path, key: str) -> None:
    document = parse(f"? {key}\n: 3\nb: 2\n", "r")
    assert document.data == {"b": 2}
    assert [problem.code for problem in document.problems] == ["recipe.syntax"]


def test_text_is_refused_when_not_utf8_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(EbbtideError) as caught:
        read_document(path)
    assert caught.value.place == f"{path}:2"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(EbbtideError, match="larger"):
        read_document(path)


def test_text_is_read_when_it_has_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_document(path).data == {"a": 1, "b": 2}


_VALUES: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.dictionaries(
            st.sampled_from(
                ["model", "data", "training", "exits", "tiers", "classes", "stages", "seed", "sign", "name"]
            ),
            _VALUES,
            max_size=5,
        ).map(json.dumps),
    )
)
def test_any_text_gives_a_recipe_or_an_error_for_users_when_random(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    # Anything but an EbbtideError fails the test, and so does an error that is not the user's to mend.
    with contextlib.suppress(EbbtideError):
        load_recipe(path)
        return
    with pytest.raises(EbbtideError) as caught:
        load_recipe(path)
    assert caught.value.exit_status == 2
