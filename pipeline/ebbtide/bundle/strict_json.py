"""JSON as every reader of a bundle must take it: one meaning for every byte, bounded work, no surprises.

Parsers disagree about duplicate keys, NaN, byte order marks, huge integers and lone surrogates; a signed document whose
meaning depends on the parser is not signed at all. So all of these are refused, in every language, before a model sees
the document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from ebbtide.errors import EbbtideError

MAX_BYTES = 8 * 1024 * 1024
"""A manifest of 4 tiers and 64 configurations of 60 steps is under 1 MiB; eight leaves room and bounds a reader."""
MAX_DEPTH = 32
"""The manifest nests 7 deep; `x_*` objects may go further, a parser's stack may not."""
MAX_INTEGER = 2**53 - 1
"""The largest integer that a reader holding numbers as doubles still keeps exactly (RFC 8259, section 6)."""

_CODE = "bundle.manifest_syntax"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def _refuse(message: str, *, hint: str | None = None) -> NoReturn:
    raise EbbtideError(_CODE, message, expected="one strict JSON object in UTF-8", hint=hint, place="$")


def parse_strict(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        data: the exact bytes; UTF-8 without a byte order mark.
        max_bytes: the largest document accepted.
        max_depth: how deep objects and arrays may nest; the outermost object is depth 1.

    Returns:
        The object; numbers are int (at most `MAX_INTEGER` either way) or finite float.

    Raises:
        EbbtideError: ``bundle.manifest_syntax`` with place ``$`` for anything else.
    """
    if len(data) > max_bytes:
        _refuse(f"The manifest has {len(data)} bytes, more than the {max_bytes} that readers accept.")
    if data.startswith(b"\xef\xbb\xbf"):
        _refuse("The manifest begins with a byte order mark.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(f"The manifest is not UTF-8: {error.reason} at byte {error.start}.")
    _check_depth(text, max_depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        _refuse(f"The manifest is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.")
    if not isinstance(value, dict):
        _refuse("The manifest is not a JSON object.")
    if "\\u" in text:  # the one way to spell what UTF-8 cannot
        _check_text(value)
    return value


def _check_depth(text: str, limit: int) -> None:
    """Refuse deep nesting before a recursive parser meets it."""
    if text.count("[") + text.count("{") <= limit:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > limit:
            _refuse(f"The manifest nests deeper than {limit} levels.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                _refuse(f"The key {key!a} stands twice in one object.")
            seen.add(key)
    return found


def _constant(text: str) -> NoReturn:
    _refuse(f"{text} is not a JSON number.")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        _refuse(f"The integer {text[:24]} is beyond 2^53 - 1, which not every reader can hold.")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 400 else math.inf
    if not math.isfinite(value):
        _refuse(f"The number {text[:24]} is beyond what a double can hold.")
    return value


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, which JSON escapes can spell and UTF-8 cannot."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            _refuse(f"The text {value[:40]!a} holds half of a surrogate pair.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


def drop_extensions(value: Any, path: str = "$") -> Any:
    """A copy without the ``x_*`` objects, which may stand in any object and which readers ignore.

    Raises:
        EbbtideError: ``bundle.manifest_value`` where an ``x_*`` key holds something that is not an object.
    """
    if isinstance(value, list):
        return [drop_extensions(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if not key.startswith("x_"):
            kept[key] = drop_extensions(item, f"{path}.{key}")
        elif not isinstance(item, dict):
            raise EbbtideError(
                "bundle.manifest_value",
                f"The extension {key!a} is not an object.",
                expected="an object",
                found=type(item).__name__,
                place=f"{path}.{key}",
            )
    return kept


def canonical_bytes(value: Any, *, default: Callable[[Any], Any] | None = None) -> bytes:
    """The one way this project writes a JSON document that is hashed or signed.

    UTF-8, keys in the order given, no spaces, no escapes beyond the necessary ones, one newline at the end. Floats are
    written as the shortest decimal that gives the same double back (ECMA-262 Number::toString digits, Python's repr).
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)
    return text.encode("utf-8") + b"\n"
