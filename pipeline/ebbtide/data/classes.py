"""Class sets: which classes of the universal model a build is for, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ebbtide.errors import EbbtideError, nearest


def choose_classes(wanted: Any, universal: Sequence[str]) -> tuple[int, ...]:
    """Indices into the universal classes, in the order of the class set.

    Args:
        wanted: "all"; a list of names (text) and indices (int), whose order counts; or an object with ``count`` and
            ``seed``. A draw takes the classes whose SHA-256 of ``"seed\\nname"`` is smallest, and keeps the universal
            order: it depends on no random generator, and a larger draw of one seed holds every smaller one.
        universal: names of all classes.

    Raises:
        EbbtideError: data.one_class, data.class_set_empty, data.class_unknown.
    """
    if len(universal) < 2:
        raise EbbtideError(
            "data.one_class",
            "The data has fewer than two classes.",
            found=", ".join(universal) or "none",
            place="data",
            hint="give samples of two classes or more",
        )
    if wanted == "all":
        return tuple(range(len(universal)))
    if hasattr(wanted, "seed"):
        return _draw(int(wanted.count), int(wanted.seed), universal)
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise EbbtideError(
            "data.class_unknown",
            f"The class set {wanted!r} is not understood.",
            expected="all, a list of names or indices, or {count, seed}",
            place="classes",
            hint="write classes: all, or name the classes",
        )
    if len(wanted) < 2:
        raise EbbtideError(
            "data.class_set_empty",
            "A class set needs at least two classes.",
            found=str(list(wanted)),
            place="classes",
            hint="name two classes or more, or write classes: all",
        )
    chosen = [_index(item, universal, place=f"classes[{i}]") for i, item in enumerate(wanted)]
    for i, index in enumerate(chosen):
        if index in chosen[:i]:
            raise EbbtideError(
                "data.class_unknown",
                f"The class {universal[index]!r} is named twice.",
                place=f"classes[{i}]",
                hint="name each class once",
            )
    return tuple(chosen)


def _draw(count: int, seed: int, universal: Sequence[str]) -> tuple[int, ...]:
    if not 2 <= count <= len(universal):
        raise EbbtideError(
            "data.class_set_empty" if count < 2 else "data.class_unknown",
            f"{count} classes cannot be drawn.",
            expected=f"2 to {len(universal)}",
            place="classes.count",
            hint="draw fewer classes, but two at least",
        )
    ranked = sorted(
        range(len(universal)), key=lambda i: (hashlib.sha256(f"{seed}\n{universal[i]}".encode()).digest(), i)
    )
    return tuple(sorted(ranked[:count]))


def _index(item: Any, universal: Sequence[str], *, place: str) -> int:
    if isinstance(item, int) and not isinstance(item, bool):
        if 0 <= item < len(universal):
            return item
        raise EbbtideError(
            "data.class_unknown",
            f"There is no class with index {item}.",
            expected=f"0 to {len(universal) - 1}",
            place=place,
            hint="see the classes with `ebb check`; the first one is 0",
        )
    if item in universal:
        return list(universal).index(item)
    close = nearest(str(item), list(universal))
    shown = ", ".join(universal[:20]) + (", ..." if len(universal) > 20 else "")
    raise EbbtideError(
        "data.class_unknown",
        f"There is no class {item!r}.",
        expected=shown,
        place=place,
        hint=f"did you mean {close!r}?" if close else "see the class names with `ebb check`",
    )
