"""When to ask a server that did not answer again: a circuit breaker, so that a dead one does not cost a time-out each
prediction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Lets calls through while they succeed, and after a failure none until a pause is over; then one at a time.

    The pause begins at `first_pause_s` and doubles with every failure in a row up to `longest_pause_s`. Calls that ran
    at the same time and failed together count as one failure, and any success ends the pause. May be used from any
    thread.

    Args:
        first_pause_s: seconds, > 0.
        longest_pause_s: seconds, >= `first_pause_s`.
        clock: monotonic seconds.
    """

    def __init__(
        self, first_pause_s: float, longest_pause_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_pause_s, self._longest_pause_s, self._clock = first_pause_s, longest_pause_s, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._again_at = 0.0
        self._trying = False
        self._why = ""

    def admit(self) -> int | None:
        """A ticket for a call that may be made now, None if none may. A ticket is handed to `succeeded` or `failed`."""
        with self._lock:
            if self._failures and (self._trying or self._clock() < self._again_at):
                return None
            self._trying = self._failures > 0
            return self._failures

    def succeeded(self) -> None:
        """A call went well: all that follow may be made."""
        with self._lock:
            self._failures, self._trying, self._why = 0, False, ""

    def failed(self, ticket: int, why: str) -> None:
        """A call with this ticket failed; `why` is what `refusal` says meanwhile."""
        with self._lock:
            if ticket != self._failures:  # another call of the same time was counted, or has succeeded since
                return
            pause_s = min(self._first_pause_s * 2.0 ** min(self._failures, 60), self._longest_pause_s)
            self._failures += 1
            self._again_at, self._trying, self._why = self._clock() + pause_s, False, why

    def refusal(self) -> str:
        """Why no call may be made, in words."""
        with self._lock:
            left_s = max(0.0, self._again_at - self._clock())
            return f"not asked for another {left_s:.1f} s; before: {self._why}"
