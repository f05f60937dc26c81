"""How others decide, restated in tests from what is published of them; and the product's own policy on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from simulation_cases import WORK, drawn, steady

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.errors import EbbtideError
from ebbtide.runtime.policy import Policy
from ebbtide.runtime.policy_signals import Signals
from ebbtide.simulation import PolicyKind, SimulatedSource, View, load_phone, policy_kinds, policy_rows, simulate
from ebbtide.simulation.product import Product, product
from ebbtide.simulation.rivals import GamesSample, UnityIndexer, UnrealPlugin


def view(t_s: int = 0, *, headroom: float | None = None, status: int | None = 0, speed: float = 1.0) -> View:
    return View(1000 * t_s, headroom, status, None, 1.0, speed)


def test_games_sample_halves_from_moderate_on() -> None:
    policy = GamesSample(4)
    assert [policy.look(view(status=status)) for status in (0, 1, 2, 3, 1)] == [0, 0, 3, 3, 0]
    assert policy.look(View(0, None, None, 2, 1.0, 1.0)) == 3
    assert GamesSample(1).look(view(status=6)) == 0


def test_unreal_plugin_has_no_hysteresis_and_sends_nan_to_the_lowest() -> None:
    policy = UnrealPlugin(4)
    heads = (0.0, 0.7499, 0.75, 0.8499, 0.85, 0.9499, 0.95, 1.2, 0.7499, math.nan)
    assert [policy.look(view(headroom=head)) for head in heads] == [0, 0, 1, 1, 2, 2, 3, 3, 0, 3]
    assert UnrealPlugin(2).look(view(headroom=0.9)) == 1


def tiers_of(policy: UnityIndexer, heads: Iterable[float], *, status: int = 0, speed: float = 1.0) -> list[int]:
    return [policy.look(view(second, headroom=head, status=status, speed=speed)) for second, head in enumerate(heads)]


def test_unity_waits_for_its_delay_and_steps_by_the_trend() -> None:
    # 0.02 in a second from 0.5 on: the slope of the third power is far above 0.5 of 0.1 in 20 s: fast, every 5 s.
    tiers = tiers_of(UnityIndexer(4), [0.5 + 0.02 * second for second in range(22)])
    assert tiers[:9] == [0] * 9
    assert (tiers[9], tiers[13], tiers[14], tiers[19]) == (1, 1, 2, 3)


def test_unity_raises_quality_again_when_nothing_happens() -> None:
    policy = UnityIndexer(4)
    tiers_of(policy, [0.5 + 0.02 * second for second in range(22)])
    assert tiers_of(policy, [0.5] * 60)[-1] == 0


def test_unity_keeps_the_level_at_which_it_was_first_warned() -> None:
    policy = UnityIndexer(4)
    tiers_of(policy, [0.8] * 3, status=1)
    # Never warned at this level: a steady 0.81 raises quality. Warned at 0.8: halfway to throttling it lowers it.
    assert tiers_of(policy, [0.95] * 60)[-1] == 3
    assert tiers_of(UnityIndexer(4), [0.95] * 60)[-1] == 0


def test_unity_throttling_asks_for_less_every_five_seconds() -> None:
    tiers = tiers_of(UnityIndexer(4), [1.0] * 21, status=3)
    assert (tiers[8], tiers[9], tiers[14], tiers[19]) == (0, 1, 2, 3)


def test_unity_lowers_for_late_frames() -> None:
    assert tiers_of(UnityIndexer(4), [0.3] * 40, speed=0.85)[-1] == 3
    assert tiers_of(UnityIndexer(4), [0.3] * 40, speed=0.9)[-1] == 0


def test_products_policy_is_the_runtimes_own() -> None:
    ours, own = Product(DEFAULT_POLICY, 4, 800, 933), Policy(DEFAULT_POLICY, 4)
    draw = np.random.default_rng(4)
    t_ms = 0
    for _ in range(2000):
        t_ms += 5000
        head, status, charge = draw.uniform(0.6, 1.1), int(draw.integers(0, 3)), draw.uniform(0, 1)
        decided = own.step(
            Signals(
                t_ms,
                headroom_mh=math.floor(head * 1000 + 0.5),
                light_mh=800,
                moderate_mh=933,
                android_status=status,
                battery_percent=math.floor(charge * 10_000) // 100,
            )
        )
        assert ours.look(View(t_ms, head, status, None, charge, 1.0)) == decided.tier


def test_single_nan_changes_nothing_and_three_ticks_are_stale() -> None:
    ours = Product(DEFAULT_POLICY, 4, None, None)
    heads = [0.86, math.nan, math.nan, math.nan, math.nan, *[math.nan] * 30]
    tiers = [ours.look(view(5 * index, headroom=head)) for index, head in enumerate(heads)]
    assert tiers[:5] == [2, 2, 2, 2, 2]
    assert tiers[-1] == 0


def test_all_policies_see_the_same_phone_and_compare_as_they_should() -> None:
    outcome = simulate(load_phone("pixel-8"), drawn(6, hours=1), WORK, policy_kinds(4, DEFAULT_POLICY))
    rows = {row.name: row for row in policy_rows(outcome)}
    assert list(rows) == ["largest", "smallest", "games", "unreal", "unity", "ours"]
    assert rows["largest"].quality.mean == pytest.approx(0.78)
    assert rows["smallest"].quality.mean == pytest.approx(0.705)
    for name in ("games", "unreal", "unity", "ours"):
        assert 0.705 < rows[name].quality.mean < 0.78
        assert rows["smallest"].throttled.mean <= rows[name].throttled.mean <= rows["largest"].throttled.mean
        assert rows["smallest"].energy_wh.mean < rows[name].energy_wh.mean < rows["largest"].energy_wh.mean
        assert sum(rows[name].tier_shares) == pytest.approx(1, abs=1e-5)
    assert rows["largest"].changes_per_h.greatest == rows["smallest"].changes_per_h.greatest == 0
    assert rows["ours"].changes_per_h.mean < 10 < rows["unreal"].changes_per_h.mean < rows["unity"].changes_per_h.mean


def test_a_run_is_the_same_to_the_last_bit_whatever_runs_beside_it() -> None:
    kinds = policy_kinds(4, DEFAULT_POLICY)
    phone, air = load_phone("pixel-8"), (26.0, 26.0)
    many = simulate(phone, drawn(3, hours=0.5, air_c=air), WORK, kinds)
    again = simulate(phone, drawn(3, hours=0.5, air_c=air), WORK, kinds)
    assert many.traces.skin_c.tobytes() == again.traces.skin_c.tobytes()
    assert many.energy_j.tobytes() == again.energy_j.tobytes()
    alone = simulate(phone, drawn(1, hours=0.5, first=1, air_c=air), WORK, kinds[-1:])
    lane = 5 * 3 + 1
    assert alone.traces.skin_c[:, 0].tobytes() == many.traces.skin_c[:, lane].tobytes()
    assert alone.traces.tier[:, 0].tobytes() == many.traces.tier[:, lane].tobytes()
    other = simulate(phone, drawn(1, hours=0.5, first=2, air_c=air), WORK, kinds[-1:])
    assert other.traces.skin_c.tobytes() != alone.traces.skin_c.tobytes()


def test_shares_of_time_count_seconds() -> None:
    # Air of 38 degrees: LIGHT from the first look on; the smallest tier never leaves it.
    outcome = simulate(
        load_phone("pixel-8"), steady(600, air_c=38.0), WORK, policy_kinds(4, DEFAULT_POLICY, ["smallest"])
    )
    assert outcome.light_s[0, 0] == 600
    assert 0 < outcome.moderate_s[0, 0] < 600
    assert outcome.tier_s[0, 0].tolist() == [0, 0, 0, 600]
    cold = simulate(load_phone("pixel-8"), steady(600, air_c=0.0), WORK, policy_kinds(4, DEFAULT_POLICY, ["largest"]))
    assert cold.light_s[0, 0] == cold.throttled_s[0, 0] == 0


def test_neural_processor_is_slowed_by_status() -> None:
    work = WORK.__class__((2.0,), (0.9,), idle_w=0.0, rest_w=1.0, start_charge=1.0, npu=True)
    largest = policy_kinds(1, DEFAULT_POLICY, ["largest"])
    outcome = simulate(load_phone("pixel-8"), steady(1200, air_c=37.0), work, largest)
    speeds = {int(level): outcome.traces.speed[outcome.traces.level == level] for level in (1, 2)}
    assert speeds[1].max() == pytest.approx(0.8)
    cpu = simulate(
        load_phone("pixel-8"), steady(1200, air_c=37.0), WORK.__class__((2.0,), (0.9,), 0.0, 1.0, 1.0), largest
    )
    assert outcome.energy_j[0, 0] < cpu.energy_j[0, 0]


def test_policies_that_do_not_listen_are_not_told() -> None:
    asked: dict[str, list[int]] = {"deaf": [], "listening": []}

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def look(self, view: View) -> int:
            asked[self.name].append(view.t_ms)
            return 0

    kinds = [PolicyKind(name, "", 60, None, name == "listening", lambda name=name: Noting(name)) for name in asked]
    simulate(load_phone("pixel-8"), steady(900, air_c=33.0), WORK, kinds)
    assert asked["deaf"] == list(range(0, 900_000, 60_000))
    extra = sorted(set(asked["listening"]) - set(asked["deaf"]))
    assert extra
    assert all(t_ms % 7000 == 0 for t_ms in extra)


def test_unknown_policy_is_answered_with_the_nearest() -> None:
    with pytest.raises(EbbtideError) as caught:
        policy_kinds(4, DEFAULT_POLICY, ["unify"])
    assert caught.value.code == "simulation.policy"
    assert "'unity'" in (caught.value.hint or "")


@pytest.mark.parametrize(("phone", "field"), [("pixel-8", "android_status"), ("iphone-15-pro", "apple_state")])
def test_source_gives_what_the_policy_in_a_simulation_sees(phone: str, field: str) -> None:
    scenario, body = drawn(1, hours=0.5, air_c=(33.0, 33.0)), load_phone(phone)
    outcome = simulate(body, scenario, WORK, [product(DEFAULT_POLICY, 4)])
    policy = Policy(DEFAULT_POLICY, 4)
    source = SimulatedSource(body, scenario, WORK, tier=lambda: policy.tier)
    heard: list[int] = []
    stop = source.listen(lambda: heard.append(1))
    skins, seen = [], set()
    for second in range(scenario.seconds):
        if second % 5 == 0:
            signals = source.read(1000 * second + 7_000_000)
            seen.add(getattr(signals, field))
            policy.step(signals)
        else:
            source.live(1000 * second + 7_000_000)
        if second % 10 == 0:
            skins.append(float(source.lanes.heat.skin_c[0]))
    # The session looks only every 5 s here, and in the second after; the courses stay close.
    assert np.abs(np.array(skins) - outcome.traces.skin_c[:, 0]).max() < 0.5
    assert len(seen) > 1
    assert heard
    stop()
    before = len(heard)
    source.live(10_000_000)
    assert len(heard) == before
    source.close()


def test_source_tells_thresholds_only_where_it_is_asked_to() -> None:
    scenario, body = steady(10), load_phone("pixel-8")
    silent = SimulatedSource(body, scenario, WORK, tier=lambda: 0).read(0)
    told = SimulatedSource(body, scenario, WORK, tier=lambda: 0, states_thresholds=True).read(0)
    assert (silent.light_mh, silent.moderate_mh) == (None, None)
    assert (told.light_mh, told.moderate_mh) == (800, 933)
