"""Simulating how policies decide for a bundle on a phone, without a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import EbbtideError
from ebbtide.steps import Progress, silent

if TYPE_CHECKING:
    from ebbtide.bundle import Manifest
    from ebbtide.simulation import Comparison


@dataclass(frozen=True)
class Simulated:
    """What `simulate` found, and where its page lies."""

    record: Comparison
    page: Path
    data: Path

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values; the course over time is in the data beside the page."""
        found = self.record.model_dump(mode="json", exclude={"course"})
        return {**found, "page": str(self.page), "data": str(self.data)}


def parse_ambient(text: str) -> tuple[float, float]:
    """The air of ``--ambient``: ``20..32`` or one temperature.

    Raises:
        EbbtideError: ``simulation.ambient``.
    """
    number = r"[-+]?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"\s*({number})\s*(?:\.\.\s*({number})\s*)?", text)
    if found is None:
        raise EbbtideError(
            "simulation.ambient",
            f"The air {text!a} is no temperature.",
            expected="degrees Celsius: one number, or two as in 20..32",
            hint="Write it as 20..32.",
            place="--ambient",
        )
    low = float(found[1])
    return low, float(found[2]) if found[2] is not None else low


def simulate(
    bundle: Path,
    *,
    phone: str = "pixel-8",
    ambient: str = "20..32",
    hours: float = 2.0,
    policies: Sequence[str] = (),
    runs: int = 12,
    seed: int = 0,
    power: Path | None = None,
    output: Path | None = None,
    progress: Progress = silent,
) -> Simulated:
    """Compare policies for a bundle on a simulated phone; writes a page and its data.

    Nothing in the bundle is run, so no key has to be trusted; its hashes are checked.

    Args:
        bundle: its folder.
        phone: one of `ebbtide.simulation.phone_names`.
        ambient: degrees Celsius, ``20..32``; the runs are spread evenly over it.
        hours: above 0, at most 48.
        policies: names to compare; none for all.
        runs: with seeds from `seed` on.
        seed: of the first run, >= 0.
        power: a file of assumptions; None for the shipped ones.
        output: where page and data go; None for ``build/simulations/BUNDLE-PHONE``.
        progress: told of the simulated time.

    Raises:
        EbbtideError: ``simulation.*``, ``bundle.*``, ``steps.*``; nothing is written then.
    """
    from ebbtide.bundle.reader import open_installed
    from ebbtide.report.simulation import write_simulation
    from ebbtide.simulation import SHIPPED, load_assumptions, load_phone, policy_kinds, tier_facts
    from ebbtide.simulation.comparison import compare
    from ebbtide.simulation.scenario import draw_scenario, run_seeds

    air = parse_ambient(ambient)
    body, assumed = load_phone(phone), load_assumptions(power or SHIPPED)
    scenario = draw_scenario(seeds=run_seeds(seed, runs), air_c=air, hours=hours, load=assumed.load)
    manifest = open_installed(bundle).manifest
    tiers = tier_facts(manifest, assumed, _measured(bundle, manifest, progress))
    kinds = policy_kinds(len(tiers), manifest.policy, policies)
    if tiers[0].latency_from == "from MACs":
        progress.say("No latency was measured for this bundle: it is scaled from multiply-accumulates")
    record = compare(
        manifest, phone=body, assumptions=assumed, tiers=tiers, kinds=kinds, scenario=scenario, progress=progress
    )
    name = f"{manifest.name}-{manifest.device.profile}-{body.id}"
    files = write_simulation(record, output or Path("build") / "simulations" / name)
    return Simulated(record, files.html, files.json)


def _measured(bundle: Path, manifest: Manifest, progress: Progress) -> Mapping[str, float]:
    """Median times by configuration from the record of measurements beside the bundles, if it is of this build."""
    from ebbtide.runtime import BenchReport

    path = bundle.parent.parent / "measurements.json"
    if not path.is_file():
        return {}
    try:
        bench = BenchReport.model_validate_json(json.dumps(json.loads(path.read_bytes())["bench"]))
    except (OSError, ValueError, KeyError, TypeError):
        progress.say(f"{path} is no record of measurements of this version; it is left out")
        return {}
    if (bench.bundle, bench.sequence) != (manifest.name, manifest.sequence):
        return {}
    return {one.configuration: one.total.p50_us for one in bench.configurations}
