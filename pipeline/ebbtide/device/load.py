"""Finding and reading device profiles.

The source is ``devices/profiles`` at the top of the repository, where people look for it. A checkout, an editable
installation included, reads it there. A wheel has it as package data of ``ebbtide.device`` (the build copies the folder
to ``ebbtide/device/profiles``, and ``groups.yaml`` beside it), and that copy is read where there is one.
"""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ebbtide.device.profile import Cpu, Fact, Platform, Profile
from ebbtide.errors import EbbtideError, nearest

_PACKAGED: Final = Path(__file__).parent
_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "devices"
_MAX_BYTES: Final = 256 * 1024

Kind = TypeVar("Kind", bound=BaseModel)

HOST: Final = "host"
"""The profile of the machine that runs; its facts are filled in when it is loaded."""


def profiles_folder() -> Path:
    """Where the profiles that come with Ebbtide lie."""
    return shipped("profiles")


def profile_names(folder: Path | None = None) -> tuple[str, ...]:
    """The names of all profiles, sorted."""
    return tuple(sorted(path.stem for path in (folder or profiles_folder()).glob("*.yaml")))


def shipped(name: str) -> Path:
    """A file or folder of ``devices`` that comes with Ebbtide."""
    packaged = _PACKAGED / name
    return packaged if packaged.exists() else _CHECKOUT / name


def load_profile(name: str, *, folder: Path | None = None) -> Profile:
    """Read a profile by name; that of the host is filled in with what this machine says of itself.

    Args:
        name: as in a recipe's `devices`.
        folder: another place than that of the profiles that come with Ebbtide.

    Raises:
        EbbtideError: ``device.unknown`` with the nearest name, ``device.profile`` if the file is not valid.
    """
    profile = read_profile(name, folder=folder)
    return _filled(profile) if name == HOST else profile


def read_profile(name: str, *, folder: Path | None = None) -> Profile:
    """Read a profile as it is written; arguments and errors as `load_profile`."""
    known = profile_names(folder)
    if name not in known:
        close = nearest(name, list(known))
        raise EbbtideError(
            "device.unknown",
            f"There is no device profile {name!a}.",
            expected=", ".join(known),
            hint=f"Did you mean {close!r}?" if close else "Use any-android, or add a profile in devices/profiles.",
            place=name,
        )
    profile = read_document((folder or profiles_folder()) / f"{name}.yaml", Profile, code="device.profile")
    if profile.id != name:
        raise EbbtideError(
            "device.profile",
            "The profile has another name than its file.",
            expected=name,
            found=profile.id,
            place=name,
            hint="Rename the file or correct its id.",
        )
    return profile


def read_document(path: Path, kind: type[Kind], *, code: str) -> Kind:
    """Read a YAML file of this folder's.

    Args:
        path: the file.
        kind: what it must hold.
        code: of the errors, whose place is the file's name with a line or key.

    Raises:
        EbbtideError: `code` if the file cannot be read, is too large, is not YAML or does not hold that.
    """
    place = path.name
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise EbbtideError(
                code,
                f"The file has more than {_MAX_BYTES} bytes.",
                place=place,
                hint="Shorten it; it is a page of facts.",
            )
        document = yaml.safe_load(data)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise EbbtideError(
            code,
            f"This is not YAML: {error.problem}.",
            place=f"{place}:{line}",
            hint="Correct that line.",
        ) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise EbbtideError(
            code,
            f"The file cannot be read: {error}.",
            place=place,
            hint="Restore the file; devices/README.md describes it.",
        ) from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _invalid(place, error, kind, code) from None


def _invalid(place: str, error: ValidationError, kind: type[BaseModel], code: str) -> EbbtideError:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    hint = None
    if first["type"] == "extra_forbidden":
        close = nearest(str(first["loc"][-1]), list(kind.model_fields))
        hint = f"Did you mean {close!r}?" if close else None
    return EbbtideError(
        code,
        f"{first['msg'].removeprefix('Value error, ')}.",
        found=ascii(first["input"])[:120],
        hint=hint,
        place=f"{place}: {where}" if where else place,
    )


def _filled(profile: Profile) -> Profile:
    """The host's profile with what this machine says of itself now."""
    import psutil  # only the host's profile needs it

    today = datetime.datetime.now(datetime.UTC).date()

    def fact(value: Any, source: str) -> Any:
        return Fact[Any](
            value=value, source=source if value is not None else None, date=today if value is not None else None
        )

    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    abi = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    facts = {
        "platform": host_platform(),
        "cpu": fact(Cpu(name=_cpu_name(), cores=cores), "psutil.cpu_count, /proc/cpuinfo or platform.processor"),
        "ram_bytes_min": fact(int(psutil.virtual_memory().total), "psutil.virtual_memory"),
        "abis": fact([abi] if abi else None, "platform.machine"),
        "os_min": fact(platform.release() or None, "platform.release"),
    }
    return profile.model_copy(update=facts)


def host_platform() -> Platform:
    """The platform of this machine, in the manifest's words."""
    names: dict[str, Platform] = {"Darwin": "macos", "Windows": "windows"}
    return names.get(platform.system(), "linux")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine() or "unknown"
