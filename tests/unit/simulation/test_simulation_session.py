"""The real adaptive session on a simulated phone."""

from __future__ import annotations

import sys
from pathlib import Path

from simulation_cases import WORK, steady

from ebbtide.runtime.adaptive import AdaptiveSession
from ebbtide.simulation import SimulatedSource, Work, load_phone

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from runtime_bundles import images, open_session

THREE_TIERS = Work(WORK.tier_w[:3], (0.95, 0.93, 0.88), idle_w=0.0, rest_w=1.1, start_charge=1.0)


def test_session_follows_the_heat_of_a_simulated_phone() -> None:
    session, (image,) = open_session(), images(1)
    now_ms = 1_000_000
    source = SimulatedSource(
        load_phone("pixel-8"), steady(3600, air_c=31.0), THREE_TIERS, tier=lambda: session.current.tier or 0
    )
    decided: list[str] = []
    with AdaptiveSession(
        session, source, poll_ms=None, clock_ms=lambda: now_ms, on_decision=lambda one: decided.append(one.reason)
    ) as adaptive:
        skins = []
        for _ in range(720):
            adaptive.poll()
            assert session.predict(image).tier == session.current.tier
            skins.append(float(source.lanes.heat.skin_c[0]))
            now_ms += 5000
        assert len(decided) == 720
        assert decided[0] == "keep:none"
        first_down = next(index for index, reason in enumerate(decided) if reason == "down:headroom")
        # The first entry is 0.75: 37.5 degrees, seen up to 30 s ahead.
        assert 36.5 < skins[first_down] < 37.8
        assert session.current.tier in (1, 2)
        # A phone left at its first tier gets hotter than this one ever did.
        hot = SimulatedSource(load_phone("pixel-8"), steady(3600, air_c=31.0), THREE_TIERS, tier=lambda: 0)
        hot.read(0)
        hot.live(3_600_000)
        assert max(skins) < float(hot.lanes.heat.skin_c[0]) - 1.0
    session.close()
    source.close()
