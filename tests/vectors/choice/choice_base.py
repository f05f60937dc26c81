"""The catalogue of the cases, and what they are made of."""

from __future__ import annotations

from typing import Any

GB = 1_000_000_000

CATALOG: dict[str, Any] = {
    "format": 1,
    "profiles": [
        {"id": "any-android", "platform": "android", "match": {"default": True}},
        {"id": "any-ios", "platform": "ios", "match": {"default": True}, "os_min": "16.4"},
        {
            "id": "careless",
            "platform": "android",
            "match": {"soc": ["unknown"], "device": ["/one", "one", "None/one", "null/one", "unknown/one"]},
        },
        {"id": "chip-a", "platform": "android", "match": {"soc": ["CHIP-A", "CHIP-A-AC"]}},
        {"id": "kiosk", "platform": "linux", "match": {}},
        {"id": "other-android", "platform": "android", "match": {"default": True}},
        {"id": "phone-one", "platform": "android", "match": {"device": ["acme/one", "acme/one-5g"]}},
        {
            "id": "phone-strict",
            "platform": "android",
            "match": {"device": ["acme/strict"], "soc": ["CHIP-S"]},
            "os_min": "34",
            "abis": ["arm64-v8a", "riscv64"],
            "ram_bytes_min": 7 * GB,
        },
        {"id": "phone-twin", "platform": "android", "match": {"device": ["acme/one"]}},
        {"id": "tablet", "platform": "ios", "match": {"identifier": ["iPad14,1", "iPad14,2"]}},
    ],
    "groups": [
        {
            "id": "old",
            "any": [
                {"platform": "android", "abis_none": ["arm64-v8a", "x86_64"]},
                {"platform": "android", "os_below": "26"},
            ],
            "memory_bytes_max": 40_000,
        },
        {"id": "chip", "any": [{"soc": ["CHIP-B", "CHIP-C"], "abis_any": ["arm64-v8a"]}], "memory_bytes_max": 90_000},
        {
            "id": "listed",
            "any": [{"device": ["acme/small"]}, {"identifier": ["iPhone9,1"]}],
            "memory_bytes_max": 89_999,
        },
        {"id": "new-ios", "any": [{"platform": "ios", "os_min": "18.2"}], "memory_bytes_max": 180_000},
        {"id": "ram-small", "any": [{"ram_bytes_below": 3 * GB}], "memory_bytes_max": 100_000},
        {
            "id": "ram-middle",
            "any": [{"ram_bytes_min": 3 * GB, "ram_bytes_below": 6 * GB}],
            "memory_bytes_max": 179_999,
        },
        {"id": "ram-large", "any": [{"ram_bytes_min": 6 * GB}], "memory_bytes_max": 400_000},
    ],
}

RUNTIME = {"engine": "executorch", "runtime_version": "1.5.1", "backends": ["xnnpack"]}
ANDROID = {"platform": "android", "brand": "acme", "device": "nine", **RUNTIME}
ONE = ANDROID | {"device": "one"}
PHONE = ANDROID | {"ram_bytes": 8 * GB, "os_version": "34", "abis": ["arm64-v8a"]}
STRICT = PHONE | {"device": "strict"}
NOTHING = {"platform": "android"}
IPHONE = {"platform": "ios", "identifier": "iPhone15,2", **RUNTIME}


def tier(width: str, file_bytes: int, peak_bytes: int) -> dict[str, Any]:
    return {"width": width, "file_bytes": file_bytes, "peak_bytes": peak_bytes}


# They need 180,000, 90,000 and 40,000 bytes of memory: twice the file and the activations.
W100, W50, W25 = tier("w100", 80_000, 20_000), tier("w50", 40_000, 10_000), tier("w25", 15_000, 10_000)
BIG = tier("w100", 400_000, 0)


def bundle(profile: str = "any-android", *tiers: dict[str, Any], **more: Any) -> dict[str, Any]:
    facts = {"name": "flowers", "sequence": 7, "profile": profile, "platform": "android", "engine": "executorch"}
    facts |= {"runtime_min": "1.5.0", "runtime_max_exclusive": "1.7.0", "backends": ["xnnpack"]}
    return facts | more | {"tiers": list(tiers) or [W100, W50, W25]}


ANY = bundle()


def gives(
    candidate: int,
    reason: str,
    tiers: tuple[int, int, int],
    widths: tuple[str, str],
    *,
    group: str | None = None,
    limit: str = "none",
    unknown: str = "",
    excluded: tuple[str | None, ...] = (None,),
) -> dict[str, Any]:
    """`tiers`: to begin with, minimum, maximum; `widths`: to begin with, widest; `unknown`: names between spaces."""
    begin, minimum, maximum = tiers
    return {
        "candidate": candidate,
        "reason": reason,
        "group": group,
        "limit": limit,
        "tier": begin,
        "minimum_tier": minimum,
        "maximum_tier": maximum,
        "width": widths[0],
        "widest": widths[1],
        "unknown": unknown.split(),
        "excluded": list(excluded),
    }


FACTS_ERROR, NO_BUNDLE = {"error": "device.facts"}, {"error": "device.no_bundle"}
ALL = ("w100", "w100")
SMALLEST = ("w25", "w25")
RAM = "ram_bytes"
Case = tuple[str, str, dict[str, Any], list[dict[str, Any]], dict[str, Any]]
