"""One thread for work that the caller does not wait for, of which only the newest piece is still worth doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from ebbtide.errors import EbbtideError

_T = TypeVar("_T")


class Background(Generic[_T]):
    """Does one piece of work at a time; its thread begins with the first. May be used from any thread.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._newest: Future[_T] | None = None
        self._closed = False

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Do this after what is being done; what was to be done after that is cancelled.

        Raises:
            EbbtideError: ``runtime.closed``.
        """
        with self._lock:
            if self._closed:
                raise EbbtideError("runtime.closed", "The session is closed.", hint="open a new one")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            older, newest = self._newest, self._pool.submit(work)
            self._newest = newest
        if older is not None:
            # Does nothing to work that has begun. Outside the lock: whoever waits for it may begin the next at once.
            older.cancel()
        return newest

    def close(self) -> None:
        """Take no more work, cancel what waits, let what has begun end. Does not wait, so work may call it, too."""
        with self._lock:
            self._closed = True
            pool, self._pool, self._newest = self._pool, None, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
