"""Device profiles."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import psutil
import pytest
import yaml

from ebbtide.device import Fact, load_groups, load_profile, profile_names, program_key
from ebbtide.device.load import profiles_folder
from ebbtide.device.profile import Profile
from ebbtide.device.schema import DEVICES, files, profile_schema
from ebbtide.errors import EbbtideError

ROOT = Path(__file__).parents[3]


def document(name: str = "any-android") -> dict:
    return yaml.safe_load((profiles_folder() / f"{name}.yaml").read_bytes())


def plain(value):
    """What a YAML editor checks: dates are texts there."""
    return json.loads(json.dumps(value, default=lambda item: item.isoformat()))


def error_of(folder: Path, content: object, name: str = "mine") -> EbbtideError:
    data = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
    (folder / f"{name}.yaml").write_bytes(data)
    with pytest.raises(EbbtideError) as caught:
        load_profile(name, folder=folder)
    assert caught.value.code == "device.profile"
    return caught.value


def test_the_four_profiles_are_there_when_listed():
    assert {"host", "any-android", "pixel-8", "galaxy-s24-ultra"} <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_profile_loads_and_fits_its_schema_when_shipped(name):
    profile = load_profile(name)
    assert profile.id == name
    jsonschema.Draft202012Validator(profile_schema()).validate(plain(document(name)))


@pytest.mark.parametrize("name", profile_names())
def test_every_known_fact_has_source_and_date_when_shipped(name):
    def facts(value):
        if isinstance(value, Fact):
            yield value
        elif hasattr(type(value), "model_fields"):
            for field in type(value).model_fields:
                yield from facts(getattr(value, field))

    found = list(facts(load_profile(name)))
    assert len(found) >= 10
    for fact in found:
        assert fact.value is None or (fact.source and fact.date <= datetime.date(2100, 1, 1))


@pytest.mark.parametrize("name", files())
def test_generated_file_is_current_when_generated_again(name):
    assert (DEVICES / name).read_bytes() == files()[name], "run make vectors"


def test_host_knows_this_machine_when_loaded():
    host = load_profile("host")
    assert host.ram_bytes_min.value == psutil.virtual_memory().total
    assert host.ram_bytes_min.source == "psutil.virtual_memory"
    assert host.cpu.value is not None
    assert host.cpu.value.cores >= 1
    assert host.platform in ("linux", "macos", "windows")
    assert Profile.model_validate(host.model_dump()) == host


def test_unknown_profile_names_the_nearest_when_mistyped():
    with pytest.raises(EbbtideError) as caught:
        load_profile("pixel8")
    assert caught.value.code == "device.unknown"
    assert "pixel-8" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["../profiles/host", "", "host.yaml", "zzz"])
def test_unknown_profile_is_refused_when_a_path_or_far_off(name):
    with pytest.raises(EbbtideError) as caught:
        load_profile(name)
    assert caught.value.code == "device.unknown"


def test_profile_is_refused_when_not_valid(tmp_path):
    good = document() | {"id": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(good))
    assert load_profile("mine", folder=tmp_path).id == "mine"
    assert "platfrom" in error_of(tmp_path, good | {"platfrom": "android"}).place
    assert "platform" in (error_of(tmp_path, good | {"platfrom": "android"}).hint or "")
    assert "source and a date" in error_of(tmp_path, good | {"gpu": {"value": "Adreno 750"}}).message
    assert error_of(tmp_path, good | {"ram_bytes_min": {"value": "8 GB", "source": "s", "date": "2026-01-01"}})
    assert error_of(tmp_path, good | {"id": "another"}).found == "another"
    assert error_of(tmp_path, {key: value for key, value in good.items() if key != "lowering"}).place.endswith(
        "lowering"
    )
    assert error_of(tmp_path, b"id: [1,\n  oops: {").place.startswith("mine.yaml:")
    assert error_of(tmp_path, b"\xff\xfe\x00")
    assert error_of(tmp_path, b"- just\n- a list\n")
    assert error_of(tmp_path, b"a: " + b"x" * 300_000)
    assert error_of(tmp_path, b"!!python/object/apply:os.system ['true']")


def test_programs_are_shared_when_lowering_agrees():
    phone, other = load_profile("pixel-8"), load_profile("any-android")
    assert program_key(phone) == program_key(other)
    vulkan = document()
    vulkan["lowering"]["delegates"].insert(0, {"backend": "vulkan", "processor": "gpu", "runtime_tested": None})
    assert program_key(Profile.model_validate(vulkan)) != program_key(other)
    tested = document()
    tested["lowering"]["delegates"][0]["runtime_tested"] = "1.5.1"
    assert program_key(Profile.model_validate(tested)) == program_key(other)
    wide = document()
    wide["lowering"]["channel_multiple"] = 16
    assert program_key(Profile.model_validate(wide)) != program_key(other)


@pytest.mark.slow
def test_profiles_are_found_when_installed_from_a_wheel(tmp_path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("pipeline/ebbtide", "devices"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = "import ebbtide.device.load as load; print(load.profiles_folder()); print(*load.profile_names());"
    code += "import ebbtide.device as device; print(*(group.id for group in device.load_groups()))"
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True)
    groups = [group.id for group in load_groups()]
    assert out.stdout.split() == [str(tmp_path / "site/ebbtide/device/profiles"), *profile_names(), *groups]
