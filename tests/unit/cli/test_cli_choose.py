"""``ebb choose`` on small bundles, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ebbtide.bundle import new_key, write_bundle, write_public_key
from ebbtide.bundle.candidate import candidate_of
from ebbtide.bundle.parsing import parse_manifest
from ebbtide.device import host_facts
from ebbtide.steps import library_versions

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))

import bundle_maker

VECTORS = Path(__file__).parents[2] / "vectors"
EBB = Path(sys.executable).with_name("ebb")
ANDROID = {"platform": "android", "engine": "executorch", "runtime_version": "1.5.1", "backends": ["xnnpack"]}
PIXEL = ANDROID | {"brand": "google", "device": "shiba", "ram_bytes": 7_900_000_000}


def ebb(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EBB, "choose", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folder of a bundle by its profile, and the key that signed them all."""
    folder = tmp_path_factory.mktemp("bundles")
    key = new_key(folder / "dev.pem")
    write_public_key(key.public, folder / "public.pem")
    found = {"key": folder / "public.pem"}
    platform = host_facts(engine="executorch", runtime_version="1.5.1", backends=[]).platform
    for profile, where in (("any-android", "android"), ("pixel-8", "android"), ("host", platform)):
        draft = bundle_maker.draft(device={"profile": profile, "platform": where})
        files = bundle_maker.files(folder / "sources")
        # A store of bundles to download holds them packed: the manifest is enough.
        write_bundle(folder / profile, draft, files, key=key, payload="xz")
        found[profile] = folder / profile
    return found


def facts_file(folder: Path, facts: object) -> Path:
    path = folder / "facts.json"
    path.write_text(json.dumps(facts))
    return path


def chosen(there: Mapping[str, Path], facts: object, *profiles: str) -> dict[str, Any]:
    bundles = [there[profile] for profile in profiles]
    done = ebb(facts, *bundles, "--key", there["key"], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_known_phone_gets_its_own_bundle_when_it_is_there(there, tmp_path):
    found = chosen(there, facts_file(tmp_path, PIXEL), "any-android", "pixel-8", "host")
    assert found["bundle"] == str(there["pixel-8"])
    assert (found["profile"], found["reason"], found["group"]) == ("pixel-8", "profile:device", "ram-8g")
    assert (found["tier"], found["width"], found["minimum_tier"], found["maximum_tier"]) == (0, "w100", 0, 1)
    assert [(one["bundle"], one["code"]) for one in found["left_out"]] == [
        (str(there["any-android"]), None),
        (str(there["host"]), "platform"),
    ]


def test_unknown_phone_keeps_to_the_smallest_width_when_nothing_is_known_of_it(there, tmp_path):
    found = chosen(there, facts_file(tmp_path, ANDROID), "pixel-8", "any-android")
    assert (found["profile"], found["reason"], found["limit"]) == ("any-android", "default", "unknown")
    assert (found["tier"], found["width"], found["minimum_tier"]) == (1, "w50", 1)
    assert found["unknown"] == ["ram_bytes"]
    assert "until the device has been measured" in found["because"]


def test_a_person_reads_the_choice_and_why_when_not_asking_for_json(there, tmp_path):
    facts = facts_file(tmp_path, ANDROID | {"ram_bytes": 4_000_000_000})
    done = ebb(facts, there["pixel-8"], there["any-android"], "--key", there["key"])
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["bundle", str(there["any-android"])]
    assert "begin with  tier 1, w50" in lines
    assert "allowed     tiers 0 to 1, up to w100" in lines
    assert any(
        line.startswith("reason      group: No bundle made for this device can be used, and this one is for any")
        for line in lines
    )
    assert lines[-1] == f"not {there['pixel-8']}: it is for other devices (pixel-8)"


def test_this_machine_gets_its_own_bundle_when_asked_for_by_name(there):
    found = chosen(there, "host", "any-android", "host")
    assert (found["profile"], found["reason"], found["tier"]) == ("host", "profile:named", 0)
    assert found["facts"]["runtime_version"] == library_versions(["executorch"])["executorch"]
    assert "xnnpack" in found["facts"]["backends"]
    assert found["unknown"] == []


def test_nothing_fits_says_what_was_there_when_on_another_platform(there, tmp_path):
    facts = facts_file(tmp_path, {"platform": "ios"})
    done = ebb(facts, there["any-android"], there["pixel-8"], "--key", there["key"], "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2
    assert error["code"] == "device.no_bundle"
    assert error["details"]["excluded"] == ["platform", "platform"]
    assert "flowers for pixel-8 is for android" in error["found"]


def test_facts_are_refused_with_the_nearest_name_when_mistyped(there, tmp_path):
    facts = facts_file(tmp_path, PIXEL | {"ram_byte": 1})
    done = ebb(facts, there["pixel-8"], "--key", there["key"])
    assert done.returncode == 2
    assert "device.facts" in done.stderr
    assert "ram_bytes" in done.stderr


def test_an_unsigned_manifest_is_refused_before_it_is_read(there, tmp_path):
    copied = tmp_path / "copy"
    copied.mkdir()
    for name in ("manifest.json", "manifest.sig"):
        (copied / name).write_bytes((there["pixel-8"] / name).read_bytes())
    changed = (copied / "manifest.json").read_bytes().replace(b'"pixel-8"', b'"pixel-9"')
    (copied / "manifest.json").write_bytes(changed)
    done = ebb(facts_file(tmp_path, PIXEL), copied, "--key", there["key"])
    assert done.returncode == 2
    assert "bundle.signature" in done.stderr


def test_facts_file_imports_nothing_heavy(there, tmp_path):
    command = ["ebb", "choose", str(facts_file(tmp_path, PIXEL)), str(there["pixel-8"]), "--key", str(there["key"])]
    code = f"import sys; sys.argv = {command!r}\nfrom ebbtide.cli import main\ntry:\n    main()\n"
    code += "except SystemExit as stopped:\n    assert not stopped.code\n"
    code += "print('heavy:', [name for name in ('torch', 'numpy', 'executorch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("name", ["base", "mlpackage", "dense_program"])
def test_candidate_counts_the_files_of_its_tiers_when_read_from_a_manifest(name):
    vectors = json.loads((VECTORS / "manifest/valid.json").read_bytes())
    text = next(vector["text"] for vector in vectors if vector["name"] == name)
    candidate = candidate_of(parse_manifest(text.encode()))
    # A folder for each of four methods, with two files of ten bytes each.
    second = 80 if name == "mlpackage" else 600
    assert [(tier.width, tier.file_bytes, tier.peak_bytes) for tier in candidate.tiers] == [
        ("w100", 1000, 8192),
        ("w50", second, 8192),
    ]
    assert (candidate.profile, candidate.runtime_min, candidate.backends) == ("any-android", "1.5.0", ["xnnpack"])
