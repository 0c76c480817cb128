"""What a gate does between records: it lays lifetimes to rest and captures in slices. It must not show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from headgate_guardrails.fold.snapshot import Capturing, digest, seal
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.shard import look
from tests.unit.guardrails.keeping import Keeper
from tests.unit.guardrails.properties.lives import Violation


class Between:
    """Does some of it at random, by draws of its own, so that a world is the same with and without it."""

    def __init__(self, often: float = 0.02) -> None:
        self.often = often
        """How probable it is that a capture begins."""
        self.slices = 0
        """Captures during which records were folded."""
        self._rng = random.Random(0)
        self._kept = Keeper()
        self._capturing: Capturing | None = None
        self._steps: Iterator[None] = iter(())
        self._digest = ""
        self._turns = 0

    def go_on(self, state: PartitionState) -> None:
        """Do something, or nothing, before the next record."""
        if self._rng.random() < 0.3:
            for _ in islice(look(state), self._rng.randint(1, 40)):
                pass
        if self._capturing is not None:
            self._turns += 1
            self._take(self._rng.randint(0, 2))
        elif self._rng.random() < self.often:
            self._digest, self._turns = digest(state), 0
            self._capturing = Capturing(state, self._kept.known)
            self._steps = self._capturing.steps()

    def finish(self) -> None:
        """Bring a capture to its end, as a gate does that stops; what comes next is another state."""
        while self._capturing is not None:
            self._take(100)
        self._kept = Keeper()

    def _take(self, count: int) -> None:
        if sum(1 for _ in islice(self._steps, count)) == count or self._capturing is None:
            return
        sealed = self._kept.put(seal(self._capturing.taken))
        self._capturing = None
        self.slices += self._turns > 1
        if sealed.digest != self._digest or digest(self._kept.read()) != self._digest:
            raise Violation("I11: a capture in slices is not the state at which it was begun")
