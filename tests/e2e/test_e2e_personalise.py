"""`ebb personalise` on a bundle of a built universal model: only what is new is computed, and the bundle runs."""

from __future__ import annotations

from pathlib import Path

from conftest_e2e import BuiltOnce, Ebb

CLASSES = ("3", "5", "8")


def test_bundle_for_three_classes_is_made_from_a_built_universal_model(
    ebb: Ebb, built: BuiltOnce, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    quick = ["--quick", "--macs", "0.5", "--set", "sparsity.tuning.epochs=3", "--set", "exits=null"]
    where = ["--output", output, "--cache", built.cache]
    said = ebb.json("personalise", built.bundle, "--classes", ",".join(CLASSES), *quick, *where)
    record = said["record"]
    steps = {step["step"]: step["reused"] for step in record["timings"]}
    assert steps["model"]
    assert not steps["personalised"]
    assert "tuned" not in steps
    found = record["sparsity"]
    (trial,) = found["trials"]
    assert trial["kept"] <= 0.5
    assert trial["macs"] <= 0.5 * found["universal"]["macs"]
    assert trial["latency"]["p50_us"] > 0
    assert found["universal"]["latency"]["p50_us"] > 0
    assert record["model"]["classes"] == list(CLASSES)
    # Without exits the one program is its own reference, and nothing learns from features of train.
    assert [gate["program"] for gate in record["gates"]] == ["w100-f32-cpu"]
    assert sum(step["step"] == "features" for step in record["timings"]) == 1
    bundle = output / "bundles" / "host"
    assert record["dense"]["size_bytes"] == (bundle / "programs" / "w100-f32-cpu.pte").stat().st_size
    key = ["--key", output / "public.pem"]
    assert ebb.json("verify", bundle, *key)["verified"]
    answers = ebb.json("run", bundle, output / "samples.npz", *key)["predictions"]
    assert {answer["label"] for answer in answers} <= {0, 1, 2}
    assert "The model for the class set" in (output / "report.md").read_text()
