"""What can be wrong with a manifest that is JSON: one mistake each, with the code and the JSON path it must give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from manifest_base import (
    MIDDLE,
    PIXELS,
    XZ,
    Change,
    channels_last,
    core_ml,
    dense,
    drop,
    insert,
    latencies,
    outside,
    program,
    put,
    signal,
    tensor,
)


def values() -> Iterator[tuple[str, str, Change, str, str]]:
    """Name, why, change, code without its package, path: what a schema can tell."""
    yield "future_format", "a newer version", put("format", 2), "version", "$.format"
    yield "format_text", "not a number", put("format", "1"), "value", "$.format"
    yield "format_float", "an integer has no fraction", put("format", 1.0), "value", "$.format"
    for key in ("format", "name", "sequence", "key_id", "files", "policy", "model.input.bias", "tiers"):
        yield f"no_{key.split('.')[-1]}", "required", drop(key), "missing_key", f"$.{key}"
    nullable = "configurations.1.expected.energy_uj"
    yield (
        "no_energy",
        "nullable is not optional",
        drop(nullable),
        "missing_key",
        "$.configurations[1].expected.energy_uj",
    )
    yield "unknown_top", "unknown key", put("licence", "MIT"), "unknown_key", "$.licence"
    yield (
        "unknown_step",
        "unknown key",
        put("configurations.0.path.0.x", {}),
        "unknown_key",
        "$.configurations[0].path[0].x",
    )
    yield "unknown_policy", "unknown key", put("policy.Enter_mh", [1]), "unknown_key", "$.policy.Enter_mh"
    yield "extension_value", "x_ holds objects only", put("model.x_note", "hello"), "value", "$.model.x_note"
    singles: list[tuple[str, str, Any]] = [
        ("name_space", "name", "my flowers"),
        ("name_empty", "name", ""),
        ("name_device", "name", "nul"),
        ("name_path", "name", "../flowers"),
        ("name_dot_end", "name", "flowers."),
        ("name_newline", "name", "flowers\n"),
        ("name_long", "name", "f" * 65),
        ("sequence_negative", "sequence", -1),
        ("sequence_bool", "sequence", True),
        ("sequence_text", "sequence", "7"),
        ("sequence_float", "sequence", 7.0),
        ("sequence_null", "sequence", None),
        ("created_zone", "created", "2026-11-21T12:00:00+00:00"),
        ("created_no_day", "created", "2026-02-30T12:00:00Z"),
        ("key_upper_case", "key_id", "0123456789ABCDEF"),
        ("key_short", "key_id", "0123"),
        ("platform", "device.platform", "symbian"),
        ("engine", "runtime.engine", "tflite"),
        ("version_short", "runtime.min", "1.5"),
        ("version_zero", "runtime.min", "1.05.0"),
        ("classes_one", "model.classes", ["daisy"]),
        ("class_empty", "model.classes.0", ""),
        ("classes_text", "model.classes", "daisy"),
        ("universal_few", "model.universal_classes", 1),
        ("dtype", "model.input.dtype", "uint8"),
        ("resize", "model.input.resize", "lanczos"),
        ("shape_zero", "model.input.shape.2", 0),
        ("shape_batch", "model.input.shape", [2, 3, 8, 8]),
        ("layout", "model.input.layout", "NCT"),
        ("color", "model.input.color", "gray"),
        ("scale_count", "model.input.scale", [1.0]),
        ("bias_double", "model.input.bias.1", 0.1),
        ("hash_short", "files.0.sha256", "00"),
        ("hash_upper_case", "files.0.sha256", "AB" * 32),
        ("size_negative", "files.0.size", -1),
        ("files_none", "files", []),
        ("payload_format", "payload.format", "zip"),
        ("payload_text", "payload", "raw"),
        ("xz_dictionary", "payload", {"format": "xz", "xz": {"size": 1, "sha256": "00" * 32, "dictionary_bytes": 1}}),
        ("width", "programs.0.width", "wide"),
        ("precision", "programs.0.precision", "int4"),
        ("processor", "programs.0.processor", "tpu"),
        ("method_kind", "programs.0.methods.0.kind", "block"),
        ("tensor_layout", "programs.0.methods.0.outputs.0.layout", "contiguous"),
        ("macs_negative", "programs.0.methods.0.macs", -1),
        ("threshold_double", "configurations.0.path.1.threshold", 2.44),
        ("threshold_huge", "configurations.0.path.1.threshold", 1e39),
        ("threshold_text", "configurations.0.path.1.threshold", "2.5"),
        ("accuracy_percent", "configurations.0.expected.select.accuracy", 95.0),
        ("samples_none", "configurations.0.expected.select.n", 0),
        ("macs_float", "configurations.0.expected.mean_macs", 61000.5),
        ("step_place", "configurations.0.path.3.at", "cloud"),
        ("path_empty", "configurations.0.path", []),
        ("reference_shape", "configurations.0.path.0.method", "stage0"),
        ("tiers_none", "tiers", []),
        ("tiers_five", "tiers", ["c0", "c1", "c2", "c3", "c4"]),
        ("policy_count", "policy.enter_mh", [750, 850]),
        ("policy_floor", "policy.status_floor.6", 4),
        ("policy_percent", "policy.battery_hysteresis", 101),
        ("policy_float", "policy.stale_ms", 15000.0),
        ("object_for_list", "tiers", {"0": "c0"}),
        ("list_for_object", "policy", []),
    ]
    special = {"xz_dictionary": "$.payload.xz.dictionary_bytes"}
    for name, where, value in singles:
        dotted = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in where.split("."))
        yield name, "wrong type or out of range", put(where, value), "value", special.get(name, f"${dotted}")


def outsides() -> Iterator[tuple[str, str, tuple[Change, ...], str, str]]:
    """What tells inputs of no class, in the model and at the steps of paths."""
    path, place, told = "configurations.0.path", "$.configurations[0].path", outside(None)
    yield (
        "outside_score",
        "an unknown score",
        (told, put("model.outside.score", "entropy")),
        "value",
        "$.model.outside.score",
    )
    yield (
        "outside_threshold",
        "thresholds are the steps'",
        (told, put("model.outside.threshold", 1.5)),
        "unknown_key",
        "$.model.outside.threshold",
    )
    yield (
        "outside_itself",
        "a bundle falls back on another",
        (outside("flowers"),),
        "value",
        "$.model.outside.fallback",
    )
    yield "outside_exit", "every exit has one", (told, drop(f"{path}.1.outside")), "missing_key", f"{place}[1].outside"
    yield "outside_head", "and every head", (told, drop(f"{path}.3.outside")), "missing_key", f"{place}[3].outside"
    yield "outside_stage", "a stage has none", (told, put(f"{path}.0.outside", 1.0)), "value", f"{place}[0].outside"
    yield (
        "outside_untold",
        "nor has any without a rule",
        (put(f"{path}.1.outside", 1.0),),
        "value",
        f"{place}[1].outside",
    )


def relations() -> Iterator[tuple[str, str, tuple[Change, ...], str, str]]:
    """What a schema cannot tell: names, references, order, shapes."""
    for name, path in {
        "absolute": "/programs/a.pte",
        "parent": "programs/../../a.pte",
        "here": "./a.pte",
        "empty_segment": "a//b.pte",
        "trailing_slash": "programs/",
        "backslash": "programs\\a.pte",
        "drive": "C:/a.pte",
        "stream": "a.pte:b",
        "control": "a\u0000.pte",
        "device": "programs/NUL.pte",
        "dot_end": "programs/a.",
        "space_end": "programs/a /b",
        "own_name": "manifest.json",
        "own_name_case": "Payload.XZ",
        "decomposed": "programs/a\u0308.pte",
        "deep": "/".join("abcdefghi"),
        "long_segment": "a" * 121,
    }.items():
        yield f"path_{name}", "not a plain relative path", (put("files.1.path", path),), "value", "$.files[1].path"
    for name, path in {
        "twice": "programs/w100-f32-cpu.pte",
        "case_twin": "programs/W100-f32-cpu.pte",
        "folder_twin": "Programs/b.pte",
        "file_as_folder": "programs/w100-f32-cpu.pte/b",
        "folder_as_file": "programs",
    }.items():
        yield f"path_{name}", "collides with files[0]", (put("files.1.path", path),), "duplicate", "$.files[1].path"
    yield (
        "path_casefold",
        "collides where case is folded",
        (put("files.0.path", "straße"), put("files.1.path", "STRASSE")),
        "duplicate",
        "$.files[1].path",
    )
    yield "xz_missing", "xz needs its facts", (put("payload", {"format": "xz"}),), "value", "$.payload.xz"
    yield "xz_with_raw", "raw has none", (put("payload", XZ | {"format": "raw"}),), "value", "$.payload.xz"
    yield "classes_twice", "a class twice", (put("model.classes", ["rose", "rose"]),), "duplicate", "$.model.classes[1]"
    yield (
        "signal_color",
        "a signal has no colour",
        (signal, put("model.input.color", "RGB")),
        "value",
        "$.model.input.color",
    )
    yield "versions", "an empty range", (put("runtime.max_exclusive", "1.5.0"),), "order", "$.runtime.max_exclusive"
    yield (
        "versions_numeric",
        "versions are numbers",
        (put("runtime.min", "1.10.0"),),
        "order",
        "$.runtime.max_exclusive",
    )
    yield "program_file", "not listed", (put("programs.1.file", "programs/b.pte"),), "reference", "$.programs[1].file"
    yield "program_no_file", "a pte has a file", (drop("programs.1.file"),), "value", "$.programs[1].file"
    yield (
        "file_unused",
        "no program uses it",
        (insert("files.2", {"path": "a.txt", "size": 1, "sha256": "00" * 32}),),
        "reference",
        "$.files[2].path",
    )
    yield (
        "method_file",
        "a pte is one file",
        (put("programs.1.methods.0.file", "programs/w50-f32-cpu.pte"),),
        "value",
        "$.programs[1].methods[0].file",
    )
    yield (
        "package_file",
        "a folder with nothing in it",
        (core_ml(), put("programs.1.methods.0.file", "programs/no")),
        "reference",
        "$.programs[1].methods[0].file",
    )
    yield "program_twice", "an id twice", (put("programs.1.id", "w100-f32-cpu"),), "duplicate", "$.programs[1].id"
    yield (
        "method_twice",
        "a name twice",
        (insert("programs.0.methods.1", program("w100")["methods"][0]),),
        "duplicate",
        "$.programs[0].methods[1].name",
    )
    yield (
        "method_name",
        "names tell kind and position",
        (put("programs.0.methods.2.position", 2),),
        "value",
        "$.programs[0].methods[2].name",
    )
    yield (
        "exit_type",
        "an exit has a type",
        (drop("programs.0.methods.1.type"),),
        "value",
        "$.programs[0].methods[1].type",
    )
    yield (
        "stage_outputs",
        "a stage has one output",
        (put("programs.0.methods.0.outputs", [tensor(*MIDDLE), tensor(1)]),),
        "value",
        "$.programs[0].methods[0].outputs",
    )
    yield (
        "head_outputs",
        "over the classes",
        (put("programs.0.methods.3.outputs.0.shape", [1, 3]),),
        "value",
        "$.programs[0].methods[3].outputs",
    )
    yield (
        "two_inputs",
        "one tensor in",
        (put("programs.0.methods.0.inputs", [tensor(*PIXELS), tensor(1)]),),
        "value",
        "$.programs[0].methods[0].inputs",
    )
    yield (
        "layout_rank",
        "four dimensions only",
        (put("programs.0.methods.3.outputs.0.layout", "channels_last"),),
        "value",
        "$.programs[0].methods[3].outputs[0].layout",
    )
    path = "configurations.0.path"
    place = "$.configurations[0].path"
    yield (
        "step_program",
        "no such program",
        (put(f"{path}.1.method", "w75-f32-cpu/exit0"),),
        "reference",
        f"{place}[1].method",
    )
    yield (
        "step_method",
        "no such method",
        (put(f"{path}.1.method", "w100-f32-cpu/exit1"),),
        "reference",
        f"{place}[1].method",
    )
    yield "no_head", "a path ends with the head", (drop(f"{path}.3"),), "order", f"{place}[2].method"
    yield (
        "head_early",
        "and only there",
        (insert(f"{path}.2", {"method": "w100-f32-cpu/head"}),),
        "order",
        f"{place}[2].method",
    )
    yield "exit_threshold", "an exit has one", (drop(f"{path}.1.threshold"),), "missing_key", f"{place}[1].threshold"
    yield "stage_threshold", "a stage has none", (put(f"{path}.0.threshold", 1.0),), "value", f"{place}[0].threshold"
    yield from outsides()
    yield (
        "server_whole",
        "the device runs the first step",
        tuple(put(f"{path}.{index}.at", "server") for index in range(4)),
        "order",
        f"{place}[0].at",
    )
    yield (
        "server_and_back",
        "there is no way back from a server",
        (put(f"{path}.2.at", "server"),),
        "order",
        f"{place}[3].at",
    )
    yield "stage_missing", "stages follow each other", (drop(f"{path}.2"),), "order", f"{place}[2].method"
    yield "stage_first", "from the first", (drop(f"{path}.0"),), "order", f"{place}[0].method"
    yield (
        "stage_again",
        "once each",
        (insert(f"{path}.1", {"method": "w100-f32-cpu/stage0"}),),
        "order",
        f"{place}[1].method",
    )
    yield (
        "exit_twice",
        "one exit at a position",
        (insert(f"{path}.2", {"method": "w100-f32-cpu/exit0", "threshold": 1.0}),),
        "order",
        f"{place}[2].method",
    )
    yield (
        "width_change",
        "one width on a path",
        (put(f"{path}.2.method", "w50-f32-cpu/stage1"),),
        "order",
        f"{place}[2].method",
    )
    yield (
        "shape_break",
        "each takes what the one before gives",
        (put("programs.0.methods.2.inputs.0.shape", [1, 4, 4, 5]),),
        "order",
        f"{place}[2].method",
    )
    yield (
        "layout_break",
        "each takes memory in the order that the one before gives",
        (channels_last(0, 1),),
        "order",
        f"{place}[2].method",
    )
    yield (
        "layout_break_at_exit",
        "exits too",
        (channels_last(0, 2),),
        "order",
        f"{place}[1].method",
    )
    yield (
        "input_layout",
        "the input is contiguous",
        (put("programs.0.methods.0.inputs.0.layout", "channels_last"),),
        "order",
        f"{place}[0].method",
    )
    yield (
        "input_break",
        "the first takes the input",
        (put("programs.0.methods.0.inputs.0.shape", [1, 3, 9, 9]),),
        "order",
        f"{place}[0].method",
    )
    yield (
        "configuration_twice",
        "an id twice",
        (put("configurations.1.id", "c0"),),
        "duplicate",
        "$.configurations[1].id",
    )
    yield (
        "percentiles",
        "p50 is at most p90",
        (put("configurations.0.expected.latency_us", {"p50": 9, "p90": 8, "measured_on": "host"}),),
        "order",
        "$.configurations[0].expected.latency_us.p90",
    )
    yield "tier_unknown", "no such configuration", (put("tiers.1", "c9"),), "reference", "$.tiers[1]"
    yield "tier_twice", "a configuration twice", (put("tiers.1", "c0"),), "duplicate", "$.tiers[1]"
    yield "tier_order", "each costs less", (put("tiers", ["c1", "c0"]),), "order", "$.tiers[1]"
    yield "tier_equal", "strictly", (put("configurations.1.expected.mean_macs", 61000),), "order", "$.tiers[1]"
    yield (
        "tier_latency",
        "neither falls",
        (latencies(80, 80), put("configurations.0.expected.mean_macs", 10)),
        "order",
        "$.tiers[1]",
    )
    more = (put("tiers", ["c0", "c1", "c2"]),)
    yield "tiers_more_than_configurations", "two configurations are two tiers", more, "reference", "$.tiers[2]"
    for key, numbers in (
        ("battery_temperature_enter_dc", [390, 430, 410]),
        ("status_floor", [0, 1, 2, 3, 3, 3, 2]),
        ("apple_floor", [1, 0, 2, 3]),
    ):
        place = f"$.policy.{key}"
        yield f"policy_{key}", "worse never demands less", (put(f"policy.{key}", numbers),), "order", place
    yield "policy_enter", "entries rise", (put("policy.enter_mh", [850, 750, 950]),), "order", "$.policy.enter_mh"
    yield (
        "policy_battery",
        "percentages fall",
        (put("policy.battery_enter_percent", [5, 10, 20]),),
        "order",
        "$.policy.battery_enter_percent",
    )
    alone = (dense, insert("configurations.1.path.0", {"method": "w50-f32-cpu/forward"}))
    yield "dense_inside", "a path ends with it", alone, "order", "$.configurations[1].path[0].method"
    after = (dense, put("configurations.1.path", [{"method": "w50-f32-cpu/stage0"}, {"method": "w50-f32-cpu/forward"}]))
    stage = insert("programs.1.methods.0", program("w50")["methods"][0])
    yield "dense_after", "and stands alone", (*after, stage), "order", "$.configurations[1].path[1].method"
