"""The commented recipe that ``ebb init`` writes: made from the models, so it cannot fall behind them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ebbtide.errors import EbbtideError
from ebbtide.recipe.document import parse
from ebbtide.recipe.models import Recipe

_WIDTH = 120
_PROSE = 100
_COLUMN = 36
_HEAD = """\
A recipe of Ebbtide: one trained classifier and its data in, one signed bundle per device out.
Check it with `ebb check`, build it with `ebb build`. Every key is shown with its default; a line
that begins with `# ` and a key is a setting that is off. Paths count from this file's folder."""

START: Mapping[str, Any] = {
    "model": {"torchvision": "mobilenet_v3_small", "arguments": {"num_classes": 10}},
    "data": {"digits": True, "input": {"size": 32, "color": "RGB"}},
    "training": {},
    "exits": {},
}
"""What a new recipe starts from; it loads as it is, with nothing beside it."""


def init_text(name: str = "model", *, given: Mapping[str, Any] = START) -> str:
    """A complete recipe as YAML text in which every key is explained and every default visible.

    Args:
        name: the recipe's name.
        given: values as a recipe has them, at least `model` and `data`; they stand in the text in the
            place of the defaults. A section that is neither given nor required is shown as off.
    """
    lines = [*_comment(_HEAD, 0), ""]
    for block in _section(Recipe, {"name": name, **given}, indent=0):
        # Sections stand apart; single lines stay together.
        lines += [*([""] if len(block) > 1 and lines[-1] else []), *block, *([""] if len(block) > 1 else [])]
    return "\n".join(lines).rstrip() + "\n"


def _section(model: type[BaseModel], given: Mapping[str, Any], *, indent: int) -> Iterator[list[str]]:
    for key, field in model.model_fields.items():
        lines = _entry(key, field, given.get(key, _default(field)), indent, shown=key in given)
        comment = f"{lines[0]:<{_COLUMN}}  # {field.description}"
        if len(lines) == 1 and len(comment) <= _WIDTH:
            yield [comment]
        else:
            yield [*_comment(field.description or "", indent), *lines]


def _entry(key: str, field: FieldInfo, value: Any, indent: int, *, shown: bool) -> list[str]:
    pad, inner = " " * indent, _inner_model(field)
    if inner is not None and (value is None or isinstance(value, Mapping)):
        body = [line for block in _section(inner, value or {}, indent=indent + 2) for line in block]
        if value is None and not shown:
            return [f"{pad}# {key}:", *(f"{pad}# {line[indent:]}" for line in body)]
        return [f"{pad}{key}:", *body]
    if value is None and not shown:
        return [f"{pad}# {key}: {flow(field.examples[0] if field.examples else 0)}"]
    return [f"{pad}{key}: {flow(value)}"]


def _default(field: FieldInfo) -> Any:
    """What to show for a key that is not given: {} for a section that is there, None for what is off."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if extra.get("x-ebbtide") == "recipe-seed":
        return None
    if field.is_required():
        return field.examples[0] if field.examples else None
    value = field.get_default(call_default_factory=True)
    return {} if isinstance(value, BaseModel) else value


def _inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds; None where short forms or plain values are usual."""
    forms = list(_forms(field.annotation))
    if any(get_origin(form) is list for form in forms):
        return None
    return next((form for form in forms if isinstance(form, type) and issubclass(form, BaseModel)), None)


def _forms(annotation: Any) -> Iterator[Any]:
    """The members of a union, and what an `Annotated` stands for; not what the annotations say beside it."""
    if get_origin(annotation) is Annotated:
        yield from _forms(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for form in get_args(annotation):
            yield from _forms(form)
    else:
        yield annotation


def flow(value: Any) -> str:
    """A value in YAML's flow style; text is quoted only where it would be read as something else."""
    if isinstance(value, str):
        try:
            plain = parse(value, "").data == value and not set(value) & set(",[]{}")
        except EbbtideError:
            plain = False
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return [prefix + line for line in textwrap.wrap(text, _PROSE - len(prefix), break_on_hyphens=False)]
