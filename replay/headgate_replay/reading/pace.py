"""A limit on how fast records are read, so that a replay leaves the brokers to those who work."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Lets so many records pass in a second, on average since it began."""

    def __init__(
        self,
        records_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin now; 0 lets everything pass."""
        self._per_s = records_per_s
        self._clock, self._wait = clock, wait
        self._began = clock()
        self._passed = 0

    def passed(self, records: int) -> None:
        """Count records that were read; return when as many may have been."""
        if not self._per_s:
            return
        self._passed += records
        ahead_s = self._passed / self._per_s - (self._clock() - self._began)
        if ahead_s > 0:
            self._wait(ahead_s)
