"""How much slower predictions are than when they were profiled: recorded, and not acted on.

The factor is that of ALERT (Wan et al., USENIX ATC 2020), global over all configurations, with an exponential average
in place of its Kalman filter. It sees throttling without any sensor. It is not acted on because it is fed by the tier
that it would choose, so the two could chase each other.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

START_XI_Q10: Final = 1024
"""No slow-down: 1.0 with 10 binary digits after the point."""
WARM_UP: Final = 15
"""Predictions of a configuration whose median stands in for an expected latency."""
LARGEST_US: Final = 2**31 - 1
"""Longer predictions (35 minutes) count as this, so that nothing leaves 64 bits."""


def next_xi_q10(xi_q10: int, observed_us: int, profiled_us: int) -> int:
    """One step of ``xi += (observed / profiled - xi) / 8`` in integers of 64 bits with 10 binary digits.

    The quotient ``(observed_us << 10) / profiled_us`` is of positive numbers and is cut off. The division by 8 is an
    arithmetic shift: it rounds towards minus infinity, also for a negative difference (-1 >> 3 is -1, where a division
    that cuts off would give 0). So the factor comes down to 1.0 exactly, and up to 7/1024 short of it.

    Args:
        xi_q10: the factor before, >= 0; 1024 is no slow-down.
        observed_us: of one whole prediction; taken as 0 to `LARGEST_US`.
        profiled_us: what that configuration was expected to take, >= 1.
    """
    observed_us = min(max(observed_us, 0), LARGEST_US)
    return xi_q10 + (((observed_us << 10) // profiled_us - xi_q10) >> 3)


@dataclass(frozen=True, slots=True)
class SlowdownReading:
    """The factor and what it is held against.

    `profiled_us` is that of one configuration: ``expected`` by the bundle, else the median of its own first predictions
    (``warm_up``), None until there are enough of them. `predictions` counts all that were recorded.
    """

    xi_q10: int
    profiled_us: int | None
    profiled_from: Literal["expected", "warm_up"] | None
    predictions: int


class Slowdown:
    """The slow-down factor of a running session. May be used from any thread.

    Args:
        expected_us: what each configuration is expected to take, microseconds; None where the bundle does not know.
    """

    def __init__(self, expected_us: Mapping[str, int | None]) -> None:
        self._expected = {name: max(time_us, 1) for name, time_us in expected_us.items() if time_us is not None}
        self._measured: dict[str, int] = {}
        self._first: dict[str, list[int]] = {}
        self._xi_q10 = START_XI_Q10
        self._predictions = 0
        self._lock = threading.Lock()

    def record(self, configuration: str, observed_us: float) -> None:
        """Take the time of one whole prediction into account."""
        time_us = int(observed_us)
        with self._lock:
            self._predictions += 1
            profiled_us = self._expected.get(configuration) or self._measured.get(configuration)
            if profiled_us is not None:
                self._xi_q10 = next_xi_q10(self._xi_q10, time_us, profiled_us)
                return
            first = self._first.setdefault(configuration, [])
            first.append(time_us)
            if len(first) == WARM_UP:
                self._measured[configuration] = max(int(statistics.median(first)), 1)
                del self._first[configuration]

    def reading(self, configuration: str) -> SlowdownReading:
        """The factor now, and what `configuration` is held against."""
        with self._lock:
            if configuration in self._expected:
                return SlowdownReading(self._xi_q10, self._expected[configuration], "expected", self._predictions)
            measured = self._measured.get(configuration)
            return SlowdownReading(self._xi_q10, measured, "warm_up" if measured else None, self._predictions)
