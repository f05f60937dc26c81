"""How others decide, written from their sources for comparison; none of their code is here.

Each is mapped onto tiers in the way that fits it best: where it has levels of quality, a tier is a level.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ebbtide.simulation.policies import PolicyKind, View


class GamesSample:
    """google/games-samples, agdk/adpf (1ebd635): full quality below MODERATE, least quality from it on."""

    def __init__(self, tiers: int) -> None:
        self._last = tiers - 1

    def look(self, view: View) -> int:
        """The status alone decides; on iOS the state `serious` stands in for MODERATE."""
        level = view.status if view.status is not None else view.state
        return self._last if level is not None and level >= 2 else 0


class UnrealPlugin:
    """google/adpf-unreal-plugin (d9bf055): four levels by current headroom every 15 s, no hysteresis.

    Its chain of comparisons sends a NaN to the lowest quality; so does this.
    """

    ENTER: Final = (0.75, 0.85, 0.95)

    def __init__(self, tiers: int) -> None:
        self._last = tiers - 1

    def look(self, view: View) -> int:
        """The first level whose limit the headroom lies below."""
        headroom = view.headroom
        for level, limit in enumerate(self.ENTER):
            if headroom is not None and headroom < limit:
                return min(level, self._last)
        return self._last


class UnityIndexer:
    """Unity's Adaptive Performance 5.1.6 with its Android provider: the indexer's thermal and performance trackers.

    The provider reads headroom(0) once a second and rounds it to hundredths; a status of LIGHT or MODERATE warns of
    throttling, a higher one says that it throttles. The trend is the slope of the level's third power over 20 s, 1.0
    for 0.1 in 20 s. The levels at which it was first warned are kept for ever. A decision waits for the delay that the
    one before it set: 10 s for heat, 4 s for frame times, half of it where the need is urgent. One tier is one scaler.
    """

    THERMAL_DELAY_S: Final = 10
    SPEED_DELAY_S: Final = 4
    TREND_S: Final = 20
    SLOPE_OF_TREND: Final = 0.1 / TREND_S
    FRAMES_S: Final = 4

    def __init__(self, tiers: int) -> None:
        self._last, self._tier = tiers - 1, 0
        self._warned = self._throttled = 1.0
        self._cubes: deque[float] = deque(maxlen=self.TREND_S)
        self._late: deque[float] = deque(maxlen=self.FRAMES_S)
        self._wait_s = self.THERMAL_DELAY_S

    def look(self, view: View) -> int:
        """One second of the indexer."""
        heat, speed = self._thermal(view), self._performance(view)
        self._wait_s = max(self._wait_s - 1, 0)
        if self._wait_s:
            return self._tier
        if heat in ("increase", "stale") and speed == "stale":
            self._move(-1, self.THERMAL_DELAY_S)
        elif heat == "decrease":
            self._move(1, self.THERMAL_DELAY_S)
        elif speed == "decrease":
            self._move(1, self.SPEED_DELAY_S)
        elif heat == "fast":
            self._move(1, self.THERMAL_DELAY_S // 2)
        elif speed == "fast":
            self._move(1, self.SPEED_DELAY_S // 2)
        return self._tier

    def _move(self, by: int, delay_s: int) -> None:
        self._tier = min(max(self._tier + by, 0), self._last)
        self._wait_s = delay_s

    def _thermal(self, view: View) -> str:
        if view.headroom is None or view.headroom != view.headroom:
            return "stale"
        level, trend = round(view.headroom, 2), self._trend(view.headroom)
        status = view.status or 0
        if 1 <= status <= 2 and self._warned == 1.0:
            self._warned = level
        if status >= 3 and self._throttled == 1.0:
            self._throttled = level
        if status >= 3 or level >= self._throttled:
            return "fast"
        if status >= 1 or level >= self._warned:
            if level > (self._warned + self._throttled) / 2:
                return "decrease"
            return "stale" if trend <= 0 else "fast" if trend > 0.5 else "decrease"
        if trend <= 0:
            return "increase"
        return "fast" if trend > 0.5 else "decrease" if trend > 0.1 else "stale"

    def _trend(self, headroom: float) -> float:
        self._cubes.append(round(headroom, 2) ** 3)
        count = len(self._cubes)
        if count < 2:
            return 0.0
        middle = (count - 1) / 2
        spread = count * (count * count - 1) / 12
        return sum((at - middle) * cube for at, cube in enumerate(self._cubes)) / spread / self.SLOPE_OF_TREND

    def _performance(self, view: View) -> str:
        self._late.append(1 / view.speed - 1)
        late = sum(self._late) / len(self._late)
        return "fast" if late >= 0.30 else "decrease" if late >= 0.15 else "stale"


def rivals(tiers: int) -> tuple[PolicyKind, ...]:
    """The policies of others, for a bundle of so many tiers."""
    return (
        PolicyKind("games", "Google's games sample", 60, None, True, lambda: GamesSample(tiers)),
        PolicyKind("unreal", "Google's Unreal plug-in", 15, 0, False, lambda: UnrealPlugin(tiers)),
        PolicyKind("unity", "Unity Adaptive Performance", 1, 0, False, lambda: UnityIndexer(tiers)),
    )
