"""One partition in one worker's hands: what may be committed of it, and how its last owners have ended.

The number of owners that died in a row travels in the commit's metadata, before the source cursor. An owner
says at once, before it begins anything, that the partition is its; whoever finds that said, and nothing
committed since, knows that it has died. After MANY_DEATHS such ends something among the first inputs is
taken to end its worker, and they are *suspects*: each is announced and committed as leased work is, and run
alone, so that the next death is a lost run of the one that caused it, and of nothing else.
"""

from __future__ import annotations

from typing import Final

from headgate_graphs.errors import UserError
from headgate_streams.offsets import OffsetTracker, SourceCursor
from headgate_streams.port import Committed, TopicPartition
from headgate_workers.work import Work

MANY_DEATHS: Final = 2
"""Owners in a row that died with nothing committed, after which the first inputs are suspects. One death is
mostly a machine's, and then running everything at once again is the quickest way on."""


class Share:
    """One partition for as long as this worker owns it."""

    def __init__(
        self, partition: TopicPartition, committed: Committed | None, log_range: tuple[int, int], room: int
    ) -> None:
        """Take over from what the group has committed, None for nothing yet.

        `log_range` is the partition's (beginning, end). `room` is how many inputs a worker has in hand at
        once, and so how many are suspects after many deaths.

        Raises UserError when another program commits for the group.
        """
        beginning, self._end = log_range  # an owner that died may have begun what is below the end
        deaths, seen = _decode(committed.metadata) if committed is not None else (-1, SourceCursor())
        self.partition = partition
        self.seen = seen
        """Sources read so far; what is not above is a repeat."""
        self.tracker = OffsetTracker(self.seen)
        self.tracker.committed_ok(committed or Committed(beginning, ""))
        self.open: dict[int, Work] = {}
        """Work whose offset may not be committed yet, by offset."""
        self.is_lost = False
        self.is_claimed = False
        """Whether it has been committed that the partition is this worker's: nothing begins before."""
        self._deaths = deaths + 1
        self._suspects = room if self._deaths >= MANY_DEATHS else 0

    @property
    def is_feared(self) -> bool:
        """Whether its last owners died one after the other."""
        return self._deaths >= MANY_DEATHS

    def take_up(self, work: Work) -> None:
        """Keep the offset of this work from being committed until it is settled."""
        work.is_early = work.offset < self._end
        if work.is_early and self._suspects:
            self._suspects -= 1
            work.is_suspect = work.is_leased = True
        self.open[work.offset] = work

    def must_wait(self, work: Work) -> bool:
        """Whether older work keeps this leased one from being committed on pickup.

        Asked of what was there at the assignment: if its handler has ended a process and will end this one,
        the next owner would begin it once more, and so for ever. Nothing else waits for a slow neighbour.
        """
        return work.is_early and any(
            offset < work.offset and (one.is_suspect or not one.is_leased)
            for offset, one in self.open.items()
        )

    def settle(self, offset: int) -> None:
        """This offset may be committed: its effects are in the log."""
        self.open.pop(offset, None)
        self.tracker.done(offset)

    def claim(self) -> Committed:
        """Return what says that the partition is this worker's now; it stays where it is."""
        return self._at(self._deaths)

    def progress(self) -> Committed | None:
        """Return what may be committed beyond what is; None for nothing."""
        return self._at(0) if self.tracker.committable() is not None else None

    def farewell(self) -> Committed:
        """Return what a worker commits that gives the partition up in good order.

        What it leaves unfinished proves nothing, so the deaths before it still count.
        """
        has_moved = self.tracker.committable() is not None
        return self._at((0 if has_moved or not self.open else self._deaths) - 1)

    def committed_ok(self, committed: Committed) -> None:
        """Remember that one of these was committed."""
        if committed.offset > self.tracker.committed:
            self._deaths = 0
        self.is_claimed = True
        self.tracker.committed_ok(committed)

    def _at(self, deaths: int) -> Committed:
        position = self.tracker.position()
        return Committed(position.offset, f"{deaths}/{position.metadata}")


def _decode(metadata: str) -> tuple[int, SourceCursor]:
    deaths, _, cursor = metadata.rpartition("/")
    try:
        return int(deaths or 0), SourceCursor.decode(cursor)
    except ValueError:
        raise UserError(
            f"the group's commit metadata {metadata[:64]!a} is not ours: something else commits for it"
        ) from None
