"""Groups of devices, the facts they read, and the catalogue that a phone carries."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import jsonschema
import psutil
import pytest
import yaml

from ebbtide.device import Catalog, Facts, group_of, host_facts, load_catalog, load_groups, profile_names, read_facts
from ebbtide.device.catalog import rule_of
from ebbtide.device.load import load_profile, read_profile, shipped
from ebbtide.device.profile import Fact
from ebbtide.device.schema import DEVICES, groups_schema
from ebbtide.errors import EbbtideError

GIB = 2**30


def group_name(**facts: object) -> str | None:
    group = group_of(Facts.model_validate(facts), load_groups())
    return group.id if group else None


def error_of(path: Path, content: object) -> EbbtideError:
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    with pytest.raises(EbbtideError) as caught:
        load_groups(path)
    assert caught.value.code == "device.groups"
    return caught.value


def test_groups_fit_their_schema_when_shipped():
    document = yaml.safe_load(shipped("groups.yaml").read_bytes())
    plain = json.loads(json.dumps(document, default=lambda item: item.isoformat()))
    jsonschema.Draft202012Validator(groups_schema()).validate(plain)


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_every_phone_whose_ram_is_known_is_in_a_group_when_shipped(platform):
    edges = [GIB * 3 // 2, GIB * 5 // 2, GIB * 5, GIB * 10]
    names = ["ram-1g", "ram-2g", "ram-4g", "ram-8g", "ram-12g"]
    for below, edge, above in zip(names, edges, names[1:], strict=False):
        assert group_name(platform=platform, ram_bytes=edge - 1) == below
        assert group_name(platform=platform, ram_bytes=edge) == above
    assert group_name(platform=platform, ram_bytes=1) == names[0]
    assert group_name(platform=platform, ram_bytes=2**53 - 1) == names[-1]
    assert group_name(platform=platform) is None


def test_more_ram_has_more_memory_when_shipped():
    groups = [group for group in load_groups() if group.id.startswith("ram-")]
    limits = [group.memory_bytes_max for group in groups]
    assert limits == sorted(set(limits))
    for group in groups:
        low = group.any[0].ram_bytes_min or GIB * 3 // 4
        assert group.memory_bytes_max <= low // 16


def test_old_processors_come_before_ram_when_shipped():
    assert group_name(platform="android", ram_bytes=4 * GIB, abis=["armeabi-v7a"]) == "android-32-bit"
    assert group_name(platform="android", ram_bytes=4 * GIB, abis=["arm64-v8a", "armeabi-v7a"]) == "ram-4g"
    assert group_name(platform="linux", ram_bytes=4 * GIB, abis=["x86"]) is None


def test_groups_are_refused_when_not_valid(tmp_path):
    path = tmp_path / "mine.yaml"
    ground = {"choice": "because"}
    good = {"id": "a", "title": "A", "any": [{"ram_bytes_below": 5}], "memory_bytes_max": 9, "rule": ground}
    good |= {"limit": ground}
    path.write_text(yaml.safe_dump({"groups": [good]}))
    assert load_groups(path)[0].id == "a"
    assert "groups.0.rule" in error_of(path, {"groups": [good | {"rule": {}}]}).place
    assert "needs a date" in error_of(path, {"groups": [good | {"rule": {"source": "page"}}]}).message
    assert "at least one condition" in error_of(path, {"groups": [good | {"any": [{}]}]}).message
    assert error_of(path, {"groups": [good | {"any": []}]})
    assert "same id" in error_of(path, {"groups": [good, good]}).message
    assert error_of(path, {"groups": [good | {"any": [{"ram_bytes_min": "5"}]}]}).place.endswith("ram_bytes_min")
    assert error_of(path, {"groups": [good | {"any": [{"os_min": "Tiramisu"}]}]}).place.endswith("os_min")
    assert error_of(path, {"groups": [good | {"memory_bytes_max": 0}]}).place.endswith("memory_bytes_max")
    assert "groups" in (error_of(path, {"gruops": [good], "groups": []}).hint or "")
    assert error_of(path, b"groups: [1,\n  oops: {").place.startswith("mine.yaml:")
    assert error_of(path, b"a: " + b"x" * 300_000)


def test_catalogue_holds_all_profiles_and_groups_when_loaded():
    catalog = load_catalog()
    assert [one.id for one in catalog.profiles] == list(profile_names())
    assert [one.id for one in catalog.groups] == [one.id for one in load_groups()]
    for one in catalog.profiles:
        assert one.match == load_profile(one.id).match
    assert next(one for one in catalog.profiles if one.id == "host").platform == load_profile("host").platform


def test_catalogue_of_phones_reads_back_and_leaves_out_this_machine():
    carried = Catalog.model_validate(json.loads((DEVICES / "catalog.json").read_bytes()))
    here = load_catalog()
    assert carried.profiles == [one for one in here.profiles if one.id != "host"]
    assert carried.groups == here.groups


def test_rule_of_a_profile_takes_the_numbers_of_its_system():
    profile = read_profile("pixel-8")

    def asked(version: str | None) -> str | None:
        date = datetime.date(2026, 1, 1)
        fact = Fact[str](value=version, source="a page", date=date)
        return rule_of(profile.model_copy(update={"os_min": fact})).os_min

    assert asked("34") == "34"
    assert asked("6.8.0-45-generic") == "6.8.0"
    assert asked(None) is None
    with pytest.raises(EbbtideError, match="no number") as caught:
        asked("Tiramisu")
    assert caught.value.code == "device.profile"


def test_host_facts_are_this_machine_when_read():
    facts = host_facts(engine="executorch", runtime_version="1.5.1", backends=["xnnpack"])
    assert facts.profile == "host"
    assert facts.ram_bytes == psutil.virtual_memory().total
    assert facts.platform == load_profile("host").platform
    assert facts.abis == load_profile("host").abis.value


def test_facts_are_refused_when_the_file_is_not_strict(tmp_path):
    path = tmp_path / "facts.json"

    def error(data: bytes) -> EbbtideError:
        path.write_bytes(data)
        with pytest.raises(EbbtideError) as caught:
            read_facts(path)
        assert caught.value.code == "device.facts"
        assert caught.value.place.startswith(str(path))
        return caught.value

    path.write_bytes(b'{"platform": "android", "ram_bytes": 5}')
    assert read_facts(path).ram_bytes == 5
    assert "twice" in error(b'{"platform": "android", "platform": "ios"}').message
    assert "'ram_bytes'" in (error(b'{"platform": "android", "ram_byte": 5}').hint or "")
    assert error(b'{"platform": "android", "ram_bytes": "5"}').place.endswith("ram_bytes")
    assert "NaN" in error(b'{"platform": "android", "ram_bytes": NaN}').message
    assert error(b"[]")
    assert error(b"")
    assert error(b"\xff\xfe")
    assert error(b"{" * 100)
    assert error(b"[" * 60_000)
    assert error(b" " * 100_000)
    path.unlink()
    with pytest.raises(EbbtideError, match="cannot be read"):
        read_facts(path)
