"""One partition that a gate owns, and what is done for it between batches, in slices that delay no record.

Two things take long when there are many lifetimes: writing a capture, and laying to rest those to which
nothing happens. Both may stop after each lifetime and go on after the next batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future

from headgate_guardrails.checkpoints import Checkpoint
from headgate_guardrails.fold.snapshot import Capture, Capturing, Known
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.folding import PartitionFold
from headgate_streams.port import LogRecord, TopicPartition

SLICE_S = 0.002
"""A slice ends after this long: so long may a record wait for it."""
EACH_S = 0.010
"""Slices begin at least this far apart: a fifth of the time at most goes into them, however short batches."""
LOOK_S = 10.0
"""How often is looked for lifetimes that can be laid to rest; one rests that was not asked for from one look
to the next, so heartbeats and steps of a few seconds keep it whole."""


class Shard:
    """One partition this gate owns."""

    def __init__(self, fold: PartitionFold, committed: int) -> None:
        self.fold = fold
        self.committed = committed
        """The group's offset: never moved back."""
        self.flushed = committed
        """Below it every output is durable: as far as may be committed."""
        self.last: LogRecord | None = None
        """The last record that was folded, None right after a start."""
        self.captured_offset = fold.state.next_offset
        self.captured_at = time.monotonic()
        self.upload: Future[tuple[Checkpoint, Known]] | None = None
        self.tick_after = 0.0
        """Monotonic time before which no further tick is sent."""
        self._capturing: _UnderWay | None = None
        self._looking: Iterator[None] | None = None
        self._looked_at = fold.state
        self._look_at = self.captured_at + LOOK_S

    @property
    def place(self) -> TopicPartition:
        """The partition."""
        return self.fold.place

    @property
    def state(self) -> PartitionState:
        """The folded state."""
        return self.fold.state

    @property
    def is_capturing(self) -> bool:
        """Whether a capture is under way; one of a state that was thrown away is not."""
        return self._capturing is not None and self._capturing.state is self.state

    def begin_capture(self) -> None:
        """Begin to capture the state as of the committed offset, which is where it has to be."""
        self._capturing = _UnderWay(self.state, self.fold.known, self.last)
        self.captured_offset, self.captured_at = self.committed, time.monotonic()

    def go_on(self, until: float) -> tuple[Capture, LogRecord | None] | None:
        """Go on with the capture until that monotonic time; return it and the record before it when whole."""
        under_way = self._capturing
        if under_way is None or not _comes_to_its_end(under_way.steps, until):
            return None
        self._capturing = None
        return under_way.capturing.taken, under_way.last

    def tidy(self, now: float, until: float) -> None:
        """Go on laying to rest what nothing happens to, until that monotonic time; look anew when due."""
        if self._looked_at is not self.state:
            self._looking, self._looked_at = None, self.state
        if self._looking is None and now >= self._look_at:
            self._looking, self._look_at = look(self.state), now + LOOK_S
        if self._looking is not None and _comes_to_its_end(self._looking, until):
            self._looking = None


class _UnderWay:
    """A capture that is not whole yet."""

    def __init__(self, state: PartitionState, known: Known, last: LogRecord | None) -> None:
        self.state = state
        self.last = last
        self.capturing = Capturing(state, known)
        self.steps = self.capturing.steps()


def look(state: PartitionState) -> Iterator[None]:
    """Lay to rest who was not asked for since the last look, in steps; records may be folded in between."""
    for tenant in list(state.tenants.values()):
        yield from tenant.lifetimes.look()
        yield


def _comes_to_its_end(steps: Iterator[None], until: float) -> bool:
    """Take steps until that monotonic time; whether none is left."""
    return all(time.monotonic() < until for _ in steps)
