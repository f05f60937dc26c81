"""From the bytes of a manifest to its models, or to one error with a JSON path."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ebbtide.bundle.consistency import check_consistency
from ebbtide.bundle.manifest import FORMAT, Entry, Manifest
from ebbtide.bundle.strict_json import drop_extensions, parse_strict
from ebbtide.errors import EbbtideError, nearest


def json_path(location: tuple[str | int, ...]) -> str:
    """A place in a document: ``("files", 0, "path")`` is ``$.files[0].path``."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest and check everything that can be checked without its files.

    Raises:
        EbbtideError: with the JSON path as place and one of ``bundle.manifest_syntax``, ``_version``, ``_missing_key``,
            ``_unknown_key``, ``_value``, ``_duplicate``, ``_reference``, ``_order``; if several things are wrong, shape
            comes before references, an unknown key before a missing one, else the first in the order of the models.
    """
    document = parse_strict(data)
    if b'"x_' in data or b"\\u" in data:  # an escape may spell the x
        document = drop_extensions(document)
    version = document.get("format")
    if type(version) is int and version != FORMAT:
        raise EbbtideError(
            "bundle.manifest_version",
            f"The manifest has format {version}, which this reader does not know.",
            expected=f"format {FORMAT}",
            found=str(version),
            hint="Use a newer Ebbtide, or build the bundle with this one.",
            place="$.format",
        )
    if version is None:
        raise _missing(("format",))
    if type(version) is not int:  # 1.0 and true are equal to 1 in Python
        raise EbbtideError("bundle.manifest_value", "The format is not an integer.", place="$.format")
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        raise _translated(error.errors(include_url=False)) from None
    check_consistency(manifest)
    return manifest


def _missing(location: tuple[str | int, ...]) -> EbbtideError:
    return EbbtideError(
        "bundle.manifest_missing_key", f"The key {location[-1]!a} is missing.", place=json_path(location)
    )


def _translated(errors: list[ErrorDetails]) -> EbbtideError:
    # A mistyped key is also a missing one; the mistyped one says more.
    errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
    first = errors[0]
    location, kind = first["loc"], first["type"]
    others = {"others": [json_path(error["loc"]) for error in errors[1:20]]} if len(errors) > 1 else {}
    if kind == "missing":
        return _missing(location)
    if kind == "extra_forbidden":
        close = nearest(str(location[-1]), _known_keys())
        return EbbtideError(
            "bundle.manifest_unknown_key",
            f"The key {location[-1]!a} is not one that version {FORMAT} knows.",
            hint=f"Did you mean {close!r}?" if close else "Own facts go into an object whose key begins with x_.",
            place=json_path(location),
            details=others,
        )
    return EbbtideError(
        "bundle.manifest_value",
        f"{first['msg'].removeprefix('Value error, ')}.",
        found=ascii(first["input"])[:120],
        place=json_path(location),
        details=others,
    )


def _known_keys() -> list[str]:
    return sorted({name for model in Entry.__subclasses__() for name in model.model_fields})
