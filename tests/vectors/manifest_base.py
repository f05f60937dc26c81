"""A small valid manifest, and ways to change it, for the vectors of tests/vectors/manifest."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], None]


def tensor(*shape: int) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": "float32"}


def method(name: str, kind: str, position: int, takes: list[int], *gives: list[int], **more: Any) -> dict[str, Any]:
    facts = {"name": name, "kind": kind, "position": position, **more, "inputs": [tensor(*takes)]}
    return facts | {"outputs": [tensor(*shape) for shape in gives], "macs": 1000 * (position + 1), "peak_bytes": 4096}


SCORES = ([1, 2], [1], [1, 2])
PIXELS, MIDDLE, LAST = [1, 3, 8, 8], [1, 4, 4, 4], [1, 8, 2, 2]


def program(width: str) -> dict[str, Any]:
    name = f"{width}-f32-cpu"
    return {
        "id": name,
        "width": width,
        "precision": "float32",
        "processor": "cpu",
        "format": "pte",
        "file": f"programs/{name}.pte",
        "methods": [
            method("stage0", "stage", 0, PIXELS, MIDDLE),
            method("exit0", "exit", 0, MIDDLE, *SCORES, type="pool-linear"),
            method("stage1", "stage", 1, MIDDLE, LAST),
            method("head", "head", 2, LAST, *SCORES),
        ],
    }


def expected(accuracy: float, macs: int) -> dict[str, Any]:
    return {
        "select": {"accuracy": accuracy, "n": 500},
        "test": {"accuracy": accuracy, "n": 1000},
        "mean_macs": macs,
        "latency_us": None,
        "peak_bytes": 8192,
        "energy_uj": None,
    }


def base() -> dict[str, Any]:
    """The smallest manifest with two widths, an exit and two tiers; keys in canonical order."""
    return {
        "format": 1,
        "name": "flowers",
        "sequence": 7,
        "created": "2026-11-21T12:00:00Z",
        "generator": "ebbtide 0.1.0",
        "key_id": "0123456789abcdef",
        "device": {"profile": "any-android", "platform": "android"},
        "runtime": {"engine": "executorch", "min": "1.5.0", "max_exclusive": "1.7.0", "backends": ["xnnpack"]},
        "model": {
            "classes": ["daisy", "rose"],
            "universal_classes": 100,
            "input": {
                "kind": "image",
                "shape": PIXELS,
                "dtype": "float32",
                "layout": "NCHW",
                "color": "RGB",
                "crop": "center",
                "resize": "bilinear-v1",
                "scale": [0.015625, 0.015625, 0.015625],
                "bias": [-2.0, -1.9500000476837158, -1.75],
            },
        },
        "files": [
            {"path": "programs/w100-f32-cpu.pte", "size": 1000, "sha256": "00" * 32},
            {"path": "programs/w50-f32-cpu.pte", "size": 600, "sha256": "ff" * 32},
        ],
        "payload": {"format": "raw"},
        "programs": [program("w100"), program("w50")],
        "configurations": [
            {
                "id": "c0",
                "path": [
                    {"method": "w100-f32-cpu/stage0"},
                    {"method": "w100-f32-cpu/exit0", "threshold": 2.440000057220459},
                    {"method": "w100-f32-cpu/stage1"},
                    {"method": "w100-f32-cpu/head"},
                ],
                "expected": expected(0.95, 61000),
            },
            {
                "id": "c1",
                "path": [
                    {"method": "w50-f32-cpu/stage0"},
                    {"method": "w50-f32-cpu/stage1"},
                    {"method": "w50-f32-cpu/head"},
                ],
                "expected": expected(0.9, 20000),
            },
        ],
        "tiers": ["c0", "c1"],
        "policy": {
            "enter_mh": [750, 850, 950],
            "hysteresis_mh": 65,
            "status_floor": [0, 1, 2, 3, 3, 3, 3],
            "apple_floor": [0, 1, 2, 3],
            "battery_enter_percent": [20, 10, 5],
            "battery_hysteresis": 5,
            "battery_temperature_enter_dc": [390, 410, 430],
            "battery_temperature_hysteresis_dc": 20,
            "saver_floor": 1,
            "up_hold_ms": 60000,
            "stale_ms": 15000,
            "gap_ms": 60000,
        },
    }


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def at(document: Any, path: str) -> tuple[Any, Any]:
    """The container and the last key of a place such as ``programs.0.methods.1.name``."""
    *inner, last = path.split(".")
    for part in inner:
        document = document[int(part)] if part.isdecimal() else document[part]
    return document, int(last) if last.isdecimal() else last


def put(path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        container, key = at(document, path)
        container[key] = value

    return change


def drop(path: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        container, key = at(document, path)
        del container[key]

    return change


def insert(path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        container, key = at(document, path)
        container.insert(key, value)

    return change


def changed(*changes: Change) -> dict[str, Any]:
    document = copy.deepcopy(base())
    for change in changes:
        change(document)
    return document


def core_ml() -> Change:
    def change(document: dict[str, Any]) -> None:
        lowered = document["programs"][1]
        lowered["format"] = "mlpackage"
        del lowered["file"]
        names = []
        for index, entry in enumerate(lowered["methods"]):
            folder = f"programs/w50/{entry['name']}.mlpackage"
            names += [f"{folder}/Manifest.json", f"{folder}/Data/model.mlmodel"]
            # Canonical order: `file` stands before `inputs`.
            outer = {key: entry.pop(key) for key in ("inputs", "outputs", "macs", "peak_bytes")}
            lowered["methods"][index] = entry | {"file": folder} | outer
        document["files"][1:] = [{"path": name, "size": 10, "sha256": "ab" * 32} for name in names]

    return change


def channels_last(*methods: int) -> Change:
    """The boundary after stage 0 in channels_last order, as far as these methods of the first program know."""

    def change(document: dict[str, Any]) -> None:
        for index in methods:
            entry = document["programs"][0]["methods"][index]
            entry["inputs" if index else "outputs"][0]["layout"] = "channels_last"

    return change


def signal(document: dict[str, Any]) -> None:
    document["model"]["input"] |= {"kind": "signal", "shape": [1, 3, 64], "layout": "NCT"}
    document["model"]["input"] |= {"color": None, "crop": None, "resize": None}
    for entry in document["programs"]:
        entry["methods"][0]["inputs"] = [tensor(1, 3, 64)]


def dense(document: dict[str, Any]) -> None:
    document["programs"][1]["methods"] = [method("forward", "model", 2, PIXELS, *SCORES)]
    document["configurations"][1]["path"] = [{"method": "w50-f32-cpu/forward"}]


def latencies(*p50: int) -> Change:
    def change(document: dict[str, Any]) -> None:
        for entry, value in zip(document["configurations"], p50, strict=True):
            entry["expected"]["latency_us"] = {"p50": value, "p90": value + 9, "measured_on": "pixel-8"}

    return change


def two_exits(document: dict[str, Any]) -> None:
    methods = document["programs"][0]["methods"]
    methods.insert(2, method("exit0_conv", "exit", 0, MIDDLE, *SCORES, type="conv"))
    document["configurations"][0]["path"][1]["method"] = "w100-f32-cpu/exit0_conv"


XZ = {"format": "xz", "xz": {"size": 900, "sha256": "cd" * 32, "dictionary_bytes": 65536}}


def outside(fallback: str | None, score: str = "energy") -> Change:
    def change(document: dict[str, Any]) -> None:
        model = document["model"]
        model["outside"] = {"score": score, "fallback": fallback}
        model["input"] = model.pop("input")  # stands last
        for configuration in document["configurations"]:
            for step in configuration["path"]:
                if "stage" not in step["method"]:
                    step["outside"] = 3.200000047683716

    return change
