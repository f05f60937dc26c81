from __future__ import annotations

import pickle

import pytest

from ebbtide.errors import CODES, EbbtideError


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_meaning_a_status_and_something_to_do(code: str) -> None:
    error = EbbtideError(code, "Something is wrong")
    assert CODES[code].endswith(".")
    assert error.exit_status in (1, 2, 3, 130)
    assert error.hint
    assert str(error).startswith(f"[{code}] Something is wrong")
    assert f"do: {error.hint}" in str(error)


def test_hint_of_the_raiser_wins_over_the_general_advice() -> None:
    assert EbbtideError("bundle.payload", "x", hint="Do that.").hint == "Do that."


def test_unlisted_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match=r"bundle\.nothing"):
        EbbtideError("bundle.nothing", "x")


def test_error_keeps_everything_when_it_crosses_a_process() -> None:
    error = EbbtideError("data.empty", "x", expected="e", found="f", hint="h", place="p", details={"n": 1})
    assert pickle.loads(pickle.dumps(error)).as_dict() == error.as_dict()
