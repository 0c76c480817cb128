"""A limit on how fast a log is read, so that who reads it again leaves it to those who work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pace:
    """Holds a reader to so many records a second, on average since its first."""

    rate: float = 0
    """Records a second; 0 for as fast as it goes."""
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _began_s: float = field(default=-1.0, init=False)
    _taken: int = field(default=0, init=False)

    def take(self, records: int = 1) -> None:
        """Return when so many more may be read, or may have been."""
        if not self.rate:
            return
        if self._began_s < 0:
            self._began_s = self.now_s()
        self._taken += records
        ahead_s = self._taken / self.rate - (self.now_s() - self._began_s)
        if ahead_s > 0.01:
            self.sleep(ahead_s)
