"""Names of files inside a bundle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.bundle.names import fault_of_name, fault_of_set


@pytest.mark.parametrize(
    "name", ["a", "programs/w100-f32-cpu.pte", "ж/薔薇.pte", "a b/c.d", "...a", "nulls/a", "a/CON1"]
)
def test_name_is_taken_when_plain(name):
    assert fault_of_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a\\b",
            "c:/a",
            "a\x7f",
            "nul",
            "a/com1.txt",
            "LPT².x",
            "a.",
            "a ",
        ),
        *(
            " a",
            "manifest.json",
            "MANIFEST.SIG",
            "payload.xz",
            "a\u0308",
            "x" * 241,
            "\ud800",
            "a/b/c/d/e/f/g/h/i",
            "com0",
        ),
    ],
)
def test_name_is_refused_when_not_plain(name):
    assert fault_of_name(name) is not None


@given(st.text(max_size=30))
def test_name_stays_inside_when_taken(name):
    if fault_of_name(name) is None:
        assert not name.startswith("/")
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert "\\" not in name


@pytest.mark.parametrize(
    "names",
    [["a", "a"], ["a", "A"], ["é", "É"], ["ß", "SS"], ["a/b", "a"], ["a", "a/b"], ["a/b", "A/c"], ["A/b", "a/b"]],
)
def test_set_is_refused_when_two_names_are_one_file(names):
    found = fault_of_set(names)
    assert found is not None
    assert found[0] == 1


def test_set_is_taken_when_names_differ():
    assert fault_of_set(["a/b", "a/c", "ab", "b/a/c"]) is None
