"""A user's whole road with the real runtime: build, verify, install, run, bench, diff."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
from conftest_e2e import RECIPE, BuiltOnce, Ebb, build_arguments, tree


def test_build_makes_a_bundle_for_each_device_with_one_shared_program(built: BuiltOnce) -> None:
    assert sorted(built.said["bundles"]) == ["any-android", "host"]
    host, android = (built.output / "bundles" / name for name in ("host", "any-android"))
    programs = [path.read_bytes() for path in (host / "programs").iterdir()]
    assert programs == [path.read_bytes() for path in (android / "programs").iterdir()]
    manifests = [json.loads((folder / "manifest.json").read_bytes()) for folder in (host, android)]
    assert manifests[0]["configurations"][0]["expected"]["latency_us"]["measured_on"] == "host"
    assert all(c["expected"]["latency_us"] is None for c in manifests[1]["configurations"])


def test_build_promises_what_it_measures_and_exits_save_macs(built: BuiltOnce) -> None:
    record = built.said["record"]
    tiers = sorted((c for c in record["configurations"] if c["tier"] is not None), key=lambda c: c["tier"])
    assert 1 <= len(tiers) <= 4
    costs = [c["mean_macs"] for c in tiers]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
    assert tiers[-1]["mean_macs"] < 0.8 * record["dense"]["macs"]
    assert tiers[0]["select"]["accuracy"] >= record["model"]["select"]["accuracy"] - 1e-9
    assert tiers[0]["test"]["accuracy"] > 0.9
    assert all(abs(c["select"]["accuracy"] - c["test"]["accuracy"]) < 0.08 for c in tiers)
    assert record["dense"]["select"]["accuracy"] == record["model"]["select"]["accuracy"]


def test_build_passes_the_gate_on_at_least_512_samples(built: BuiltOnce) -> None:
    for gate in built.said["record"]["gates"]:
        assert gate["samples"] >= 512
        assert gate["labels_differ"] == gate["exits_differ"] == 0
        assert gate["largest_score_difference"] <= 1e-3


def test_build_keeps_no_boundary_without_an_exit_in_use(built: BuiltOnce) -> None:
    manifest = json.loads((built.bundle / "manifest.json").read_bytes())
    (program,) = manifest["programs"]
    kinds = [method["kind"] for method in program["methods"]]
    used = {s["method"] for c in manifest["configurations"] for s in c["path"] if s.get("threshold") is not None}
    assert kinds.count("stage") == kinds.count("exit") == len(used)
    assert kinds.count("head") == 1


def test_rebuild_does_nothing_and_gives_equal_bytes(ebb: Ebb, built: BuiltOnce) -> None:
    before = tree(built.output / "bundles")
    start = time.monotonic()
    said = ebb.json(*build_arguments(built.output, cache=built.cache))
    seconds = time.monotonic() - start
    assert all(step["reused"] for step in said["record"]["timings"])
    assert tree(built.output / "bundles") == before
    # The goal is 5 s and measured by a benchmark; a shared machine gets twice that here.
    assert seconds < 10


def test_changed_threshold_setting_redoes_no_training_and_no_lowering(
    ebb: Ebb, built: BuiltOnce, tmp_path: Path
) -> None:
    settings = ["--set", "tiers.max_drop_points=3", "--set", "policy.up_hold_ms=30000"]
    said = ebb.json(*build_arguments(tmp_path / "out", *settings, cache=built.cache))
    manifest = json.loads((tmp_path / "out" / "bundles" / "host" / "manifest.json").read_bytes())
    assert (manifest["policy"]["up_hold_ms"], manifest["policy"]["stale_ms"]) == (30_000, 15_000)
    done = {step["step"] for step in said["record"]["timings"] if not step["reused"]}
    assert not done & {"data", "model", "features", "exits", "records", "stages"}
    assert "table" in done


def test_verify_install_run_bench_and_diff_work_on_the_bundle(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    key = ["--key", built.key]
    assert ebb.json("verify", built.bundle, *key)["verified"] is True
    installed = ebb.json("install", built.bundle, "--store", tmp_path / "store", *key)
    ran = ebb.json("run", built.bundle, built.output / "samples.npz", *key)["predictions"]
    labels = np.load(built.output / "samples.npz")["labels"]
    assert len(ran) == len(labels) == 32
    right = np.mean([one["label"] == label for one, label in zip(ran, labels, strict=True)])
    assert right > 0.8
    assert all(one["configuration"] == built.said["record"]["configurations"][0]["id"] for one in ran)
    timed = ebb.json("bench", built.bundle, "--repeats", 2, *key)
    assert all(one["total"]["p50_us"] > 0 for one in timed["configurations"])
    compared = ebb.json("diff", installed["folder"], built.bundle)
    assert compared["new_bytes"] == 0


def test_verify_refuses_when_nobody_trusts_the_key(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    ebb("keys", "new", tmp_path / "other.pem")
    public = tmp_path / "other.pub"
    public.write_text(ebb("keys", "public", tmp_path / "other.pem"))
    assert "bundle.key_untrusted" in ebb("verify", built.bundle, "--key", public, status=2)


def test_run_predicts_an_image_folder_when_pictures_have_another_size(
    ebb: Ebb, built: BuiltOnce, tmp_path: Path
) -> None:
    from PIL import Image

    samples = np.load(built.output / "samples.npz")
    for index in range(16):
        picture = Image.fromarray(samples["images"][index, :, :, 0]).resize((40, 40), Image.Resampling.BICUBIC)
        picture.convert("RGB").save(tmp_path / f"{index:02}.png")
    ran = ebb.json("run", built.bundle, tmp_path, "--key", built.key)["predictions"]
    assert [one["input"] for one in ran] == [f"{index:02}.png" for index in range(16)]
    # Blurred by the way there and back, several are hard for a model of three epochs; a wrong size gets one in ten.
    assert sum(one["label"] == samples["labels"][i] for i, one in enumerate(ran)) >= 8


def test_xz_payload_is_one_smaller_file_and_still_proves_itself(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    said = ebb.json(*build_arguments(tmp_path / "out", "--set", "payload=xz", cache=built.cache))
    bundle = Path(said["bundles"]["host"])
    assert sorted(p.name for p in bundle.iterdir()) == ["manifest.json", "manifest.sig", "payload.xz"]
    assert ebb.json("verify", bundle, "--key", tmp_path / "out/public.pem")["verified"] is True


def test_measurement_record_of_another_build_is_refused(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    record = json.loads((built.output / "measurements.json").read_bytes())
    record["of"]["programs"][0] = "0" * 64
    other = tmp_path / "measurements.json"
    other.write_text(json.dumps(record))
    arguments = build_arguments(tmp_path / "out", "--measurements", other, cache=built.cache)
    assert "profiling.record" in ebb(*arguments, status=2)
    assert not (tmp_path / "out" / "bundles").exists()


def test_damaged_cache_entry_is_recomputed_and_said(ebb: Ebb, built: BuiltOnce, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(built.cache, cache)
    (exit_file, *_) = sorted((cache / "exits").glob("*/*.safetensors"))
    exit_file.write_bytes(b"damaged")
    record = built.output / "measurements.json"
    process = ebb.start(*build_arguments(tmp_path / "out", "--measurements", record, cache=cache))
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "stored step exits is damaged" in " ".join(err.split())
    assert tree(tmp_path / "out" / "bundles") == tree(built.output / "bundles")


def test_recipe_of_the_demo_is_the_committed_one() -> None:
    assert RECIPE.exists()
