"""What stands between Android's headroom and a reading: single NaNs, and phones that never have any."""

from __future__ import annotations

from typing import Final

from ebbtide.errors import EbbtideError
from ebbtide.runtime.signals.conversions import headroom_mh

PROBE_CALLS: Final = 5
PROBE_DISTANCE_MS: Final = 1000
"""Android answers NaN to a call within 500 ms of the last; a second is safely apart."""


class HeadroomMemory:
    """Keeps the last good headroom with its age, so that a single NaN changes nothing.

    Args:
        stale_ms: how long it is kept, >= 0; that of the policy, which would not count it any longer.
    """

    def __init__(self, stale_ms: int) -> None:
        self._stale_ms = stale_ms
        self._last_ms: int | None = None
        self._good: tuple[int, int] | None = None  # mh, when

    def update(self, t_ms: int, headroom: float | None) -> tuple[int | None, int]:
        """Take what the system answered; `headroom_mh` and `headroom_age_ms` of the reading.

        Args:
            t_ms: now, not before the last call.
            headroom: NaN or None where the system does not say.

        Raises:
            EbbtideError: ``policy.time``, or ``signals.value`` as `headroom_mh`; nothing is changed then.
        """
        value = headroom_mh(headroom)
        _check_time(t_ms, self._last_ms)
        self._last_ms = t_ms
        if value is not None:
            self._good = (value, t_ms)
        if self._good is None:
            return None, 0
        kept, at = self._good
        if t_ms - at > self._stale_ms:
            self._good = None
            return None, 0
        return kept, t_ms - at


class HeadroomProbe:
    """Finds out at the start whether a phone has headroom at all: five calls a second apart, one of them good.

    A headroom of 0 is good: a cold phone truly reads 0. NaN five times means no SKIN sensor with a SEVERE threshold,
    which stays so until the phone is started again; then nothing should be asked any more.

    `supported` is None until it is known.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._last_ms: int | None = None
        self.supported: bool | None = None

    def due(self, t_ms: int) -> bool:
        """Whether the next call of the probe should be made now."""
        return self.supported is None and (self._last_ms is None or t_ms - self._last_ms >= PROBE_DISTANCE_MS)

    def answer(self, t_ms: int, headroom: float | None) -> bool | None:
        """Take the answer to a call made now; `supported`.

        An answer that came too soon after the one before counts only if it is good.

        Raises:
            EbbtideError: ``policy.time``, or ``signals.value`` as `headroom_mh`; nothing is changed then.
        """
        value = headroom_mh(headroom)
        _check_time(t_ms, self._last_ms)
        if self.supported is None:
            if value is not None:
                self.supported = True
            elif self.due(t_ms):
                self._calls += 1
                self._last_ms = t_ms
                if self._calls == PROBE_CALLS:
                    self.supported = False
        return self.supported


def _check_time(t_ms: int, last_ms: int | None) -> None:
    if last_ms is not None and t_ms < last_ms:
        raise EbbtideError(
            "policy.time",
            f"The time {t_ms} ms comes after {last_ms} ms.",
            expected=f"at least {last_ms}",
            found=str(t_ms),
            place="t_ms",
        )
