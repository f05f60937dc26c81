"""The cases of cases.json. What each must give is written by hand here, never taken from an implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from choice_base import (
    ALL,
    ANDROID,
    ANY,
    BIG,
    FACTS_ERROR,
    GB,
    IPHONE,
    NO_BUNDLE,
    NOTHING,
    ONE,
    PHONE,
    RAM,
    RUNTIME,
    SMALLEST,
    STRICT,
    W25,
    W50,
    W100,
    Case,
    bundle,
    gives,
    tier,
)


def recognition() -> Iterator[Case]:
    own, first = bundle("phone-one"), (0, 0, 2)
    yield "device", "brand and device", ONE, [own], gives(0, "profile:device", first, ALL, unknown=RAM)
    second = ONE | {"device": "one-5g"}
    yield "device_second", "any name of the list", second, [own], gives(0, "profile:device", first, ALL, unknown=RAM)
    beside = gives(1, "profile:device", first, ALL, unknown=RAM, excluded=(None, None))
    yield "device_over_default", "its own bundle, wherever it stands", ONE, [ANY, own], beside
    yield "device_case", "exact, so case counts", ONE | {"device": "One"}, [own], NO_BUNDLE
    yield "device_part", "exact, so the whole counts", ONE | {"device": "one-4g"}, [own], NO_BUNDLE
    # A profile that lists what a careless reader makes of absent facts.
    careless = bundle("careless")
    no_brand = {key: value for key, value in ONE.items() if key != "brand"}
    yield "device_no_brand", "both or none", no_brand, [own, careless], NO_BUNDLE
    yield "device_unknown_brand", "Android's own word for absent", ONE | {"brand": "unknown"}, [careless], NO_BUNDLE
    yield "device_empty_brand", "an empty text is absent", ONE | {"brand": ""}, [careless], NO_BUNDLE
    tablet = bundle("tablet", platform="ios")
    ipad = IPHONE | {"identifier": "iPad14,2"}
    yield "identifier", "on Apple", ipad, [tablet], gives(0, "profile:identifier", first, ALL, unknown=RAM)
    chip = bundle("chip-a")
    soc = ANDROID | {"soc_model": "CHIP-A-AC"}
    yield "soc", "every suffix is listed", soc, [chip], gives(0, "profile:soc", first, ALL, unknown=RAM)
    yield "soc_suffix", "and no other counts", ANDROID | {"soc_model": "CHIP-A-AB"}, [chip], NO_BUNDLE
    yield "soc_unknown", "Android's own word for absent", ANDROID | {"soc_model": "unknown"}, [careless], NO_BUNDLE
    both = ONE | {"soc_model": "CHIP-A"}
    surer = gives(1, "profile:device", first, ALL, unknown=RAM, excluded=(None, None, None))
    yield "device_over_soc", "the device says more than its chip", both, [chip, own, ANY], surer
    second_rule = STRICT | {"device": "other", "soc_model": "CHIP-S"}
    by_chip = gives(0, "profile:soc", first, ALL, group="ram-large")
    yield "rules_of_one_profile", "any one rule suffices", second_rule, [bundle("phone-strict")], by_chip
    surest = STRICT | {"soc_model": "CHIP-S"}
    by_device = gives(0, "profile:device", first, ALL, group="ram-large")
    yield "surest_of_one_profile", "the surest is told", surest, [bundle("phone-strict")], by_device
    kiosk = bundle("kiosk", platform="linux")
    told = {"platform": "linux", "profile": "kiosk", **RUNTIME}
    yield (
        "named",
        "a profile without rules is told by name",
        told,
        [kiosk],
        gives(0, "profile:named", first, ALL, unknown=RAM),
    )
    yield "not_named", "and never chosen by itself", {"platform": "linux", **RUNTIME}, [kiosk], NO_BUNDLE
    wins = gives(1, "profile:named", first, ALL, unknown=RAM, excluded=(None, None))
    yield "named_over_device", "who set it up knows best", ONE | {"profile": "chip-a"}, [own, chip], wins
    no_such = ONE | {"profile": "nobody"}
    yield (
        "named_unknown",
        "a name that the catalogue lacks",
        no_such,
        [own],
        gives(0, "profile:device", first, ALL, unknown=RAM),
    )
    default = ANDROID | {"profile": "any-android"}
    yield (
        "named_default",
        "to be told that it is any device tells nothing",
        default,
        [ANY],
        gives(0, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown=RAM),
    )
    elsewhere = {"platform": "ios", "profile": "kiosk", **RUNTIME}
    yield "named_elsewhere", "a profile is of one platform", elsewhere, [bundle("kiosk", platform="ios")], NO_BUNDLE


def unknown_devices() -> Iterator[Case]:
    held = gives(0, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown=RAM)
    yield "nobody", "the smallest width until it is measured", ANDROID, [ANY], held
    bare = "ram_bytes engine runtime_version backends"
    yield "nothing_known", "absent facts exclude nothing", NOTHING, [ANY], held | {"unknown": bare.split()}
    none_needed = bundle(backends=[])
    yield (
        "no_backend_needed",
        "what is not needed is not missed",
        NOTHING,
        [none_needed],
        held | {"unknown": ["ram_bytes", "engine", "runtime_version"]},
    )
    empty = ANDROID | {"brand": "", "device": "", "soc_model": "", "identifier": ""}
    yield "empty_texts", "an empty text is absent", empty, [ANY], held
    own_missing = gives(1, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown=RAM, excluded=("device", None))
    yield "own_bundle_missing", "known, but its bundle is not there", ONE, [bundle("chip-a"), ANY], own_missing
    twice = bundle("any-android", W100, W25, tier("w25", 15_000, 9_000))
    yield (
        "two_of_smallest",
        "the better tier of that width",
        ANDROID,
        [twice],
        gives(0, "default", (1, 1, 2), SMALLEST, limit="unknown", unknown=RAM),
    )
    mixed = bundle("any-android", W100, W25, W50)
    yield (
        "cheapest_is_wider",
        "no tier of another width",
        ANDROID,
        [mixed],
        gives(0, "default", (1, 1, 1), SMALLEST, limit="unknown", unknown=RAM),
    )
    apart = bundle("any-android", W25, W50, W25)
    yield (
        "smallest_apart",
        "one run of tiers, the cheaper one",
        ANDROID,
        [apart],
        gives(0, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown=RAM),
    )
    one = bundle("any-android", W100)
    yield (
        "one_width",
        "nothing is left out, so nothing is limited",
        ANDROID,
        [one],
        gives(0, "default", (0, 0, 0), ALL, unknown=RAM),
    )
    numeric = bundle("any-android", W100, tier("w9", 100, 100))
    yield (
        "widths_are_numbers",
        "9 is less than 100",
        ANDROID,
        [numeric],
        gives(0, "default", (1, 1, 1), ("w9", "w9"), limit="unknown", unknown=RAM),
    )
    huge = bundle("any-android", tier("w100", 2**53 - 1, 2**53 - 1), W25)
    yield (
        "huge_unknown",
        "memory is not asked where no group sets it",
        ANDROID,
        [huge],
        gives(0, "default", (1, 1, 1), SMALLEST, limit="unknown", unknown=RAM),
    )


def groups() -> Iterator[Case]:
    def group(begin: int, first: int, widest: str, name: str, limit: str = "memory", last: int = 2) -> dict[str, Any]:
        return gives(0, "group", (begin, first, last), ("w25", widest), group=name, limit=limit)

    def ram(count: int) -> dict[str, Any]:
        return PHONE | {"ram_bytes": count}

    yield (
        "large",
        "all tiers, beginning with the smallest width",
        PHONE,
        [ANY],
        group(2, 0, "w100", "ram-large", "none"),
    )
    yield "small", "its memory has w50", ram(GB), [ANY], group(2, 1, "w50", "ram-small")
    yield "edge_below", "ranges exclude their upper end", ram(3 * GB - 1), [ANY], group(2, 1, "w50", "ram-small")
    yield "edge_at", "and include their lower one", ram(3 * GB), [ANY], group(2, 1, "w50", "ram-middle")
    yield "edge_upper", "the last byte", ram(6 * GB - 1), [ANY], group(2, 1, "w50", "ram-middle")
    yield "edge_large", "the next group", ram(6 * GB), [ANY], group(2, 0, "w100", "ram-large", "none")
    thirty_two = PHONE | {"abis": ["armeabi-v7a", "armeabi"]}
    yield "abis_none", "the first group that holds", thirty_two, [ANY], group(2, 2, "w25", "old")
    mixed = PHONE | {"abis": ["armeabi-v7a", "arm64-v8a"]}
    yield "abis_some", "one of them is enough to be out", mixed, [ANY], group(2, 0, "w100", "ram-large", "none")
    yield (
        "any_selector",
        "the second selector of a group",
        PHONE | {"os_version": "25"},
        [ANY],
        group(2, 2, "w25", "old"),
    )
    yield (
        "os_at",
        "the upper end is excluded",
        PHONE | {"os_version": "26"},
        [ANY],
        group(2, 0, "w100", "ram-large", "none"),
    )
    yield "os_numeric", "9 is less than 26", PHONE | {"os_version": "9"}, [ANY], group(2, 2, "w25", "old")
    absent = {key: value for key, value in PHONE.items() if key not in ("os_version", "abis")}
    yield "absent_fulfils_nothing", "not even `none of these`", absent, [ANY], group(2, 0, "w100", "ram-large", "none")
    chip = PHONE | {"soc_model": "CHIP-C"}
    yield "soc_group", "exactly its memory", chip, [ANY], group(2, 1, "w50", "chip")
    one_abi = chip | {"abis": ["armeabi-v7a", "arm64-v8a"]}
    yield "abis_any", "one of them is enough to be in", one_abi, [ANY], group(2, 1, "w50", "chip")
    other = chip | {"abis": ["x86_64"]}
    yield "all_conditions", "every condition of a selector", other, [ANY], group(2, 0, "w100", "ram-large", "none")
    yield "device_group", "one byte too little", PHONE | {"device": "small"}, [ANY], group(2, 2, "w25", "listed")
    apple = bundle("any-ios", platform="ios")
    eighteen = gives(0, "group", (2, 0, 2), ("w25", "w100"), group="new-ios", unknown="ram_bytes")
    yield "os_min", "the lower end is included", IPHONE | {"os_version": "18.2"}, [apple], eighteen
    yield "os_min_longer", "missing numbers are zero", IPHONE | {"os_version": "18.2.0"}, [apple], eighteen
    yield "os_min_parts", "parts are numbers", IPHONE | {"os_version": "18.10"}, [apple], eighteen
    below = gives(0, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown="ram_bytes")
    yield "os_min_below", "18.1.9 is before 18.2", IPHONE | {"os_version": "18.1.9"}, [apple], below
    old_phone = IPHONE | {"identifier": "iPhone9,1", "os_version": "17"}
    yield (
        "identifier_group",
        "on Apple",
        old_phone,
        [apple],
        gives(0, "group", (2, 2, 2), SMALLEST, group="listed", limit="memory", unknown="ram_bytes"),
    )
    gap = bundle("any-android", W50, W100, W25, tier("w50", 30_000, 10_000))
    yield (
        "gap",
        "one run of tiers: past a tier that does not fit there is none",
        ram(GB),
        [gap],
        gives(0, "group", (2, 2, 3), ("w25", "w50"), group="ram-small", limit="memory"),
    )
    tail = bundle("any-android", W50, W25, W100)
    yield (
        "cheapest_too_large",
        "the run ends before it",
        ram(GB),
        [tail],
        gives(0, "group", (1, 0, 1), ("w25", "w50"), group="ram-small", limit="memory"),
    )
    own = bundle("phone-one")
    known = gives(0, "profile:device", (1, 1, 2), ("w50", "w50"), group="ram-middle", limit="memory")
    yield "profile_in_group", "memory limits a known device, too", ram(5 * GB) | {"device": "one"}, [own], known
    peak = bundle("any-android", tier("w100", 10, 99_981), tier("w50", 10, 99_980))
    yield (
        "peak_counts",
        "twice the file and the activations",
        ram(GB),
        [peak],
        gives(0, "group", (1, 1, 1), ("w50", "w50"), group="ram-small", limit="memory"),
    )


def exclusions() -> Iterator[Case]:
    def beside(code: str, **more: Any) -> dict[str, Any]:
        return gives(1, "group", (2, 0, 2), ("w25", "w100"), group="ram-large", excluded=(code, None), **more)

    def changed(**more: Any) -> list[dict[str, Any]]:
        return [bundle(**more), ANY]

    yield "platform", "for another platform", PHONE, changed(platform="ios"), beside("platform")
    yield "engine", "for another engine", PHONE, changed(engine="coreml"), beside("engine")
    yield "too_new", "the runtime is too old", PHONE, changed(runtime_min="1.5.2"), beside("runtime_version")
    yield (
        "max_exclusive",
        "the upper end is excluded",
        PHONE,
        changed(runtime_max_exclusive="1.5.1"),
        beside("runtime_version"),
    )
    numeric = PHONE | {"runtime_version": "1.10.0"}
    wide = [bundle(runtime_max_exclusive="1.9.0"), bundle(runtime_max_exclusive="1.11.0")]
    yield "version_numeric", "1.10 comes after 1.9", numeric, wide, beside("runtime_version")
    inside = gives(0, "group", (2, 0, 2), ("w25", "w100"), group="ram-large")
    yield (
        "version_suffix",
        "what follows the numbers is not looked at",
        PHONE | {"runtime_version": "1.5.0a0+cpu"},
        [ANY],
        inside,
    )
    yield "version_at_min", "the lower end is included", PHONE | {"runtime_version": "1.5.0"}, [ANY], inside
    yield "backend", "one of its backends is missing", PHONE, changed(backends=["xnnpack", "qnn"]), beside("backend")
    yield (
        "no_backends",
        "a runtime without any",
        PHONE | {"backends": []},
        [ANY, bundle(backends=[])],
        beside("backend"),
    )
    more = PHONE | {"backends": ["vulkan", "qnn", "xnnpack"]}
    yield "more_backends", "more than is needed does no harm", more, [ANY], inside
    yield "profile", "newer than the catalogue", PHONE, changed(profile="phone-ten"), beside("profile")
    yield "device_other", "for other devices", PHONE, changed(profile="phone-one"), beside("device")
    yield "profile_elsewhere", "its profile is of another platform", PHONE, changed(profile="tablet"), beside("device")
    strict = [bundle("phone-strict"), ANY]
    yield "os", "the system is too old for its profile", STRICT | {"os_version": "33"}, strict, beside("os")
    yield "abi", "no ABI of its profile", STRICT | {"abis": ["x86_64"]}, strict, beside("abi")
    yield "ram", "a variant with less RAM", STRICT | {"ram_bytes": 7 * GB - 1}, strict, beside("ram")
    at = gives(0, "profile:device", (0, 0, 2), ALL, group="ram-large", excluded=(None, None))
    yield "ram_at", "at least what its profile states", STRICT | {"ram_bytes": 7 * GB}, strict, at
    bare = {key: value for key, value in STRICT.items() if key not in ("os_version", "abis", "ram_bytes")}
    lenient = gives(0, "profile:device", (0, 0, 2), ALL, unknown="ram_bytes os_version abis", excluded=(None, None))
    yield "demands_unknown", "what cannot be checked excludes nothing, and is named", bare, strict, lenient
    old_ios = bundle("any-ios", platform="ios")
    yield "os_of_default", "a default asks, too", IPHONE | {"os_version": "16.3.9"}, [old_ios], NO_BUNDLE
    yield "memory", "no tier fits", PHONE, [bundle("any-android", BIG), ANY], beside("memory")
    own = [bundle("phone-one", BIG), ANY]
    yield "memory_of_own", "then the one for any device", PHONE | {"device": "one"}, own, beside("memory")
    several = bundle("nobody", BIG, platform="ios", engine="coreml", backends=["ane"], runtime_min="1.6.0")
    yield "first_platform", "the first reason counts: platform", PHONE, [several, ANY], beside("platform")
    del_platform = several | {"platform": "android"}
    yield "then_engine", "engine", PHONE, [del_platform, ANY], beside("engine")
    del_engine = del_platform | {"engine": "executorch"}
    yield "then_version", "runtime version", PHONE, [del_engine, ANY], beside("runtime_version")
    del_version = del_engine | {"runtime_min": "1.5.0"}
    yield "then_backend", "backends", PHONE, [del_version, ANY], beside("backend")
    del_backend = del_version | {"backends": ["xnnpack"]}
    yield "then_profile", "profile", PHONE, [del_backend, ANY], beside("profile")
    worst = STRICT | {"os_version": "33", "abis": ["x86_64"], "ram_bytes": 6 * GB}
    yield "then_os", "system before ABI and RAM", worst, [bundle("phone-strict", BIG), ANY], beside("os")
    worse = worst | {"os_version": "34"}
    yield "then_abi", "ABI before RAM", worse, [bundle("phone-strict", BIG), ANY], beside("abi")
    bad = worse | {"abis": ["x86_64", "arm64-v8a"]}
    yield "then_ram", "RAM before memory", bad, [bundle("phone-strict", BIG), ANY], beside("ram")
    yield "none_there", "nothing to choose from", PHONE, [], NO_BUNDLE
    yield "none_fits", "all are left out", PHONE, [several, bundle("phone-one")], NO_BUNDLE


def ties() -> Iterator[Case]:
    def wins(index: int, count: int, reason: str = "profile:device") -> dict[str, Any]:
        return gives(index, reason, (0, 0, 2), ALL, unknown=RAM, excluded=(None,) * count)

    own, twin = bundle("phone-one"), bundle("phone-twin")
    yield "sequence", "the newest", ONE, [own, own | {"sequence": 8}, own | {"sequence": 6}], wins(1, 3)
    yield "sequence_numeric", "10 comes after 9", ONE, [own | {"sequence": 9}, own | {"sequence": 10}], wins(1, 2)
    late = bundle(sequence=99)
    yield "sure_before_new", "the surer match before the newer bundle", ONE, [late, own], wins(1, 2)
    yield "profiles", "two profiles name it: the smaller id", ONE, [twin, own], wins(1, 2)
    yield "new_before_id", "the newer before the smaller id", ONE, [own, twin | {"sequence": 8}], wins(1, 2)
    yield "names", "the smaller name", ONE, [own | {"name": "roses"}, own], wins(1, 2)
    yield "name_bytes", "capitals come first in bytes", ONE, [own, own | {"name": "Zinnias"}], wins(1, 2)
    yield "id_before_name", "the profile's id before the name", ONE, [twin | {"name": "a"}, own], wins(1, 2)
    yield "same", "the earlier one", ONE, [own, own], wins(0, 2)
    defaults = [bundle("other-android"), bundle("any-android")]
    held = gives(1, "default", (2, 2, 2), SMALLEST, limit="unknown", unknown=RAM, excluded=(None, None))
    yield "two_defaults", "the smaller id", ANDROID, defaults, held
    newer = [own | {"runtime_min": "1.6.0", "sequence": 9}, own]
    fits = gives(1, "profile:device", (0, 0, 2), ALL, unknown=RAM, excluded=("runtime_version", None))
    yield "newest_that_fits", "one that cannot be used does not count", ONE, newer, fits


def wrong_facts() -> Iterator[Case]:
    for name, why, change in [
        ("facts_platform", "no such platform", {"platform": "symbian"}),
        ("facts_platform_null", "the platform is always known", {"platform": None}),
        ("facts_key", "no such fact", {"ram": 1}),
        ("facts_ram_zero", "no RAM", {"ram_bytes": 0}),
        ("facts_ram_negative", "less than none", {"ram_bytes": -1}),
        ("facts_ram_large", "beyond 2^53 - 1", {"ram_bytes": 2**53}),
        ("facts_ram_text", "not a number", {"ram_bytes": "8"}),
        ("facts_ram_float", "not an integer", {"ram_bytes": 1.5}),
        ("facts_ram_bool", "not an integer", {"ram_bytes": True}),
        ("facts_os_number", "not a text", {"os_version": 34}),
        ("facts_os_text", "not a version", {"os_version": "Upside Down Cake"}),
        ("facts_os_long", "four numbers", {"os_version": "1.2.3.4"}),
        ("facts_os_empty", "no number", {"os_version": ""}),
        ("facts_abis_text", "not a list", {"abis": "arm64-v8a"}),
        ("facts_abis_none", "a processor runs something", {"abis": []}),
        ("facts_engine", "no such engine", {"engine": "tflite"}),
        ("facts_version", "two numbers", {"runtime_version": "1.5"}),
        ("facts_version_text", "not a version", {"runtime_version": "latest"}),
        ("facts_version_long", "a number of seven digits", {"runtime_version": "1.5.1000000"}),
        ("facts_backend", "not a name", {"backends": ["XNNPACK"]}),
        ("facts_profile", "not a name", {"profile": "../host"}),
    ]:
        yield name, why, PHONE | change, [ANY], FACTS_ERROR
    yield "facts_empty", "the platform is always known", {}, [ANY], FACTS_ERROR
    nulls = dict.fromkeys(("brand", "ram_bytes", "abis", "backends", "runtime_version"))
    held = gives(0, "default", (2, 2, 2), SMALLEST, limit="unknown")
    unknown = ["ram_bytes", "engine", "runtime_version", "backends"]
    yield "facts_null", "null is as good as absent", NOTHING | nulls, [ANY], held | {"unknown": unknown}


def cases() -> list[dict[str, Any]]:
    """All cases as they stand in the file."""
    found = [*recognition(), *unknown_devices(), *groups(), *exclusions(), *ties(), *wrong_facts()]
    keys = ("name", "why", "facts", "candidates", "expected")
    return [dict(zip(keys, case, strict=True)) for case in found]
