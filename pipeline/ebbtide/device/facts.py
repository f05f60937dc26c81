"""What an application can read of the device it runs on, and of the runtime that is built into it.

Every fact but the platform may be absent: a rule that asks for an absent fact does not hold, and a check that would
need one is left out and named in the result. Android writes ``unknown`` where it does not know; that, and an empty
text, is absent too.
"""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from ebbtide.device.load import HOST, load_profile
from ebbtide.device.profile import Platform
from ebbtide.device.section import ProfileName, Section, Text
from ebbtide.errors import EbbtideError, nearest

MAX_INTEGER: Final = 2**53 - 1
_MAX_BYTES: Final = 64 * 1024
_NOT_KNOWN: Final = ("", "unknown")
_NUMBERS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,2}")

Engine = Literal["executorch", "coreml"]
Bytes = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
OsVersion = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,2}$")]
"""One to three numbers: an API level on Android, a version elsewhere. Missing numbers count as zero."""
RuntimeVersion = Annotated[str, Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}([^0-9].*)?$")]
"""Three numbers; what follows them (``+cpu``, ``a0``) is not looked at."""


def _known(value: str | None) -> str | None:
    return None if value in _NOT_KNOWN else value


Read = Annotated[Annotated[str, Field(max_length=400)] | None, AfterValidator(_known)]


class Facts(Section):
    """A device and a runtime, as the application on it sees them."""

    platform: Platform = Field(description="What the application was compiled for")
    profile: ProfileName | None = Field(
        default=None, description="The device's profile by name, where whoever set the device up has told it"
    )
    brand: Read = Field(default=None, description="Build.BRAND")
    device: Read = Field(default=None, description="Build.DEVICE")
    soc_model: Read = Field(default=None, description="Build.SOC_MODEL (Android 12 and later)")
    identifier: Read = Field(default=None, description="utsname.machine on Apple systems")
    ram_bytes: Bytes | None = Field(default=None, description="MemoryInfo.totalMem, ProcessInfo.physicalMemory")
    os_version: OsVersion | None = Field(default=None, description="API level on Android, version elsewhere")
    abis: Annotated[list[Text], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="Build.SUPPORTED_ABIS"
    )
    engine: Engine | None = Field(default=None, description="The runtime built into the application")
    runtime_version: RuntimeVersion | None = Field(default=None, description="Its version")
    backends: Annotated[list[ProfileName], Field(max_length=16)] | None = Field(
        default=None, description="The backends built into it, in the manifest's words"
    )

    @property
    def model(self) -> str | None:
        """``BRAND/DEVICE`` as profiles name a device; None unless both are known."""
        return None if self.brand is None or self.device is None else f"{self.brand}/{self.device}"


def numbers(version: str) -> tuple[int, int, int]:
    """The first three numbers of a version, for comparing; those that are not there are zero."""
    found = _NUMBERS.match(version)
    parts = [int(part) for part in found.group().split(".")] if found else []
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return major, minor, patch


def leading_version(text: str) -> str | None:
    """The one to three numbers that a system's own version begins with (``6.8.0-45-generic``); None if it has none."""
    found = _NUMBERS.match(text)
    return found.group() if found else None


def facts_from(document: Any, *, place: str = "facts") -> Facts:
    """Check a document of facts.

    Args:
        document: what a JSON file holds.
        place: what to call it in an error.

    Raises:
        EbbtideError: ``device.facts`` for an unknown key, a wrong type or a value out of range.
    """
    try:
        return Facts.model_validate(document)
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"])
        close = nearest(where, list(Facts.model_fields)) if first["type"] == "extra_forbidden" else None
        raise EbbtideError(
            "device.facts",
            f"{first['msg'].removeprefix('Value error, ')}.",
            found=None if first["type"] == "missing" else ascii(first["input"])[:120],
            hint=f"Did you mean {close!r}?" if close else None,
            place=f"{place}: {where}" if where else place,
        ) from None


def read_facts(path: Path) -> Facts:
    """Read facts from a JSON file.

    Raises:
        EbbtideError: ``device.facts`` if it cannot be read, is not one JSON object or holds a wrong fact.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _unreadable(path, f"The file has more than {_MAX_BYTES} bytes.")
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse)
    except OSError as error:
        raise _unreadable(path, f"The file cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"This is not JSON: {error}.") from None
    return facts_from(document, place=str(path))


def host_facts(*, engine: Engine, runtime_version: str, backends: list[str]) -> Facts:
    """The facts of this machine, read as its own profile is filled in.

    Args:
        engine: the runtime that is here.
        runtime_version: its version.
        backends: those built into it.
    """
    host = load_profile(HOST)
    return Facts(
        platform=host.platform,
        profile=HOST,
        ram_bytes=host.ram_bytes_min.value,
        os_version=leading_version(platform.release()),
        abis=list(host.abis.value) if host.abis.value else None,
        engine=engine,
        runtime_version=runtime_version,
        backends=backends,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _unreadable(path: Path, message: str) -> EbbtideError:
    return EbbtideError(
        "device.facts",
        message,
        expected="one JSON object; devices/README.md lists its keys",
        place=str(path),
    )
