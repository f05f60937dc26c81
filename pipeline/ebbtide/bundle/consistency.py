"""What a schema cannot say about a manifest: references, order, and shapes along a path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NoReturn

from ebbtide.bundle.manifest import (
    ConfigurationEntry,
    InputEntry,
    Manifest,
    MethodEntry,
    PathStep,
    PolicyEntry,
    ProgramEntry,
    RuntimeEntry,
    TensorEntry,
)
from ebbtide.bundle.names import fault_of_name, fault_of_set
from ebbtide.errors import EbbtideError, nearest

Methods = dict[str, tuple[ProgramEntry, MethodEntry]]


def check_consistency(manifest: Manifest) -> None:
    """Refuse a manifest whose parts do not fit together.

    Raises:
        EbbtideError: ``bundle.manifest_value``, ``_duplicate``, ``_reference`` or ``_order``, with the JSON path.
    """
    fault = fault_of_name(manifest.name)
    if fault:  # it is the name of a folder in a store
        _value(f"The name {manifest.name!a} {fault}.", "$.name")
    _check_runtime(manifest.runtime)
    _check_unique(manifest.model.classes, "$.model.classes", "class")
    if manifest.model.universal_classes < len(manifest.model.classes):
        _value("There are more classes than the universal model has.", "$.model.universal_classes")
    _check_input(manifest.model.input)
    if manifest.model.outside is not None and manifest.model.outside.fallback == manifest.name:
        _value("The bundle names itself to be asked instead.", "$.model.outside.fallback", expected="another bundle")
    _check_files(manifest)
    methods = _check_programs(manifest)
    _check_unique([entry.id for entry in manifest.configurations], "$.configurations", "configuration", key=".id")
    for index, configuration in enumerate(manifest.configurations):
        _check_configuration(configuration, methods, manifest, f"$.configurations[{index}]")
    _check_tiers(manifest)
    _check_policy(manifest.policy)


def _value(message: str, place: str, *, expected: str | None = None) -> NoReturn:
    raise EbbtideError("bundle.manifest_value", message, expected=expected, place=place)


def _order(message: str, place: str, *, expected: str | None = None) -> NoReturn:
    raise EbbtideError("bundle.manifest_order", message, expected=expected, place=place)


def _reference(what: str, name: str, known: Iterable[str], place: str) -> NoReturn:
    close = nearest(name, list(known))
    raise EbbtideError(
        "bundle.manifest_reference",
        f"There is no {what} {name!a}.",
        hint=f"Did you mean {close!r}?" if close else None,
        place=place,
    )


def _check_unique(names: Sequence[str], place: str, what: str, *, key: str = "") -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise EbbtideError(
                "bundle.manifest_duplicate", f"The {what} {name!a} stands twice.", place=f"{place}[{index}]{key}"
            )
        seen.add(name)


def version_key(version: str) -> tuple[int, int, int]:
    """The three numbers of a version, for comparing."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def _check_runtime(runtime: RuntimeEntry) -> None:
    _check_unique(runtime.backends, "$.runtime.backends", "backend")
    if version_key(runtime.min) >= version_key(runtime.max_exclusive):
        _order(f"No version is at least {runtime.min} and below {runtime.max_exclusive}.", "$.runtime.max_exclusive")


def _check_input(entry: InputEntry) -> None:
    image = entry.kind == "image"
    place = "$.model.input"
    if entry.layout != ("NCHW" if image else "NCT"):
        _value(f"The layout of an {entry.kind} input is {'NCHW' if image else 'NCT'}.", f"{place}.layout")
    if len(entry.shape) != len(entry.layout) or entry.shape[0] != 1:
        _value("The shape does not fit the layout with a batch of one.", f"{place}.shape", expected=entry.layout)
    channels = entry.shape[1]
    if image and entry.color != {1: "gray", 3: "RGB"}.get(channels):
        _value(f"The colour does not fit {channels} channels.", f"{place}.color", expected="gray for 1, RGB for 3")
    for name in () if image else ("color", "crop", "resize"):
        if getattr(entry, name) is not None:
            _value(f"A signal has no {name}.", f"{place}.{name}", expected="null")
    if image and entry.resize is None:
        _value("An image needs a way to resize.", f"{place}.resize", expected="bilinear-v1")
    for name, numbers in (("scale", entry.scale), ("bias", entry.bias)):
        if len(numbers) != channels:
            _value(f"There are {len(numbers)} numbers for {channels} channels.", f"{place}.{name}")


def _check_files(manifest: Manifest) -> None:
    for index, entry in enumerate(manifest.files):
        fault = fault_of_name(entry.path)
        if fault:
            _value(f"The path {entry.path!a} {fault}.", f"$.files[{index}].path", expected="a plain relative path")
    collision = fault_of_set(entry.path for entry in manifest.files)
    if collision:
        index, fault = collision
        raise EbbtideError(
            "bundle.manifest_duplicate",
            f"The path {manifest.files[index].path!a} {fault}.",
            place=f"$.files[{index}].path",
        )
    if (manifest.payload.xz is not None) != (manifest.payload.format == "xz"):
        _value("A payload in the form xz has an object xz, a raw one has none.", "$.payload.xz")


def _check_programs(manifest: Manifest) -> Methods:
    _check_unique([entry.id for entry in manifest.programs], "$.programs", "program", key=".id")
    files = {entry.path for entry in manifest.files}
    used: set[str] = set()
    methods: Methods = {}
    for index, program in enumerate(manifest.programs):
        place = f"$.programs[{index}]"
        used |= _check_program_files(program, files, place)
        _check_unique([method.name for method in program.methods], f"{place}.methods", "method", key=".name")
        for at, method in enumerate(program.methods):
            _check_method(method, len(manifest.model.classes), f"{place}.methods[{at}]")
            methods[f"{program.id}/{method.name}"] = (program, method)
    for index, entry in enumerate(manifest.files):
        if entry.path not in used:
            raise EbbtideError(
                "bundle.manifest_reference",
                f"No program uses the file {entry.path!a}.",
                place=f"$.files[{index}].path",
            )
    return methods


def _check_program_files(program: ProgramEntry, files: set[str], place: str) -> set[str]:
    """The files that the program uses. A .pte is one file for all methods; an .mlpackage is a folder per method."""
    if program.format == "pte":
        if program.file is None:
            _value("A program in the form pte has one file.", f"{place}.file", expected="the path of a file")
        if program.file not in files:
            _reference("file", program.file, files, f"{place}.file")
        for at, method in enumerate(program.methods):
            if method.file is not None:
                _value("The methods of a pte have no file of their own.", f"{place}.methods[{at}].file")
        return {program.file}
    if program.file is not None:
        _value("A program in the form mlpackage has a file for each method.", f"{place}.file", expected="no key")
    used: set[str] = set()
    for at, method in enumerate(program.methods):
        if method.file is None:
            _value("The method of an mlpackage needs its own file.", f"{place}.methods[{at}].file")
        inside = {path for path in files if path.startswith(f"{method.file}/")}
        if not inside:
            _reference("file below the folder", method.file, files, f"{place}.methods[{at}].file")
        used |= inside
    return used


def _check_method(method: MethodEntry, classes: int, place: str) -> None:
    names = {"head": "head", "model": "forward"}
    stem = names.get(method.kind, f"{method.kind}{method.position}")
    # Several types of exit may stand at one position; they are told apart by what follows an underscore.
    if method.name != stem and not (method.kind == "exit" and method.name.startswith(f"{stem}_")):
        _value(
            f"A {method.kind} at position {method.position} is not named {method.name}.", f"{place}.name", expected=stem
        )
    if (method.type is not None) != (method.kind == "exit"):
        _value("An exit, and only an exit, has a type.", f"{place}.type")
    for key, tensors in (("inputs", method.inputs), ("outputs", method.outputs)):
        for at, tensor in enumerate(tensors):
            if tensor.layout is not None and len(tensor.shape) != 4:
                _value("Only four dimensions can be channels_last.", f"{place}.{key}[{at}].layout")
    if len(method.inputs) != 1:
        _value("A method takes one tensor.", f"{place}.inputs")
    if method.kind == "stage":
        if len(method.outputs) != 1:
            _value("A stage puts out one tensor.", f"{place}.outputs")
        return
    sizes = [math.prod(tensor.shape) for tensor in method.outputs]
    if sizes != [classes, 1, classes]:
        _value(
            "The outputs are not probabilities, confidence and logits over the classes.",
            f"{place}.outputs",
            expected=f"three tensors of {classes}, 1 and {classes} elements",
        )


def _check_configuration(entry: ConfigurationEntry, methods: Methods, manifest: Manifest, place: str) -> None:
    steps = []
    for index, step in enumerate(entry.path):
        if step.method not in methods:
            _reference("method", step.method, methods, f"{place}.path[{index}].method")
        steps.append((step, *methods[step.method]))
    tensor = TensorEntry(shape=manifest.model.input.shape, dtype=manifest.model.input.dtype)
    width, stages, last_exit = steps[0][1].width, 0, -1
    for index, (step, program, method) in enumerate(steps):
        at = f"{place}.path[{index}]"
        _check_step(step, method, at, last=index == len(steps) - 1)
        _check_outside(step, method, at, told=manifest.model.outside is not None)
        _check_place(step, entry.path[index - 1] if index else None, at)
        if program.width != width:
            _order(f"The path changes from width {width} to {program.width}.", f"{at}.method", expected="one width")
        if method.inputs[0].shape != tensor.shape:
            _order(f"{step.method} takes {list(method.inputs[0].shape)}, not {list(tensor.shape)}.", f"{at}.method")
        if method.inputs[0].layout != tensor.layout:
            takes, given = (layout or "contiguous" for layout in (method.inputs[0].layout, tensor.layout))
            _order(f"{step.method} takes {takes} memory, not {given}.", f"{at}.method")
        if method.kind == "stage":
            if method.position != stages:
                _order(f"Stage {method.position} stands where stage {stages} is due.", f"{at}.method")
            stages, tensor = stages + 1, method.outputs[0]
        elif method.kind == "exit":
            if method.position != stages - 1 or method.position == last_exit:
                _order(f"An exit at position {method.position} does not follow its stage.", f"{at}.method")
            last_exit = method.position
        elif method.kind == "model":
            if index:
                _order("The method of a dense program stands alone.", f"{at}.method")
        elif method.position != stages:
            _order(f"{step.method} has position {method.position} after {stages} stages.", f"{at}.method")
    _check_expected(entry, place)


def _check_step(step: PathStep, method: MethodEntry, place: str, *, last: bool) -> None:
    if last != (method.kind in ("head", "model")):
        _order(
            "A path ends with the head or the one method of a dense program, and only there.",
            f"{place}.method",
            expected="stages with their exits, then the head",
        )
    if (step.threshold is not None) != (method.kind == "exit"):
        raise EbbtideError(
            "bundle.manifest_missing_key" if method.kind == "exit" else "bundle.manifest_value",
            "An exit, and only an exit, has a threshold.",
            place=f"{place}.threshold",
        )


def _check_outside(step: PathStep, method: MethodEntry, place: str, *, told: bool) -> None:
    wanted = told and method.kind != "stage"
    if (step.outside is not None) != wanted:
        raise EbbtideError(
            "bundle.manifest_missing_key" if wanted else "bundle.manifest_value",
            "Exits and heads of a model that tells what is outside, and only they, have a threshold for it.",
            place=f"{place}.outside",
        )


def _check_place(step: PathStep, before: PathStep | None, place: str) -> None:
    if before is None and step.at is not None:
        _order("The first step runs on the device.", f"{place}.at", expected="no key")
    if before is not None and before.at is not None and step.at is None:
        _order("What follows a step on a server runs there, too.", f"{place}.at", expected="server")


def _check_expected(entry: ConfigurationEntry, place: str) -> None:
    latency = entry.expected.latency_us
    if latency is not None and latency.p50 > latency.p90:
        _order("Half of the inferences take longer than nine tenths of them.", f"{place}.expected.latency_us.p90")


def _check_tiers(manifest: Manifest) -> None:
    _check_unique(manifest.tiers, "$.tiers", "configuration")
    known = {entry.id: entry for entry in manifest.configurations}
    for index, name in enumerate(manifest.tiers):
        if name not in known:
            _reference("configuration", name, known, f"$.tiers[{index}]")
    expected = [known[name].expected for name in manifest.tiers]
    latencies = [entry.latency_us.p50 for entry in expected if entry.latency_us is not None]
    if len(latencies) == len(expected) and _first_rise(latencies) is None:
        return
    rise = _first_rise([entry.mean_macs for entry in expected])
    if rise is not None:
        _order(
            "This tier is not expected to cost less than the one before it.",
            f"$.tiers[{rise}]",
            expected="mean_macs, or the measured p50 of every tier, strictly decreasing",
        )


def _first_rise(costs: Sequence[int]) -> int | None:
    return next((index for index in range(1, len(costs)) if costs[index] >= costs[index - 1]), None)


def _check_policy(policy: PolicyEntry) -> None:
    fault = fault_of_policy(policy)
    if fault is not None:
        name, message, expected = fault
        _order(message, f"$.policy.{name}", expected=expected)


def fault_of_policy(policy: PolicyEntry) -> tuple[str, str, str] | None:
    """What the ranges of a policy's numbers do not show: the field out of order, what is wrong, what was expected."""
    for name in ("enter_mh", "battery_temperature_enter_dc", "status_floor", "apple_floor"):
        numbers = getattr(policy, name)
        if list(numbers) != sorted(numbers):
            return name, f"The numbers of {name} fall.", "numbers that do not fall"
    if list(policy.battery_enter_percent) != sorted(policy.battery_enter_percent, reverse=True):
        return "battery_enter_percent", "The numbers of battery_enter_percent rise.", "numbers that do not rise"
    return None
