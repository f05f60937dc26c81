from __future__ import annotations

import threading

import pytest

from ebbtide.runtime.slowdown import LARGEST_US, START_XI_Q10, WARM_UP, Slowdown, SlowdownReading, next_xi_q10

# By hand, from xi += (((observed << 10) / profiled) - xi) >> 3 with a floor shift.
STEPS = [
    (1024, 100, 100, 1024),
    (1024, 200, 100, 1152),  # (2048 - 1024) >> 3 = 128
    (1024, 50, 100, 960),  # (512 - 1024) >> 3 = -64
    (1024, 99, 100, 1022),  # 1013 - 1024 = -11, and -11 >> 3 is -2, not -1
    (1025, 100, 100, 1024),  # -1 >> 3 is -1: down to the value itself
    (1017, 100, 100, 1017),  # 7 >> 3 is 0: up to 7 short of it
    (1016, 100, 100, 1017),
    (1024, 101, 100, 1025),  # 103424 / 100 = 1034 (cut off), 10 >> 3 = 1
    (1024, 0, 100, 896),
    (1024, -5, 100, 896),
    (0, 0, 1, 0),
    (1, 0, 1, 0),
    (1024, LARGEST_US, 1, 1024 + (((LARGEST_US << 10) - 1024) >> 3)),
    (1024, 2**60, 1, 1024 + (((LARGEST_US << 10) - 1024) >> 3)),
    (LARGEST_US << 10, LARGEST_US, 1, LARGEST_US << 10),
]


@pytest.mark.parametrize(("xi", "observed", "profiled", "after"), STEPS)
def test_next_xi_is_the_floor_shift_when_differences_have_either_sign(
    xi: int, observed: int, profiled: int, after: int
) -> None:
    assert next_xi_q10(xi, observed, profiled) == after
    assert -(2**63) <= (LARGEST_US << 10) - xi < 2**63


def test_slowdown_is_held_against_the_expected_latency_when_the_bundle_has_one() -> None:
    slowdown = Slowdown({"full": 100, "small": None})
    assert slowdown.reading("full") == SlowdownReading(START_XI_Q10, 100, "expected", 0)
    slowdown.record("full", 200.9)
    assert slowdown.reading("full") == SlowdownReading(1152, 100, "expected", 1)
    for _ in range(200):
        slowdown.record("full", 200)
    assert slowdown.reading("full").xi_q10 == 2048 - 7


def test_slowdown_is_held_against_a_warm_up_median_when_nothing_is_expected() -> None:
    slowdown = Slowdown({"full": None})
    times = [500, 90, 110] + [100] * (WARM_UP - 3)
    for number, time_us in enumerate(times):
        assert slowdown.reading("full") == SlowdownReading(START_XI_Q10, None, None, number)
        slowdown.record("full", time_us)
    assert slowdown.reading("full") == SlowdownReading(START_XI_Q10, 100, "warm_up", WARM_UP)
    slowdown.record("full", 300)
    assert slowdown.reading("full").xi_q10 == 1024 + (2048 >> 3)


def test_slowdown_keeps_one_factor_for_all_configurations_when_tiers_change() -> None:
    slowdown = Slowdown({"full": 100, "small": 50})
    slowdown.record("full", 200)
    slowdown.record("small", 100)
    assert slowdown.reading("full").xi_q10 == slowdown.reading("small").xi_q10 == 1152 + ((2048 - 1152) >> 3)


def test_slowdown_counts_every_prediction_when_threads_record_at_once() -> None:
    slowdown = Slowdown({"full": 100})
    threads = [threading.Thread(target=lambda: [slowdown.record("full", 100) for _ in range(2_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slowdown.reading("full") == SlowdownReading(1024, 100, "expected", 8_000)
