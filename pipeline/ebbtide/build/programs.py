"""Lowered programs: fused to the boundaries in use, checked by the gate, recorded through the runtime."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.build.candidates import Candidates
from ebbtide.build.project import LOWERING, Project, read_json
from ebbtide.steps import storage_errors, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.device import Profile
    from ebbtide.engine import Engine
    from ebbtide.lowering import LoweredProgram, ProgramSpec

MAIN, DENSE = "w100-f32-cpu", "w100-f32-cpu-dense"
BACKEND = "xnnpack"
THREADS = 1
"""One thread: what a phone's scheduler gives a background classifier, and the steadiest thing to measure."""


@dataclass(frozen=True)
class Program:
    """A lowered program.

    Attributes:
        id: its name in the manifest.
        file: the .pte.
        sha256, size_bytes: of the file.
        methods: facts as JSON values, in path order.
    """

    id: str
    file: Path
    sha256: str
    size_bytes: int
    methods: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Programs:
    """What was lowered, and what it says of select.

    Attributes:
        candidates: what it was made from; program position i is candidate position ``candidates.chosen[i]``.
        main: methods by stage, exit and head.
        dense: the one-method reference.
        records_file: the main program's records of select, then of the gate's samples of train.
        dense_records_file: the dense program's records of select.
        threads: of the engine.
    """

    candidates: Candidates
    main: Program
    dense: Program
    records_file: Path
    dense_records_file: Path
    threads: int

    @property
    def macs(self) -> dict[str, int]:
        """MACs of the main program's methods by name."""
        return {method["name"]: method["macs"] for method in self.main.methods}


def open_engine() -> Engine:
    """The ExecuTorch engine with the thread count of this build."""
    from ebbtide.engine import ExecuTorchEngine

    return ExecuTorchEngine(threads=THREADS)


def lower_programs(candidates: Candidates, profiles: Sequence[Profile]) -> Programs:
    """Lower the main and the dense program in parallel processes, and record what they say of select.

    Raises:
        EbbtideError: ``lowering.*``.
    """
    project = candidates.backbone.project
    _say_sharing(project, profiles)
    main, dense = _lower_all(candidates, (MAIN, DENSE))
    for program in (main, dense):
        _say_delegation(project, program)
    return Programs(
        candidates=candidates,
        main=main,
        dense=dense,
        records_file=_record(candidates, main, extra=candidates.gate_extra),
        dense_records_file=_record(candidates, dense, extra=0),
        threads=THREADS,
    )


def _say_sharing(project: Project, profiles: Sequence[Profile]) -> None:
    if len(profiles) > 1:
        names = ", ".join(profile.id for profile in profiles)
        project.notice("choice", "programs", f"one program serves {names}: float32 on the CPU through XNNPACK")


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


def _lower_all(candidates: Candidates, names: Sequence[str]) -> list[Program]:
    """One step a program; those that are not stored are lowered side by side when the first of them is asked for."""
    project = candidates.backbone.project
    steps = {name: _lowering_step(candidates, name) for name in names}
    missing = [name for name, step in steps.items() if not project.store.has(**step)]
    ready: dict[str, LoweredProgram] = {}

    def produce(name: str, folder: Path, place: Path) -> None:
        from ebbtide.lowering import lower_programs as lower_side_by_side

        specs = {one: program_spec(candidates, one) for one in {name, *(m for m in missing if m not in ready)}}
        if name not in ready:
            with storage_errors(place):
                lowered = lower_side_by_side(
                    [specs[one] for one in sorted(specs)], place, backend=BACKEND, progress=project.progress
                )
            ready.update(zip(sorted(specs), lowered, strict=True))
        write_bytes(folder / ready[name].file.name, ready[name].file.read_bytes())
        facts = ready[name].to_json()
        for method, weights in zip(facts["methods"], _weights(program_spec(candidates, name)), strict=True):
            method |= weights
        write_json(folder / "program.json", facts)

    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for name, step in steps.items():

            def produce_one(folder: Path, _: Path, name: str = name) -> None:
                produce(name, folder, Path(place))

            folders[name] = project.store.run(produce=produce_one, **step)
    return [_read_program(candidates, name, folders[name]) for name in names]


def _lowering_step(candidates: Candidates, name: str) -> dict[str, Any]:
    backbone = candidates.backbone
    store = backbone.project.store
    chosen = candidates.chosen if name == MAIN else ()
    wanted = {f"exit{p}" for p in chosen} | {"head"}
    inputs = {
        **backbone.identity(),
        "program": name,
        "backend": BACKEND,
        "chosen": list(chosen),
        "exits": {str(p): store.digest(candidates.exits[p] / "exit.safetensors") for p in chosen},
        "temperatures": {key: value for key, value in candidates.temperatures.items() if key in wanted},
    }
    code = ("ebbtide.lowering", "ebbtide.model", "ebbtide.build.programs")
    return {"name": "program", "inputs": inputs, "code": code, "libraries": LOWERING}


def _read_program(candidates: Candidates, name: str, folder: Path) -> Program:
    facts = read_json(folder / "program.json")
    section = candidates.backbone.project.recipe.exits
    methods = []
    for method in facts["methods"]:
        kind = section.type if section and method["kind"] == "exit" else None
        methods.append({**method, "type": kind})
    return Program(name, folder / facts["file"], facts["sha256"], facts["size_bytes"], tuple(methods))


def program_spec(candidates: Candidates, name: str) -> ProgramSpec:
    """What a program is lowered from: the graph cut at the positions in use, their exits, temperatures."""
    from ebbtide.lowering import ProgramSpec
    from ebbtide.model import split

    backbone = candidates.backbone
    chosen = candidates.chosen if name == MAIN else ()
    staged = split(backbone.graph, [backbone.cuts[p] for p in chosen], clone=True)
    temperatures = {f"exit{i}": candidates.temperatures[f"exit{p}"] for i, p in enumerate(chosen)}
    spec = ProgramSpec(
        id=name,
        stages=staged.stages,
        exits={i: candidates.load_exit(p) for i, p in enumerate(chosen)},
        head=staged.head,
        temperatures={**temperatures, "head": candidates.temperatures["head"]},
        input_shape=backbone.graph.input_shape,
    )
    return spec if name == MAIN else spec.dense(name)


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
    inputs = {"program": program.sha256, "data": backbone.facts["digest"], "extra": extra}

    def produce(folder: Path, _: Path) -> None:
        from ebbtide.build.recording import FirstSamples, record_program

        dataset = backbone.dataset
        splits: list[Any] = [dataset.select]
        if extra:
            splits.append(FirstSamples(dataset.train, extra))
        loaded = open_engine().load(program.file)
        records = record_program(loaded, splits, label=f"Recording {program.id}", progress=backbone.project.progress)
        loaded.close()
        records.save(folder / "records.npz")

    folder = backbone.project.step(
        "program-records", inputs, produce, code=("ebbtide.engine", "ebbtide.exits.records"), libraries=LOWERING
    )
    return folder / "records.npz"
