"""The product's own policy on a simulated phone: the same `Policy`, fed through the same conversions."""

from __future__ import annotations

import math
from typing import Final

from ebbtide.bundle.manifest import PolicyEntry
from ebbtide.runtime.policy import Policy
from ebbtide.runtime.policy_signals import Signals
from ebbtide.runtime.signals import (
    HeadroomMemory,
    android_battery_percent,
    android_status,
    apple_battery_percent,
    apple_state,
)
from ebbtide.simulation.policies import PolicyKind, View

POLL_S: Final = 5
FORECAST_S: Final = 30
_SCALE: Final = 10_000


class Product:
    """What an adaptive session does with a phone, without the session.

    Args:
        entry: the parameters.
        tiers: how many the bundle has.
        light_mh, moderate_mh: what the phone says of its own thresholds; None where it says nothing.
    """

    def __init__(self, entry: PolicyEntry, tiers: int, light_mh: int | None, moderate_mh: int | None) -> None:
        self._policy = Policy(entry, tiers)
        self._memory = HeadroomMemory(entry.stale_ms)
        self._light_mh, self._moderate_mh = light_mh, moderate_mh

    def look(self, view: View) -> int:
        """One step of the policy.

        Raises:
            EbbtideError: as `Policy.step`.
        """
        battery = (
            android_battery_percent(math.floor(view.battery * _SCALE), _SCALE)
            if view.state is None
            else apple_battery_percent(view.battery)
        )
        headroom_mh, age_ms = self._memory.update(view.t_ms, view.headroom)
        return self._policy.step(
            Signals(
                t_ms=view.t_ms,
                headroom_mh=headroom_mh,
                headroom_age_ms=age_ms,
                light_mh=self._light_mh,
                moderate_mh=self._moderate_mh,
                android_status=android_status(view.status),
                apple_state=apple_state(view.state),
                battery_percent=battery,
            )
        ).tier


def product(
    entry: PolicyEntry,
    tiers: int,
    *,
    name: str = "ours",
    title: str = "Ebbtide",
    light_mh: int | None = None,
    moderate_mh: int | None = None,
) -> PolicyKind:
    """The product's policy with these parameters, looking every 5 s and at every change of status.

    Args:
        entry: the parameters, from a manifest.
        tiers: how many tiers the bundle has.
        name, title: for tables.
        light_mh, moderate_mh: given on Android 15 and later, where the phone states its own thresholds.
    """
    return PolicyKind(name, title, POLL_S, FORECAST_S, True, lambda: Product(entry, tiers, light_mh, moderate_mh))
