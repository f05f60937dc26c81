"""Lowered programs: fused to the boundaries in use, checked by the gate, recorded through the runtime."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.candidates import Candidates, Key, digests
from ebbtide.build.project import LOWERING, Project, read_json
from ebbtide.build.universal import Universal
from ebbtide.steps import storage_errors, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.device import Profile
    from ebbtide.engine import Engine
    from ebbtide.exits import Records
    from ebbtide.lowering import LoweredProgram, ProgramSpec

BACKEND = "xnnpack"
RECORDING = ("ebbtide.engine", "ebbtide.exits.records", "ebbtide.runtime.outside")
"""The code that records of a program depend on."""
THREADS = 1
"""One thread: what a phone's scheduler gives a background classifier, and the steadiest thing to measure."""


@dataclass(frozen=True)
class Program:
    """A lowered program.

    Attributes:
        id: its name in the manifest.
        width: the name of the width whose program it is.
        file: the .pte.
        sha256, size_bytes: of the file.
        methods: facts as JSON values, in path order.
    """

    id: str
    width: str
    file: Path
    sha256: str
    size_bytes: int
    methods: tuple[dict[str, Any], ...]

    @property
    def exit_types(self) -> dict[int, str]:
        """The type of each exit by its position in the program."""
        return {method["position"]: method["type"] for method in self.methods if method["kind"] == "exit"}


@dataclass(frozen=True)
class WidthProgram:
    """The program of one width, and what it says of select.

    Attributes:
        candidates: what it was made from; program position i is that of ``candidates.chosen[i]``.
        program: methods by stage, exit and head.
        records_file: its records of select, then of the gate's samples of train.
    """

    candidates: Candidates
    program: Program
    records_file: Path

    @property
    def width(self) -> str:
        """Its name."""
        return self.candidates.width

    @property
    def macs(self) -> dict[str, int]:
        """MACs of the program's methods by name."""
        return {method["name"]: method["macs"] for method in self.program.methods}

    def records(self) -> Records:
        """What it says of select, then of the gate's samples of train."""
        return _load_records(self.records_file, self.program, self.candidates.backbone.project)


@dataclass(frozen=True)
class Programs:
    """What was lowered.

    Attributes:
        widths: a program for each, the widest first.
        dense: the widest in one method, the reference of every report; without exits its own program is that.
        dense_records_file: the dense program's records, of select first.
        threads: of the engine.
    """

    widths: tuple[WidthProgram, ...]
    dense: Program
    dense_records_file: Path
    threads: int

    @property
    def widest(self) -> WidthProgram:
        """The program of the whole network."""
        return self.widths[0]

    @property
    def universal(self) -> Universal:
        """The model and the data that all of this comes from."""
        return self.widest.candidates.backbone.universal

    @property
    def project(self) -> Project:
        """The build."""
        return self.universal.project

    @property
    def all(self) -> tuple[Program, ...]:
        """Every program once, the reference last where it is one of its own."""
        return tuple({one.id: one for one in (*(own.program for own in self.widths), self.dense)}.values())

    def of(self, width: str) -> WidthProgram:
        """The program of a width."""
        return next(one for one in self.widths if one.width == width)

    def load_records(self, file: Path, program: Program) -> Records:
        """Records of one of the programs.

        Raises:
            EbbtideError: ``exits.identity`` if they are of another width or number format.
        """
        return _load_records(file, program, self.project)

    def dense_records(self) -> Records:
        """What the dense program says of select."""
        return self.load_records(self.dense_records_file, self.dense).first(self.universal.samples("select"))


def _load_records(file: Path, program: Program, project: Project) -> Records:
    from ebbtide.exits import Records

    return Records.load(file, level=program.width, precision=project.recipe.precision)


def program_id(width: str) -> str:
    """The name of a width's program: width, number format and processor."""
    return f"{width}-f32-cpu"


def open_engine() -> Engine:
    """The ExecuTorch engine with the thread count of this build."""
    from ebbtide.engine import ExecuTorchEngine

    return ExecuTorchEngine(threads=THREADS)


def lower_programs(
    candidates: Sequence[Candidates], profiles: Sequence[Profile], *, beside: Sequence[Job] = ()
) -> Programs:
    """Lower a program for each width and the dense one in parallel processes, and record what they say of select.

    Without exits the widest program is one method that holds everything, so nothing else is lowered for the reference.

    Args:
        candidates: of every width, the widest first.
        profiles: the devices.
        beside: what else is wanted later, lowered in the same processes.

    Raises:
        EbbtideError: ``lowering.*``.
    """
    project, widest = candidates[0].backbone.project, candidates[0]
    _say_sharing(project, profiles)
    jobs = [Job(one, program_id(one.width), one.chosen) for one in candidates]
    if widest.chosen:
        jobs.append(Job(widest, f"{program_id(widest.width)}-dense", None))
    programs = lower_all([*jobs, *beside])[: len(jobs)]
    for program in programs:
        _say_delegation(project, program)
    widths = tuple(
        WidthProgram(one, program, _record(one, program, extra=one.gate_extra))
        for one, program in zip(candidates, programs[: len(candidates)], strict=True)
    )
    if not widest.chosen:
        return Programs(widths, widths[0].program, widths[0].records_file, THREADS)
    return Programs(widths, programs[-1], _record(widest, programs[-1], extra=0), THREADS)


def _say_sharing(project: Project, profiles: Sequence[Profile]) -> None:
    if len(profiles) > 1:
        names = ", ".join(profile.id for profile in profiles)
        project.notice("choice", "programs", f"the same programs serve {names}: float32 on the CPU through XNNPACK")


def _say_delegation(project: Project, program: Program) -> None:
    for method in program.methods:
        if method["delegated_macs_share"] < 1.0:
            left = ", ".join(method["portable"])
            project.notice(
                "fallback",
                f"{program.id}/{method['name']}",
                f"XNNPACK took {100 * method['delegated_macs_share']:.0f} % of the multiplying operators; "
                f"the runtime's own kernels run {left}.",
            )


@dataclass(frozen=True)
class Job:
    """A program to lower.

    Attributes:
        candidates: its width, with exits and temperatures.
        id: its name.
        chosen: the exits it has; None for one method that holds everything.
    """

    candidates: Candidates
    id: str
    chosen: tuple[Key, ...] | None

    def spec(self) -> ProgramSpec:
        """What it is lowered from: the graph cut at the positions in use, their exits, temperatures."""
        from ebbtide.lowering import ProgramSpec
        from ebbtide.model import split

        candidates, backbone = self.candidates, self.candidates.backbone
        chosen = self.chosen or ()
        staged = split(backbone.graph, [backbone.cuts[position] for position, _ in chosen], clone=True)
        temperatures = {f"exit{i}": candidates.temperatures[key] for i, key in enumerate(chosen)}
        spec = ProgramSpec(
            id=self.id,
            stages=staged.stages,
            exits={i: candidates.load_exit(key) for i, key in enumerate(chosen)},
            head=staged.head,
            temperatures={**temperatures, "head": candidates.head_temperature},
            input_shape=backbone.graph.input_shape,
        )
        return spec.dense(self.id) if self.chosen is None else spec

    def step(self) -> dict[str, Any]:
        """The step that lowers it."""
        candidates, backbone = self.candidates, self.candidates.backbone
        chosen = self.chosen or ()
        inputs = {
            **backbone.identity(),
            "program": self.id,
            "backend": BACKEND,
            "exits": digests(backbone, ((key, candidates.exits[key]) for key in chosen)),
            "temperatures": [*(candidates.temperatures[key] for key in chosen), candidates.head_temperature],
        }
        code = ("ebbtide.lowering", "ebbtide.model", "ebbtide.build.programs")
        return {"name": "program", "inputs": inputs, "code": code, "libraries": LOWERING}


def lower_all(jobs: Sequence[Job]) -> list[Program]:
    """One step a program; those that are not stored are lowered side by side when the first of them is asked for."""
    project = jobs[0].candidates.backbone.project
    by_id = {job.id: job for job in jobs}
    missing = [job.id for job in jobs if not project.store.has(**job.step())]
    ready: dict[str, LoweredProgram] = {}

    def produce(name: str, folder: Path, place: Path) -> None:
        from ebbtide.lowering import lower_programs as lower_side_by_side

        if name not in ready:
            wanted = sorted({name, *(m for m in missing if m not in ready)})
            with storage_errors(place):
                lowered = lower_side_by_side(
                    [by_id[one].spec() for one in wanted], place, backend=BACKEND, progress=project.progress
                )
            ready.update(zip(wanted, lowered, strict=True))
        write_bytes(folder / ready[name].file.name, ready[name].file.read_bytes())
        facts = ready[name].to_json()
        for method, weights in zip(facts["methods"], _weights(by_id[name].spec()), strict=True):
            method |= weights
        write_json(folder / "program.json", facts)

    with tempfile.TemporaryDirectory() as place:
        folders = []
        for job in jobs:

            def produce_one(folder: Path, _: Path, name: str = job.id) -> None:
                produce(name, folder, Path(place))

            folders.append(project.store.run(produce=produce_one, **job.step()))
    return [_read_program(job, folder) for job, folder in zip(jobs, folders, strict=True)]


def _read_program(job: Job, folder: Path) -> Program:
    facts = read_json(folder / "program.json")
    chosen = job.chosen or ()
    methods = []
    for method in facts["methods"]:
        kind = chosen[method["position"]][1] if method["kind"] == "exit" else None
        methods.append({**method, "type": kind})
    size_bytes, width = facts["size_bytes"], job.candidates.width
    return Program(job.id, width, folder / facts["file"], facts["sha256"], size_bytes, tuple(methods))


def _weights(spec: ProgramSpec) -> list[dict[str, int]]:
    """Parameters and weight bytes of each method's module, in order; a tensor counts where it first stands."""
    from ebbtide.lowering import methods_of

    seen: set[int] = set()
    found = []
    for method in methods_of(spec):
        fresh = [p for p in method.module.parameters() if id(p) not in seen]
        seen |= {id(p) for p in fresh}
        found.append(
            {
                "parameters": sum(p.numel() for p in fresh),
                "weight_bytes": sum(p.numel() * p.element_size() for p in fresh),
            }
        )
    return found


def _record(candidates: Candidates, program: Program, *, extra: int) -> Path:
    backbone = candidates.backbone
    inputs = {
        "level": program.width,
        "precision": backbone.project.recipe.precision,
        "program": program.sha256,
        "types": {str(position): kind for position, kind in program.exit_types.items()},
        "data": backbone.facts["digest"],
        "extra": extra,
    }

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.build.recording import FirstSamples, record_to

        dataset = backbone.dataset
        splits: list[Any] = [dataset.select]
        if extra:
            splits.append(FirstSamples(dataset.train, extra))
        record_to(
            folder / "records.npz",
            program,
            splits,
            project=backbone.project,
            split_name="select+train" if extra else "select",
            label=f"Recording {program.id}",
        )

    folder = backbone.project.step("program-records", inputs, produce, code=RECORDING, libraries=LOWERING)
    return folder / "records.npz"
