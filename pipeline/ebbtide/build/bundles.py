"""One signed, verified and proven bundle for each device of the recipe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.build.choice import Table
from ebbtide.build.draft import draft_bundle
from ebbtide.build.evaluation import Evaluation
from ebbtide.build.mapping import DeviceMapping
from ebbtide.build.measuring import Measurements
from ebbtide.build.outside import OutsideRule, outside_answers
from ebbtide.build.programs import Programs, open_engine
from ebbtide.build.project import Project
from ebbtide.errors import EbbtideError
from ebbtide.steps import file_digest

if TYPE_CHECKING:
    from ebbtide.bundle import Bundle, PrivateKey
    from ebbtide.device import Profile

PROOF_SAMPLES = 32


@dataclass(frozen=True)
class Built:
    """A bundle on disk.

    Attributes:
        profile: its device.
        folder: where it lies.
        manifest_sha256: of the signed bytes.
        files: path and size of every file.
        xz_bytes: its whole content as one xz stream.
    """

    profile: Profile
    folder: Path
    manifest_sha256: str
    files: tuple[tuple[str, int], ...]
    xz_bytes: int


def signing_key(project: Project) -> PrivateKey:
    """The recipe's key, or this machine's development key, made on first use."""
    from ebbtide.bundle import load_private_key, new_key

    if project.recipe.sign is not None:
        return load_private_key(Path(project.recipe.sign.key))
    path = development_key()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new_key(path)
    project.notice(
        "fallback",
        "signature",
        "the recipe names no key, so the development key of this machine signs. For a release: ebb keys new, sign.key.",
    )
    return load_private_key(path)


def development_key() -> Path:
    """Where this machine's own key lies."""
    import os

    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "ebbtide" / "development.pem"


def write_bundles(
    programs: Programs,
    table: Table,
    *,
    profiles: tuple[Profile, ...],
    evaluation: Evaluation,
    rule: OutsideRule | None,
    mappings: Mapping[str, DeviceMapping],
    measurements: Measurements,
    key: PrivateKey,
    output: Path,
) -> list[Built]:
    """Write, verify and prove a bundle for every profile; a bundle of a device that is gone is removed."""
    from ebbtide.bundle import open_bundle, write_bundle

    project = programs.project
    folder = output / "bundles"
    built = []
    for profile in profiles:
        latencies = _host_latencies(table, measurements) if profile.id == "host" else None
        draft, files = draft_bundle(
            programs,
            table,
            profile=profile,
            evaluation=evaluation,
            latencies=latencies,
            rule=rule,
            mapping=mappings.get(profile.id),
        )
        target = folder / profile.id
        write_bundle(target, draft, files, key=key, payload=project.recipe.payload, created=measurements.date)
        bundle = open_bundle(target, [key.public])
        project.progress.say(f"Signed and verified {target}")
        built.append(
            Built(
                profile=profile,
                folder=target,
                manifest_sha256=file_digest(target / "manifest.json"),
                files=tuple((entry.path, entry.size) for entry in bundle.manifest.files),
                xz_bytes=packed_bytes(project, files),
            )
        )
    _prove(programs, table, rule, built[0], key)
    for other in folder.iterdir():
        # What an earlier recipe built here would otherwise look current.
        if other.is_dir() and other.name not in {one.profile.id for one in built} and (other / "manifest.sig").exists():
            shutil.rmtree(other)
    return built


def _host_latencies(table: Table, measurements: Measurements) -> dict[str, tuple[int, int]]:
    found = {row.id: measurements.latency(row.id) for row in table.rows}
    return {name: (round(times[0]), round(times[1])) for name, times in found.items() if times is not None}


def packed_bytes(project: Project, files: Mapping[str, Path]) -> int:
    """How long the files are as one xz stream, in their order."""
    digests = {name: project.store.digest(path) for name, path in files.items()}

    def compute() -> int:
        from ebbtide.bundle.payload import compress, dictionary_for, file_blocks

        widest = max(path.stat().st_size for path in files.values())
        blocks = (block for path in files.values() for block in file_blocks(path))
        return sum(map(len, compress(blocks, dictionary_for(widest))))

    value: int = project.json_step(
        "packed", {"files": digests}, compute, code=("ebbtide.bundle.payload",), libraries=()
    )
    return value


def _prove(programs: Programs, table: Table, rule: OutsideRule | None, built: Built, key: PrivateKey) -> None:
    """Predict with the bundle as it lies there; label, place of leaving and outside must be what the records said.

    Raises:
        EbbtideError: ``lowering.gate`` naming the first sample and configuration that differ.
    """
    from ebbtide.bundle import open_unpacked

    project = programs.project
    inputs = {
        "manifest": built.manifest_sha256,
        "programs": [one.program.sha256 for one in programs.widths],
        "data": programs.universal.facts["digest"],
    }

    def compute() -> dict[str, Any]:
        with open_unpacked(built.folder, [key.public]) as bundle:
            return {"samples": _predict_all(programs, table, rule, bundle)}

    project.json_step("proof", inputs, compute, code=("ebbtide.runtime", "ebbtide.engine", "ebbtide.bundle"))


def _predict_all(programs: Programs, table: Table, rule: OutsideRule | None, bundle: Bundle) -> int:
    from ebbtide.runtime import Session
    from ebbtide.search import leaving

    select = programs.universal.dataset.select
    by_width = {one.width: one.records() for one in programs.widths}
    count = min(PROOF_SAMPLES, len(select))
    session = Session(bundle, open_engine())
    try:
        for row in table.rows:
            session.switch(row.id)
            records = by_width[row.width]
            rows = leaving(records, row.row(records.positions))
            promised = records.predictions[rows, np.arange(len(records))]
            strange = outside_answers(programs, row, rule)[:count].tolist() if rule else [None] * count
            for sample in range(count):
                result = session.predict(select.pixels[sample])
                method = result.left_at.rpartition("/")[2]
                at = records.positions.index(result.position) if method != "head" else len(records.positions)
                if (result.label, at, result.outside) != (int(promised[sample]), int(rows[sample]), strange[sample]):
                    raise EbbtideError(
                        "lowering.gate",
                        "The bundle predicts otherwise than its programs' records",
                        expected=f"label {promised[sample]} at row {rows[sample]}, outside: {strange[sample]}",
                        found=f"label {result.label} at row {at}, outside: {result.outside}",
                        place=f"{row.id}, sample {select.ids[sample]}",
                        hint="Build again from an empty --cache; if it differs still, report it with the bundle.",
                    )
    finally:
        session.close()
    return count * len(table.rows)
