"""Which parameters the tier policy should have, and how far from the best it is: on simulated phones only.

    python pipeline/benchmarks/policy_study.py            all stages that are missing; continues after a kill
    python pipeline/benchmarks/policy_study.py --draw     only the pictures of docs from what is stored

Protocol. Phone: Pixel 8 body, Android with the forecast from the oldest sample. Work: tiers of 3.4, 2.5, 1.8 and 1.1 W
with accuracies .780, .765, .742 and .705, everything else as in ``ebbtide/simulation/assumptions.yaml``. Runs: two
hours, air from 20 to 32 degrees. Rules are searched on the development runs (seeds 0 to 11) and judged on twelve others
that nothing was chosen on (500 to 511), and on 48 for the spread (500 to 547). The goal on the judging runs: at most 5
changes an hour, throttled no more than Unity's indexer and quality no less than the Unreal plug-in's, in the same runs.

Stages lie in ``results/policy_study_runs`` and are keyed by the sources of the simulator; figures in
``results/policy_study.json``. Everything is simulated, not measured on a phone.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from figures import RESULTS, FigureFile
from policy_bound import Prices, bound, optimum
from policy_grid import Found, Rule, as_list, from_list, try_rules
from policy_picture import draw_frontier

from ebbtide.bundle import DEFAULT_POLICY, PolicyEntry
from ebbtide.simulation import LABEL, Load, PolicyRow, Scenario, Work, draw_scenario, load_phone, policy_kinds, simulate
from ebbtide.simulation.comparison import policy_rows
from ebbtide.simulation.phones import PHONES, SYSTEMS
from ebbtide.simulation.product import FORECAST_S, product
from ebbtide.steps import code_digest, digest_json, file_digest, write_json

ROOT = Path(__file__).resolve().parents[2]
RUNS = RESULTS / "policy_study_runs"
COMMAND = "python pipeline/benchmarks/policy_study.py"
PHONE = "pixel-8"
WORK = Work((3.4, 2.5, 1.8, 1.1), (0.780, 0.765, 0.742, 0.705), idle_w=0.0, rest_w=1.1, start_charge=1.0)
HOURS, AIR_C = 2.0, (20.0, 32.0)
DEVELOPMENT, JUDGING, WIDE = range(12), range(500, 512), range(500, 548)
MOST_CHANGES = 5.0
SOURCES = tuple(
    f"ebbtide.{module}"
    for module in (
        *(
            f"simulation.{one}"
            for one in ("battery", "headroom", "heat", "product", "rivals", "run", "scenario", "throttling")
        ),
        "runtime.policy",
        "runtime.signals.headroom",
    )
)
"""What decides the figures; other sources of the simulator only show them."""
FAMILIES = {
    "parameters": "the rule with other parameters",
    "forecast_30": "the same, with the forecast of 30 s",
    "own_hysteresis": "each level with a hysteresis of its own",
    "guard": "down also when predictions are seen to be slow",
    "one_down": "down by one tier at a time below SEVERE",
}
GENERATIONS, RULES = 8, 240
PRICES = tuple(Prices(throttled, change) for throttled in (0.1, 0.3, 0.6, 1.0, 2.0) for change in (0.0, 0.0003, 0.001))
COLUMNS = (
    ("quality", "", 1.0),
    ("throttled", "%", 100.0),
    ("changes_per_h", "", 1.0),
    ("most_changes_per_h", "", 1.0),
    ("light", "%", 100.0),
    ("moderate", "%", 100.0),
)
ORDER = ("largest", "smallest", "games", "unreal", "unity", "ours", "same_waits", "parameters")
TITLES = {"parameters": "ours_best_parameters_found", "same_waits": "ours_with_the_same_waits"}


def scenario(seeds: Sequence[int]) -> Scenario:
    return draw_scenario(seeds=seeds, air_c=AIR_C, hours=HOURS, load=Load())


def stage(name: str, key: Any, make: Callable[[], Any]) -> Any:
    """What a stage found, made once for its inputs and the simulator's sources."""
    sources = {"code": code_digest(SOURCES), "data": [file_digest(one) for one in (SYSTEMS, PHONES / f"{PHONE}.yaml")]}
    path, wanted = RUNS / f"{name}.json", digest_json({"key": key, **sources})
    if path.exists():
        stored = json.loads(path.read_bytes())
        if stored["key"] == wanted:
            return stored["found"]
    start = time.monotonic()
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": wanted, "inputs": key, "found": found})
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return found


def rows_of(rows: Sequence[PolicyRow]) -> dict[str, dict[str, float]]:
    return {
        row.name: {
            "quality": row.quality.mean,
            "throttled": row.throttled.mean,
            "changes_per_h": row.changes_per_h.mean,
            "most_changes_per_h": row.changes_per_h.greatest,
            "moderate": row.moderate.mean,
            "light": row.light.mean,
            "least_quality": row.quality.least,
            "most_throttled": row.throttled.greatest,
        }
        for row in rows
    }


def compared(seeds: Sequence[int], rules: dict[str, Rule]) -> dict[str, dict[str, float]]:
    """The six policies, and the product's with other parameters under these names."""
    more = [replace(product(entry_of(rule), 4, name=name), forecast_s=rule.forecast_s) for name, rule in rules.items()]
    kinds = [*policy_kinds(4, DEFAULT_POLICY), *more]
    return rows_of(policy_rows(simulate(load_phone(PHONE), scenario(seeds), WORK, kinds)))


ELSEWHERE = {
    "newest": "Android with the forecast from the newest sample",
    "stated": "Android 15 and later: the phone states its thresholds",
    "stated_moderate": "the same, and the rule lowers its entries to MODERATE only",
    "npu": "inference on a neural processor",
    "stuck": "a status that stays at NONE",
    "nan": "no headroom",
    "qcom40": "a reference HAL with SEVERE at 40 degrees and nothing below",
    "qcom55": "the same at 55 degrees",
    "apple": "iOS, thermal states only",
}


def elsewhere(rules: dict[str, Rule]) -> dict[str, dict[str, dict[str, float]]]:
    """The six policies and other parameters on phones other than that of the study, judging runs."""
    found = {}
    for place in ELSEWHERE:
        phone = load_phone(PHONE)
        if place in ("stuck", "nan", "qcom40", "qcom55", "apple"):
            phone = phone.model_copy(update={"system": phone.system.model_copy(update={"value": place})})
        stated = {"stated": (800, 933), "stated_moderate": (None, 933)}.get(place, (None, None))
        kinds = [*policy_kinds(4, DEFAULT_POLICY, light_mh=stated[0], moderate_mh=stated[1])]
        for name, rule in rules.items():
            kind = product(entry_of(rule), 4, name=name, light_mh=stated[0], moderate_mh=stated[1])
            kinds.append(replace(kind, forecast_s=rule.forecast_s))
        work = replace(WORK, npu=place == "npu")
        base: Literal["oldest", "newest"] = "newest" if place == "newest" else "oldest"
        found[place] = rows_of(policy_rows(simulate(phone, scenario(JUDGING), work, kinds, base=base)))
    return found


def entry_of(rule: Rule) -> PolicyEntry:
    """The parameters of the product's policy that make it this rule."""
    changes = {
        "enter_mh": rule.enter_mh,
        "hysteresis_mh": rule.leave_mh[0],
        "up_hold_ms": rule.up_hold_ms,
        "status_floor": rule.status_floor,
    }
    return DEFAULT_POLICY.model_copy(update=changes)


def drawn(draw: random.Random, family: str) -> Rule:
    enter = tuple(sorted(draw.choice(range(760, 1010, 10)) for _ in range(3)))
    leave = draw.choice((50, 65, 80, 95, 110, 130, 150))
    leaves = (
        tuple(draw.choice((30, 50, 65, 80, 110, 150)) for _ in range(3)) if family == "own_hysteresis" else (leave,) * 3
    )
    hold = draw.choice((0, 30_000, 60_000, 120_000))
    guard = draw.choice((1, 2, 3)) if family == "guard" else 0
    forecast = 30 if family == "forecast_30" else draw.choice((0, 30, 60))
    return Rule(enter, leaves, hold, draw.choice((1, 2, 3)), forecast, guard, family == "one_down")  # type: ignore[arg-type]


def mutated(draw: random.Random, rule: Rule, family: str) -> Rule:
    enter = tuple(sorted(min(max(one + draw.choice((-20, -10, 0, 0, 10, 20)), 700), 1100) for one in rule.enter_mh))
    changed = replace(rule, enter_mh=enter)  # type: ignore[arg-type]
    other = drawn(draw, family)
    turn = draw.randrange(6)
    if turn == 0:
        return replace(changed, leave_mh=other.leave_mh)
    if turn == 1:
        return replace(changed, up_hold_ms=other.up_hold_ms)
    if turn == 2:
        return replace(changed, moderate_floor=other.moderate_floor)
    if turn == 3:
        return replace(changed, forecast_s=other.forecast_s)
    return replace(changed, guard=other.guard) if turn == 4 else changed


def searched(family: str, unity_throttled: float) -> list[list[Any]]:
    """The front of a family on the development runs: rules with at most 5 changes an hour that no other beats."""
    draw = random.Random(f"search {family}")
    runs, phone = scenario(DEVELOPMENT), load_phone(PHONE)
    tried: dict[Rule, Found] = {}
    shipped = Rule(DEFAULT_POLICY.enter_mh, (DEFAULT_POLICY.hysteresis_mh,) * 3, DEFAULT_POLICY.up_hold_ms, 2, 30)  # type: ignore[arg-type]
    pool = [shipped, *(drawn(draw, family) for _ in range(RULES))]
    for generation in range(GENERATIONS):
        tried |= try_rules(phone, runs, WORK, [rule for rule in dict.fromkeys(pool) if rule not in tried])
        near = sorted(tried, key=lambda rule: -_merit(tried[rule], unity_throttled))[:12]
        parents = [*near, *(rule for rule, _ in front(tried)[:: max(1, len(front(tried)) // 12)])]
        pool = [mutated(draw, draw.choice(parents), family) for _ in range(RULES - 40)]
        pool += [drawn(draw, family) for _ in range(40)]
        best = near[0]
        print(f"  {family} {generation}: {best} {tried[best]}", flush=True)
    return [[as_list(rule), asdict(found)] for rule, found in front(tried)] + [
        [as_list(rule), asdict(tried[rule])] for rule in near[:5]
    ]


def _merit(found: Found, throttled: float) -> float:
    """Quality, less what a rule is beyond Unity's throttling and the changes allowed."""
    return found.quality - 0.4 * max(0.0, found.throttled - throttled) - 0.002 * max(0.0, found.changes_per_h - 4.8)


def front(tried: dict[Rule, Found]) -> list[tuple[Rule, Found]]:
    """Of the rules within the changes allowed those that none beats in both, by growing throttling."""
    kept: list[tuple[Rule, Found]] = []
    allowed = [(rule, found) for rule, found in tried.items() if found.changes_per_h <= MOST_CHANGES]
    for rule, found in sorted(allowed, key=lambda one: (one[1].throttled, -one[1].quality)):
        if not kept or found.quality > kept[-1][1].quality:
            kept.append((rule, found))
    return kept


def judged(rules: Sequence[list[Any]], seeds: Sequence[int]) -> list[dict[str, float]]:
    """The same rules on other runs."""
    parsed = [from_list(rule) for rule in rules]
    found = try_rules(load_phone(PHONE), scenario(seeds), WORK, parsed)
    return [asdict(found[rule]) for rule in parsed]


def optima(seeds: Sequence[int]) -> list[list[float]]:
    runs, phone = scenario(seeds), load_phone(PHONE)
    return [optimum(phone, runs, WORK, run, PRICES) for run in range(len(seeds))]


def study() -> None:
    """All stages, then the figures."""
    development = stage("development", {"seeds": list(DEVELOPMENT)}, lambda: compared(DEVELOPMENT, {}))
    unity = development["unity"]["throttled"]
    for name, seeds in (("development", DEVELOPMENT), ("judging", JUDGING)):
        key = {"seeds": list(seeds), "prices": [asdict(one) for one in PRICES]}
        stage(f"bound_{name}", key, partial(optima, seeds))
    for family in FAMILIES:
        key = {"family": family, "generations": GENERATIONS, "rules": RULES, "unity": unity}
        found = stage(f"search_{family}", key, partial(searched, family, unity))
        rules = [rule for rule, _ in found]
        for name, seeds in (("judging", JUDGING), ("wide", WIDE)):
            key = {"rules": rules, "seeds": list(seeds)}
            stage(f"{name}_{family}", key, partial(judged, rules, seeds))
    entries = {"parameters": best_of("parameters"), "same_waits": best_of("parameters", "forecast_30", same_waits=True)}
    key = {name: as_list(rule) for name, rule in entries.items()}
    for name, seeds in (("judging", JUDGING), ("wide", WIDE)):
        stage(name, {**key, "seeds": list(seeds)}, partial(compared, seeds, entries))
    stage("elsewhere", {**key, "seeds": list(JUDGING), "places": list(ELSEWHERE)}, lambda: elsewhere(entries))
    record_figures()


def stored(name: str) -> Any:
    """What a stage found."""
    return json.loads((RUNS / f"{name}.json").read_bytes())["found"]


def best_of(*families: str, same_waits: bool = False) -> Rule:
    """The rule that the development runs put first.

    Args:
        families: of which it may be.
        same_waits: only rules that ask for the forecast and wait for the time that the product does.
    """
    unity = stored("development")["unity"]["throttled"]
    found = [(from_list(rule), Found(**one)) for name in families for rule, one in stored(f"search_{name}")]
    if same_waits:
        waits = (DEFAULT_POLICY.up_hold_ms, FORECAST_S)
        found = [one for one in found if (one[0].up_hold_ms, one[0].forecast_s) == waits]
    return max(found, key=lambda one: _merit(one[1], unity))[0]


def record_figures() -> None:
    """The tables of the docs: policies on the judging runs and on 48, other phones, and the frontier."""
    for name, seeds in (("judging", JUDGING), ("wide", WIDE)):
        file = emptied("policy_study" if name == "judging" else "policy_study_wide")
        rows = stored(name)
        for policy in ORDER:
            for column, unit, factor in COLUMNS:
                note(file, f"{TITLES.get(policy, policy)}__{column}", factor * rows[policy][column], unit, seeds)
    file = emptied("policy_places")
    for place, rows in stored("elsewhere").items():
        for policy in ("ours", "same_waits"):
            for column, unit, factor in COLUMNS[:3]:
                title = "shipped" if policy == "ours" else "same_waits"
                note(file, f"{place}__{title}_{column}", factor * rows[policy][column], unit, JUDGING)
    _record_frontier(emptied("policy_frontier"))


def _record_frontier(file: FigureFile) -> None:
    wide = stored("wide")
    unity, unreal = wide["unity"], wide["unreal"]
    rules = stored("wide_parameters") + stored("wide_forecast_30")
    anchor = f"Unreal plug-in {unreal['quality']:.4f}, Unity {unity['quality']:.4f}"
    beside = [one["quality"] for one in rules if one["throttled"] <= unity["throttled"]]
    about = "the best quality of the rule's front where it is throttled no more than Unity"
    note(file, "quality_at_unity", max(beside, default=0.0), "", WIDE, f"{about}, 48 runs", anchor)
    over = [one["throttled"] - unity["throttled"] for one in rules if one["quality"] >= unreal["quality"]]
    about = "time throttled over Unity's where the rule's quality is no less than the Unreal plug-in's"
    note(file, "throttled_over_unity_points", 100 * min(over, default=1.0), "points", WIDE, f"{about}, 48 runs", anchor)
    judging = stored("judging")
    optima_of = [sum(column) / len(column) for column in zip(*stored("bound_judging"), strict=True)]
    most = bound(optima_of, PRICES, throttled=judging["unity"]["throttled"], changes_per_h=MOST_CHANGES)
    about = "estimate of the best quality with Unity's throttling and 5 changes an hour, the run known in advance"
    note(file, "quality_known_in_advance", most, "", JUDGING, f"{about}, 12 runs")


def emptied(name: str) -> FigureFile:
    """A file of figures without the figures of an earlier study."""
    file = FigureFile(name)
    file.path.unlink(missing_ok=True)
    return file


def note(
    file: FigureFile,
    name: str,
    value: float,
    unit: str,
    seeds: Sequence[int],
    about: str = "",
    anchor: str | None = None,
) -> None:
    """Record one figure, labelled."""
    file.record(
        name,
        value=round(value, 4 if unit == "" and value < 2 else 2),
        unit=unit,
        seeds=seeds,
        command=COMMAND,
        about=f"{about}; {LABEL}" if about else LABEL,
        anchor=anchor,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="only draw from what is stored")
    arguments = parser.parse_args()
    if not arguments.draw:
        study()
    draw_frontier(ROOT / "docs" / "deciding.svg", stored, PRICES, MOST_CHANGES)


if __name__ == "__main__":
    main()
