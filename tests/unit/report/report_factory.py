"""A full build record with figures of a realistic size: ten digits, four tiers, a front of forty points."""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any

from ebbtide.report.record import BuildRecord

STAGES = (
    ("stage0", 96_256, 2_432, (16, 8, 8)),
    ("stage1", 405_504, 14_016, (32, 4, 4)),
    ("stage2", 442_368, 55_680, (64, 2, 2)),
)
HEAD = ("head", 640, 650, (10,))
TIERS = (
    # id, thresholds of exit0 and exit1, select, test, mean MACs, p50, p90, leaving shares on select
    ("c0", (5.812, 6.904), 0.9833, 0.9778, 742_300, 131.0, 152.0, (0.09, 0.31, 0.60)),
    ("c1", (4.118, 4.377), 0.9815, 0.9741, 521_900, 98.0, 141.0, (0.31, 0.46, 0.23)),
    ("c2", (2.634, 3.051), 0.9667, 0.9593, 344_700, 71.0, 128.0, (0.56, 0.36, 0.08)),
    ("c3", (1.207, 0.993), 0.9315, 0.9185, 203_100, 46.0, 92.0, (0.84, 0.15, 0.01)),
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def configuration(index: int) -> dict[str, Any]:
    name, thresholds, select, test, macs, p50, p90, shares = TIERS[index]
    path: list[dict[str, Any]] = []
    for position, threshold in enumerate(thresholds):
        path.append({"method": f"w100-f32-cpu/stage{position}"})
        path.append({"method": f"w100-f32-cpu/exit{position}", "threshold": threshold})
    path += [{"method": "w100-f32-cpu/stage2"}, {"method": "w100-f32-cpu/head"}]
    places = ("exit0", "exit1", "head")
    moved = (shares[0] - 0.013, shares[1] + 0.009, shares[2] + 0.004)
    return {
        "id": name,
        "tier": index,
        "path": path,
        "select": {"accuracy": select, "n": 270},
        "test": {"accuracy": test, "n": 270},
        "mean_macs": macs,
        "latency": {"p50_us": p50, "p90_us": p90, "spread_us": 3.1, "measured_on": "host", "threads": 1},
        "size_bytes": 312_448,
        "peak_bytes": 12_288,
        "shares_select": [{"name": place, "share": share} for place, share in zip(places, shares, strict=True)],
        "shares_test": [{"name": place, "share": round(share, 4)} for place, share in zip(places, moved, strict=True)],
        "reason": (
            "best on select",
            "nearest to equal steps of cost",
            "nearest to equal steps of cost",
            "cheapest within 10 points",
        )[index],
    }


def front(count: int = 40) -> list[dict[str, float]]:
    draw = random.Random(7)
    points = []
    for index in range(count):
        macs = 130_000 + 815_000 * index / (count - 1)
        ceiling = 0.9852 - 0.145 * math.exp(-(macs - 100_000) / 118_000)
        points.append(
            {
                "accuracy": round(ceiling - abs(draw.gauss(0, 0.006)) * (index % 3), 4),
                "mean_macs": round(macs),
                "latency_us": round(24 + macs / 6900 + draw.uniform(-3, 3), 1),
            }
        )
    return points


def class_rows(names: tuple[str, ...]) -> list[dict[str, Any]]:
    draw = random.Random(3)
    rows = []
    for name in names:
        n = draw.randint(24, 30)
        right = [n - draw.randint(0, 1 + tier) for tier in range(4)]
        accuracy = {TIERS[tier][0]: right[tier] / n for tier in range(4)}
        rows.append({"name": name, "n": n, "accuracy": accuracy, "dense": (n - draw.randint(0, 1)) / n})
    return rows


def bins(sharpness: float) -> list[dict[str, float]]:
    draw = random.Random(11)
    found = []
    for index in range(10):
        middle = (index + 0.5) / 10
        found.append(
            {
                "n": int(6 + 200 * middle**sharpness),
                "probability": middle,
                "accuracy": round(min(1.0, max(0.0, middle + draw.uniform(-0.07, 0.05))), 3),
            }
        )
    return found


def record_fields(*, names: tuple[str, ...] = tuple("0123456789")) -> dict[str, Any]:
    stages = [
        {
            "name": name,
            "kind": "stage",
            "macs": macs,
            "parameters": parameters,
            "weight_bytes": 4 * parameters,
            "output_shape": shape,
            "latency": {"p50_us": 20 + macs / 9000, "p90_us": 24 + macs / 8000, "threads": 1},
            "delegated_share": 1.0,
        }
        for name, macs, parameters, shape in STAGES
    ]
    head = {
        "name": HEAD[0],
        "kind": "head",
        "macs": HEAD[1],
        "parameters": HEAD[2],
        "weight_bytes": 4 * HEAD[2],
        "output_shape": HEAD[3],
        "latency": {"p50_us": 4.0, "p90_us": 5.1, "threads": 1},
        "delegated_share": 0.71,
    }
    exits = [
        {
            "name": "exit0",
            "kind": "exit",
            "macs": 1_184,
            "parameters": 170,
            "weight_bytes": 680,
            "output_shape": (10,),
            "latency": {"p50_us": 3.6, "p90_us": 4.4, "threads": 1},
            "delegated_share": 0.68,
        },
        {
            "name": "exit1",
            "kind": "exit",
            "macs": 832,
            "parameters": 330,
            "weight_bytes": 1_320,
            "output_shape": (10,),
            "latency": {"p50_us": 3.7, "p90_us": 4.6, "threads": 1},
            "delegated_share": 0.68,
        },
    ]
    files = [
        {"path": "manifest.json", "size_bytes": 6_412},
        {"path": "manifest.sig", "size_bytes": 71},
        {"path": "programs/w100-f32-cpu.pte", "size_bytes": 312_448},
    ]
    device = {"platform": "android", "files": files, "payload": "raw", "raw_bytes": 318_931, "xz_bytes": 281_204}
    return {
        "name": "digits",
        "sequence": 1,
        "created": "2026-03-02T09:30:00Z",
        "generator": "ebbtide 0.1.0",
        "recipe": "name: digits\nmodel: {factory: digits_net.py:digits_net}\ndata: {digits: true}\n"
        "exits: {positions: auto}\ndevices: [host, any-android]\ntiers: auto\n",
        "model": {
            "source": "factory digits_net.py:digits_net",
            "classes": names,
            "universal_classes": 10,
            "input_shape": (1, 8, 8),
            "parameters": 72_778,
            "macs": 944_768,
            "weight_bytes": 291_112,
            "stages": [*stages[:1], exits[0], stages[1], exits[1], stages[2], head],
            "select": {"accuracy": 0.9852, "n": 270},
            "test": {"accuracy": 0.9815, "n": 270},
        },
        "dense": {
            "select": {"accuracy": 0.9852, "n": 270},
            "test": {"accuracy": 0.9815, "n": 270},
            "macs": 944_768,
            "latency": {"p50_us": 149.0, "p90_us": 166.0, "spread_us": 2.4, "threads": 1},
            "size_bytes": 298_112,
            "peak_bytes": 12_288,
        },
        "exits": [
            {
                "name": "exit0",
                "position": 0,
                "type": "pool-linear",
                "temperature": 0.812,
                "select": {"accuracy": 0.8741, "n": 270},
                "macs": 1_184,
            },
            {
                "name": "exit1",
                "position": 1,
                "type": "pool-linear",
                "temperature": 1.134,
                "select": {"accuracy": 0.9593, "n": 270},
                "macs": 832,
            },
        ],
        "configurations": [configuration(index) for index in range(4)],
        "boundary": {"stages": 3, "ratio": 1.034, "spread": 0.011, "rounds": 40, "threads": 1},
        "scored": front(),
        "scored_total": 14_641,
        "controls": [
            {"name": "backbone cut after stage0", "accuracy": 0.8741, "mean_macs": 97_440, "latency_us": 34.0},
            {"name": "backbone cut after stage1", "accuracy": 0.9593, "mean_macs": 502_592, "latency_us": 97.0},
        ],
        "classes": class_rows(names),
        "reliability": [
            {"name": "exit0", "bins": bins(1.5)},
            {"name": "exit1", "bins": bins(3)},
            {"name": "head", "bins": bins(6)},
        ],
        "devices": [
            {
                "profile": "host",
                "bundle": "bundles/host",
                "manifest_sha256": digest("host"),
                "shares_programs_with": ["any-android"],
                "reason": "profile asked for by name",
                **{**device, "platform": "linux"},
            },
            {
                "profile": "any-android",
                "bundle": "bundles/any-android",
                "manifest_sha256": digest("any"),
                "shares_programs_with": ["host"],
                "reason": "same program as host: both run float32 on the CPU",
                **device,
            },
        ],
        "gates": [
            {
                "program": "w100-f32-cpu",
                "samples": 1527,
                "labels_differ": 0,
                "exits_differ": 0,
                "largest_score_difference": 2.1e-5,
                "score_limit": 1e-3,
                "smallest_threshold_gap": 0.0041,
                "moved_thresholds": 1,
            }
        ],
        "provenance": {
            "versions": {
                "torch": "2.13.0",
                "executorch": "1.5.1",
                "ebbtide": "0.1.0",
                "python": "3.11.9",
                "numpy": "2.3.2",
            },
            "hashes": {"weights": digest("weights"), "data": digest("data"), "recipe": digest("recipe")},
            "seeds": {"data": 0, "training": 0, "exits": 1},
            "splits": [
                {"name": "train", "count": 1257, "digest": digest("train")},
                {"name": "select", "count": 270, "digest": digest("select")},
                {"name": "test", "count": 270, "digest": digest("test")},
            ],
        },
        "machine": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.80GHz",
            "cores": 2,
            "memory_bytes": 25_769_803_776,
            "system": "Linux 6.1 x86_64",
        },
        "notices": [
            {
                "kind": "choice",
                "subject": "exit positions",
                "text": "After stage0 and stage1, the two on the front; stage2 adds 0.02 points for 47 % of the MACs.",
            },
            {
                "kind": "fallback",
                "subject": "any-android",
                "text": "Latency unknown on this profile: the table is ordered by MACs, times are the host's.",
            },
            {
                "kind": "warning",
                "subject": "w100-f32-cpu/exit0",
                "text": "32 % of the nodes run outside the XNNPACK delegate: log-sum-exp and top-k are portable.",
            },
        ],
        "timings": [
            {"step": step, "seconds": value, "reused": reused}
            for step, value, reused in (
                ("prepare data", 0.42, True),
                ("train", 14.8, False),
                ("exits", 2.31, False),
                ("search", 1.92, False),
                ("lower", 6.14, False),
                ("gate", 1.07, False),
                ("profile", 4.2, False),
                ("bundles", 0.38, False),
            )
        ],
    }


def full_record(**options: Any) -> BuildRecord:
    return BuildRecord.model_validate(record_fields(**options))


def small_record() -> BuildRecord:
    """The least a build can know: one configuration without a tier, nothing timed, test not read."""
    fields = record_fields()
    for key in (
        "exits",
        "boundary",
        "scored",
        "scored_total",
        "controls",
        "classes",
        "reliability",
        "devices",
        "gates",
        "provenance",
        "machine",
        "notices",
        "timings",
    ):
        del fields[key]
    only = configuration(0)
    for key in ("tier", "test", "latency", "peak_bytes", "shares_select", "shares_test", "reason"):
        del only[key]
    fields["configurations"] = [only]
    fields["dense"] = {"macs": 944_768, "size_bytes": 298_112}
    for key in ("select", "test"):
        del fields["model"][key]
    return BuildRecord.model_validate(fields)


def widths_fields(*, norm: str = "shared", tuned_controls: bool = True) -> dict[str, Any]:
    """Three nested widths, the whole network last, with every control."""

    def level(name: str, share: float, kept: float, select: float, test: float) -> dict[str, Any]:
        return {
            "name": name,
            "program": f"{name}-f32-cpu",
            "configuration": {"w30": "w30-dense", "w60": "w60-dense", "w100": "c0"}[name],
            "budget": int(name[1:]) / 100,
            "macs": round(944_768 * share),
            "share": share,
            "parameters": round(72_778 * share),
            "peak_bytes": round(12_288 * share),
            "program_bytes": round(298_112 * share),
            "value": kept,
            "select": {"accuracy": select, "n": 270},
            "test": {"accuracy": test, "n": 270},
            "untuned": {"accuracy": max(0.11, select - 0.6 * (1 - share)), "n": 270},
            "latency": {"p50_us": 20 + 129 * share, "p90_us": 26 + 140 * share, "threads": 1},
            "stages": [
                {"name": "head", "kind": "head", "macs": round(944_768 * share), "parameters": 9, "weight_bytes": 36}
            ],
        }

    levels = [
        level("w30", 0.296, 0.71, 0.9481, 0.9407),
        level("w60", 0.594, 0.88, 0.9741, 0.9667),
        level("w100", 1.0, 1.0, 0.9833, 0.9778),
    ]
    controls = [
        {
            "name": name,
            "about": about,
            "levels": [
                {
                    "level": one["name"],
                    "macs": one["macs"],
                    "untuned": max(0.1, one["untuned"]["accuracy"] - lost),
                    "tuned": one["select"]["accuracy"] - lost / 4 if tuned_controls else None,
                }
                for one in levels
            ],
        }
        for name, about, lost in (
            ("uniform", "the same order, and the same share of every group", 0.08),
            ("magnitude", "ordered and searched by the size of the weights", 0.12),
        )
    ]
    controls.append({"name": "random", "about": "by chance", "reason": "no widths meet <30 %>", "levels": []})
    private = {"xz_bytes": 300_000, "shared_xz_bytes": 281_000, "shared_select": [0.31, 0.62, 0.9833]}
    return {
        "order": "importance",
        "search": "bottom-up",
        "norm": norm,
        "multiple": 8,
        "exact": True,
        "levels": levels,
        "groups": [
            {"name": "stem.0", "size": 16, "kept": [8, 8, 16], "tensors": 7},
            {"name": "blocks.<1>.conv1_with_a_name_that_is_long", "size": 64, "kept": [16, 40, 64], "tensors": 6},
        ],
        "whole": [{"reason": "the classifier's outputs are the classes", "subjects": ["head.<2>"]}],
        "controls": controls,
        "tuned_epochs": 4,
        "xz_bytes": 290_000,
        "widest_xz_bytes": 280_000,
        "private": private if norm == "private" else None,
    }


def wide_record(**options: Any) -> BuildRecord:
    """A build of three nested widths: its last tier runs the narrowest one."""
    fields = record_fields()
    fields["widths"] = widths_fields(**options)
    for name in ("w30", "w60"):
        one = configuration(3)
        one |= {"id": f"{name}-dense", "width": name, "tier": None, "path": [{"method": f"{name}-f32-cpu/head"}]}
        one |= {"shares_select": [{"name": "head", "share": 1.0}], "shares_test": [{"name": "head", "share": 1.0}]}
        fields["configurations"].append(one)
    fields["configurations"][3]["width"] = "w30"
    return BuildRecord.model_validate(fields)
