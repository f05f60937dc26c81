"""Reading YAML into plain values while remembering the place of each, so that every later error can name its line.

The scalars are those of YAML 1.2's core schema: ``no``, ``off`` and ``1:30`` are text and ``1e-3`` is a
number, which YAML 1.1 has the other way round. Only the plain tags are allowed, keys are text and
appear once, and aliases may not blow a small file up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ebbtide.errors import EbbtideError
from ebbtide.recipe.problems import Problem

Where = tuple[str | int, ...]
"""The way to a value from the root: keys and list indices."""

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
MAX_DEPTH = 40
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe composer with YAML 1.2 scalars; its constructor is never used."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = parent.start_mark if parent else None
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {MAX_DEPTH} levels deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


# Start from none: add_implicit_resolver would otherwise copy those of YAML 1.1.
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass
class Document:
    """A recipe as plain values, with the place of every key and value, and what was wrong with the text."""

    name: str
    data: Any = None
    keys: dict[Where, str] = field(default_factory=dict)
    values: dict[Where, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, where: Where) -> str:
        """``file:line`` (or ``--set ...``) of a key, else of its value, else of the nearest thing around it."""
        while where:
            if where in self.keys or where in self.values:
                return self.keys.get(where) or self.values[where]
            where = where[:-1]
        return self.values.get((), f"{self.name}:1")

    def forget(self, where: Where) -> None:
        """Drop the places of a value that is replaced, and of everything inside it."""
        for places in (self.keys, self.values):
            for known in [known for known in places if known[: len(where)] == where]:
                del places[known]


def read_document(path: Path) -> Document:
    """Read a recipe file.

    Raises:
        EbbtideError: ``recipe.missing_file`` if it is not there or not readable, ``recipe.syntax`` if it is not YAML.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "cannot be read"
        raise EbbtideError(
            "recipe.missing_file",
            f"The recipe {path} {reason}.",
            expected="a YAML file",
            found=error.strerror,
            hint="Give the recipe's path, or write a new one with `ebb init`.",
            place=str(path),
        ) from error
    if len(content) > MAX_BYTES:
        raise _syntax(f"The recipe is larger than {MAX_BYTES >> 20} MiB.", f"{path}:1", "Is this the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _syntax("The recipe is not UTF-8 text.", f"{path}:{line}", "Save it as UTF-8.") from error
    return parse(text, str(path))


def parse(text: str, name: str, *, line_places: bool = True) -> Document:
    """Parse YAML text; `name` is the file's in ``file:line`` (the whole place if not `line_places`).

    Raises:
        EbbtideError: ``recipe.syntax``.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _explain(error, text, name, line_places) from error
    document = Document(name)
    builder = _Builder(document, line_places)
    document.data = None if node is None else builder.value(node, ())
    return document


def _explain(error: yaml.YAMLError, text: str, name: str, line_places: bool) -> EbbtideError:
    line, reason, hint = 1, str(error), "Check indentation, quotes and brackets on this line and the one before."
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = " ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character U+{int(error.character):04X} is not allowed"
        hint = "Delete the character."
    if "'\\t'" in reason:
        hint = "Indent with spaces; YAML does not allow tabs."
    elif "single document" in reason:
        hint = "A recipe is one document: delete the line `---` and put other recipes in other files."
    elif "mapping values are not allowed" in reason:
        hint = "Put a text that contains `: ` in quotes, and check the indentation."
    return _syntax(f"Not valid YAML: {reason}.", f"{name}:{line}" if line_places else name, hint)


def _syntax(message: str, place: str, hint: str) -> EbbtideError:
    return EbbtideError("recipe.syntax", message, place=place, hint=hint)


class _Builder:
    """Turns composed nodes into values; refuses what a recipe has no use for."""

    def __init__(self, document: Document, line_places: bool) -> None:
        self.document = document
        self.line_places = line_places
        self.count = 0
        self.open: set[int] = set()

    def place(self, node: yaml.Node) -> str:
        return f"{self.document.name}:{node.start_mark.line + 1}" if self.line_places else self.document.name

    def value(self, node: yaml.Node, where: Where) -> Any:
        place = self.place(node)
        self.count += 1
        if self.count > MAX_VALUES or id(node) in self.open:
            what = "contains itself" if id(node) in self.open else f"stands for more than {MAX_VALUES:,} values"
            raise _syntax(f"An alias (*name) {what}.", place, "Write the values out, without aliases.")
        self.document.values.setdefault(where, place)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return dict(self.items(node, where))
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(child, (*where, index)) for index, child in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode):
                return _scalar(node, place)
        finally:
            self.open.discard(id(node))
        raise _bad_tag(node, place)

    def items(self, node: yaml.MappingNode, where: Where) -> Iterator[tuple[str, Any]]:
        seen: dict[str, str] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node)
            key = _scalar(key_node, place) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raw = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or section"
                self.problem(where, place, f"A key must be text, found {raw}.", "Put the key in quotes.")
                continue
            if key in seen:
                self.problem(
                    (*where, key),
                    place,
                    f"The key `{key}` is written twice; the first is at {seen[key]}.",
                    "Delete one of the two.",
                )
                continue
            seen[key] = place
            self.document.keys.setdefault((*where, key), place)
            value = self.value(value_node, (*where, key))
            if value is None and not value_node.value:
                message = f"The key `{key}` has no value."
                self.problem(
                    (*where, key), place, message, "Write {} for a section of defaults, null for none, or a value."
                )
                continue
            yield key, value

    def problem(self, where: Where, place: str, message: str, hint: str) -> None:
        self.document.problems.append(Problem("recipe.syntax", message, where=where, place=place, hint=hint))


def _scalar(node: yaml.ScalarNode, place: str) -> str | int | float | bool | None:
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    try:
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except (ValueError, KeyError) as error:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise _syntax(f"`{shown}` is not a usable {kind}.", place, "Write a plain value.") from error
    raise _bad_tag(node, place)


def _bad_tag(node: yaml.Node, place: str) -> EbbtideError:
    shown = str(node.tag).replace(_TAG, "!!")
    return _syntax(
        f"The tag {shown} is not allowed: a recipe holds plain values only.",
        place,
        "Delete the tag and write the value.",
    )
