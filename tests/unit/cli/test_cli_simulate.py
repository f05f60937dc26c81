"""``ebb simulate`` on small bundles, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebbtide import api
from ebbtide.bundle import Manifest, new_key, parse_manifest, write_bundle
from ebbtide.errors import EbbtideError
from ebbtide.simulation import LABEL, load_assumptions, tier_facts

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))

import bundle_maker

EBB = Path(sys.executable).with_name("ebb")


def ebb(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EBB, "simulate", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    files = bundle_maker.files(folder / "sources")
    write_bundle(
        folder / "bundles" / "host", bundle_maker.draft(), files, key=new_key(folder / "dev.pem"), payload="raw"
    )
    return folder / "bundles" / "host"


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return parse_manifest((bundle / "manifest.json").read_bytes())


def without_latency(manifest: Manifest) -> Manifest:
    entries = [
        one.model_copy(update={"expected": one.expected.model_copy(update={"latency_us": None})})
        for one in manifest.configurations
    ]
    return manifest.model_copy(update={"configurations": tuple(entries)})


def test_command_prints_the_table_and_writes_the_page(bundle: Path, tmp_path: Path) -> None:
    done = ebb(bundle, "--hours", 0.2, "--runs", 2, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for words in ("Ebbtide", "Unity", "throttled", "changes/h", LABEL, "Google Pixel 8", "power assumed"):
        assert words in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["simulation.html", "simulation.json"]


def test_json_has_the_policies_and_not_the_lines(bundle: Path, tmp_path: Path) -> None:
    options = ("--hours", 0.1, "--runs", 1, "--policy", "ours", "--policy", "largest", "--phone", "iphone-15-pro")
    done = ebb(bundle, *options, "-o", tmp_path, "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["policies"]] == ["largest", "ours"]
    assert (found["label"], found["system"], found["seeds"]) == (LABEL, "apple", [0])
    assert "course" not in found
    assert Path(found["page"]).is_file()


def test_same_seed_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    pages = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        found = api.simulate(bundle, hours=0.1, runs=2, seed=seed, output=tmp_path / name)
        pages.append((found.page.read_bytes(), found.data.read_bytes()))
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--phone", "pixle-8"), "simulation.phone", "Did you mean 'pixel-8'?"),
        (("--ambient", "32..20"), "simulation.ambient", "Did you mean 20..32?"),
        (("--ambient", "20..61"), "simulation.ambient", "from -20 to 60"),
        (("--ambient", "warm"), "simulation.ambient", "no temperature"),
        (("--ambient", "20..30..40"), "simulation.ambient", "no temperature"),
        (("--hours", "0"), "simulation.hours", "more than 0"),
        (("--hours", "49"), "simulation.hours", "at most 48"),
        (("--hours", "nan"), "simulation.hours", "more than 0"),
        (("--runs", "0"), "simulation.runs", "1 to 1000"),
        (("--seed", "-1"), "simulation.runs", "at least 0"),
        (("--policy", "ourz"), "simulation.policy", "Did you mean 'ours'?"),
        (("--power", "none.yaml"), "simulation.power", "cannot be read"),
    ],
)
def test_bad_input_is_an_error_and_nothing_is_written(
    bundle: Path, tmp_path: Path, options: tuple[str, ...], code: str, said: str
) -> None:
    done = ebb(bundle, *options, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_broken_power_file_is_refused_with_its_place(bundle: Path, tmp_path: Path) -> None:
    power = tmp_path / "power.yaml"
    power.write_text("rest_w: {value: much, source: me}\n")
    done = ebb(bundle, "--power", power, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "power.yaml: rest_w.value" in done.stderr
    assert not (tmp_path / "out").exists()


def test_damaged_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        api.simulate(tmp_path / "nothing", hours=0.1, runs=1, output=tmp_path / "out")
    assert caught.value.code.startswith("bundle.")
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_an_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((EbbtideError, OSError)) as caught:
        api.simulate(bundle, hours=0.1, runs=1, output=tmp_path / "file" / "out")
    assert isinstance(caught.value, EbbtideError)


@pytest.mark.parametrize(("text", "air"), [("20..32", (20, 32)), ("-5.5 .. 3", (-5.5, 3)), ("25", (25, 25))])
def test_air_is_read(text: str, air: tuple[float, float]) -> None:
    from ebbtide.api.simulate import parse_ambient

    assert parse_ambient(text) == air


def test_power_follows_the_measured_latency(manifest: Manifest) -> None:
    facts = tier_facts(manifest, load_assumptions())
    entries = {one.id: one for one in manifest.configurations}
    stated = [entries[name].expected.latency_us for name in manifest.tiers]
    if all(stated):
        assert facts[0].latency_from.startswith("measured on")
        assert facts[0].latency_us == stated[0].p50
    assert facts[0].power_w == pytest.approx(3.4)
    for fact in facts:
        assert fact.power_w == pytest.approx(min(3.4, 3.4 * fact.latency_us / facts[0].latency_us))


def test_latency_falls_back_to_the_record_and_then_to_macs(manifest: Manifest) -> None:
    bare, assumed = without_latency(manifest), load_assumptions()
    measured = {name: 100.0 / (index + 1) for index, name in enumerate(manifest.tiers)}
    facts = tier_facts(bare, assumed, measured)
    assert [fact.latency_us for fact in facts] == list(measured.values())
    assert {fact.latency_from for fact in facts} == {"measured where the bundle was built"}
    # One tier without a time: none is used, so that no two kinds are compared.
    measured.popitem()
    scaled = tier_facts(bare, assumed, measured)
    assert {fact.latency_from for fact in scaled} == {"from MACs"}
    ratio = scaled[-1].mean_macs / scaled[0].mean_macs
    assert scaled[-1].latency_us / scaled[0].latency_us == pytest.approx(ratio)


def test_stated_powers_and_rates_take_the_place_of_the_default(manifest: Manifest, tmp_path: Path) -> None:
    def facts(**changes: Any) -> list[float]:
        path = tmp_path / "power.yaml"
        path.write_text(json.dumps({name: {"value": value, "source": "test"} for name, value in changes.items()}))
        return [one.power_w for one in tier_facts(manifest, load_assumptions(path))]

    count = len(manifest.tiers)
    assert facts(tier_w=[4.0, 3.0, 2.0, 1.0]) == [4.0, 3.0, 2.0, 1.0][:count]
    first = tier_facts(manifest, load_assumptions())[0].latency_us
    assert facts(rate_per_s=0.5e6 / first)[0] == pytest.approx(1.7)
    assert facts(rate_per_s=100_000.0)[0] <= 3.4
    with pytest.raises(EbbtideError, match="stated for 1 tiers"):
        facts(tier_w=[4.0])


def test_packaged_page_says_when_nothing_was_measured(bundle: Path, tmp_path: Path) -> None:
    record = bundle.parent.parent / "measurements.json"
    said: list[str] = []

    class Listening:
        def say(self, text: str) -> None:
            said.append(text)

        def task(self, label: str, total: int | None = None) -> Any:
            from ebbtide.steps import silent

            return silent.task(label, total)

    record.write_text("{")
    try:
        api.simulate(bundle, hours=0.1, runs=1, output=tmp_path, progress=Listening())  # type: ignore[arg-type]
    finally:
        record.unlink()
    assert any("no record of measurements" in text for text in said)
