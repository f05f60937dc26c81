"""A simulated phone as a source of signals, so that an adaptive session can run on it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Literal

import numpy as np

from ebbtide.bundle.manifest import DEFAULT_POLICY
from ebbtide.runtime.policy_signals import Signals
from ebbtide.runtime.signals import (
    HeadroomMemory,
    Listeners,
    android_battery_percent,
    android_status,
    apple_battery_percent,
    apple_state,
)
from ebbtide.simulation.headroom import TemperatureWatcher
from ebbtide.simulation.heat import Floats
from ebbtide.simulation.phones import Phone
from ebbtide.simulation.product import FORECAST_S
from ebbtide.simulation.run import Lanes, Work
from ebbtide.simulation.scenario import Scenario

_SCALE = 10_000


class SimulatedSource:
    """Reads signals from one phone of a scenario, which lives as time is read. May be used from any thread.

    Time goes in whole seconds; where the scenario ends, its last second goes on. A new status or state is an event.

    Args:
        phone: the body, the battery and the system.
        scenario: what happens to it.
        work: what inference costs at each tier.
        tier: tells which tier the application runs at; asked every second.
        run: which run of the scenario.
        stale_ms: how long the last good headroom is kept; that of the policy.
        states_thresholds: whether the phone tells its own thresholds, as Android 15 and later do.
        base: where Android's forecast begins; see `ebbtide.simulation.headroom`.
    """

    def __init__(
        self,
        phone: Phone,
        scenario: Scenario,
        work: Work,
        *,
        tier: Callable[[], int],
        run: int = 0,
        stale_ms: int = DEFAULT_POLICY.stale_ms,
        states_thresholds: bool = False,
        base: Literal["oldest", "newest"] = "oldest",
    ) -> None:
        self.lanes = Lanes(phone, 1, scenario.air_c[run : run + 1], work)
        self._scenario, self._run, self._tier = scenario, run, tier
        self._states_thresholds = states_thresholds
        self._watcher = TemperatureWatcher(1, self.lanes.system.severe_c, base=base)
        self._memory = HeadroomMemory(stale_ms)
        self._listeners = Listeners()
        self._lock = threading.Lock()
        self._begin_ms: int | None = None
        self._seconds = 0
        self._sensed_c = self.lanes.heat.skin_c.copy()
        self._one = np.zeros(1, np.int64)

    def read(self, t_ms: int) -> Signals:
        """Let the phone live until this time and read its signals; the first reading is the beginning.

        Raises:
            EbbtideError: ``simulation.not_finite``, or ``policy.time`` for a time before the last.
        """
        with self._lock:
            changed = self._live(t_ms)
            signals = self._signals(t_ms)
        if changed:
            self._listeners.call()
        return signals

    def live(self, t_ms: int) -> None:
        """Let the phone live until this time without asking it anything; listeners hear of a new status."""
        with self._lock:
            changed = self._live(t_ms)
        if changed:
            self._listeners.call()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the status or state has changed; see `SignalSource`."""
        return self._listeners.add(callback)

    def close(self) -> None:
        """Forget the listeners."""
        self._listeners.clear()

    def _live(self, t_ms: int) -> bool:
        if self._begin_ms is None:
            self._begin_ms = t_ms
        before, lanes = self._level(), self.lanes
        while self._begin_ms + 1000 * self._seconds <= t_ms:
            row = min(self._seconds, self._scenario.seconds - 1)
            self._sensed_c = lanes.heat.skin_c + self._scenario.noise_c[row, self._run]
            lanes.sense(self._seconds, self._sensed_c)
            self._watcher.tick(self._begin_ms + 1000 * self._seconds, self._sensed_c)
            lanes.tier[:] = self._tier()
            lanes.step(self._scenario.duty[row, self._run : self._run + 1], self._foreign(row))
            self._seconds += 1
        return lanes.system.reports_status and self._level() != before

    def _foreign(self, row: int) -> Floats:
        return self._scenario.foreign_w[row, self._run : self._run + 1]

    def _signals(self, t_ms: int) -> Signals:
        system = self.lanes.system
        level = self._level() if system.reports_status else 0
        charge = float(self.lanes.charge[0])
        if system.platform == "ios":
            return Signals(t_ms, apple_state=apple_state(level), battery_percent=apple_battery_percent(charge))
        answer = float(self._watcher.ask(t_ms, FORECAST_S, self._sensed_c, self._one)[0])
        headroom, age_ms = self._memory.update(t_ms, answer)
        return Signals(
            t_ms,
            headroom_mh=headroom,
            headroom_age_ms=age_ms,
            light_mh=system.light_mh if self._states_thresholds else None,
            moderate_mh=system.moderate_mh if self._states_thresholds else None,
            android_status=android_status(level),
            battery_percent=android_battery_percent(math.floor(charge * _SCALE), _SCALE),
        )

    def _level(self) -> int:
        return int(self.lanes.levels.level[0])
