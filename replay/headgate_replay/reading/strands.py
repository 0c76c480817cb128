"""Many partitions read side by side, each as far as it is asked for: what nobody asks for is not kept.

One reader serves all of them. Once much is at hand, it is assigned only those of which little is, so what is
kept does not grow with the log. It is not assigned anew for less: a client of Kafka throws away what it has
fetched.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from headgate_graphs.errors import LogTruncated, LogUnavailable
from headgate_streams.pace import Pace
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import STALL_S

_ENOUGH: Final = 500
"""Records of one partition at hand, from which on no more of it need be asked for."""
_MOST: Final = 1_000
"""For each partition; from so many at hand in all, only those are read of which there is less than enough."""
_POLL_S: Final = 0.2


class Strand:
    """One partition: what was read and not yet taken, up to where it ended when it was opened."""

    __slots__ = ("at_hand", "end", "next_offset", "place", "position")

    def __init__(self, place: TopicPartition, first: int, end: int) -> None:
        self.place = place
        self.end = end
        self.position = first
        """What is read next from the log."""
        self.next_offset = first
        """What follows the record that was taken last: a head with another offset shows a gap."""
        self.at_hand: deque[LogRecord] = deque()

    def drop(self) -> None:
        """Take the head."""
        self.next_offset = self.at_hand.popleft().offset + 1


class Strands:
    """The partitions, and the reader that fills them."""

    def __init__(self, log: Log, spans: Mapping[TopicPartition, tuple[int, int]], pace: Pace) -> None:
        """Open each partition at (first offset, end); nothing is read yet."""
        self._log = log
        self._reader = log.reader()
        self._pace = pace
        self._strands = {place: Strand(place, first, end) for place, (first, end) in spans.items()}
        self._assigned: set[TopicPartition] = set()
        self.read = 0
        """Records that were read so far."""

    def __getitem__(self, place: TopicPartition) -> Strand:
        return self._strands[place]

    def head(self, strand: Strand) -> LogRecord | None:
        """Return the next record of a partition, not to be taken by that; None at its end.

        Raises LogUnavailable when the log falls silent with more to read.
        """
        if not strand.at_hand and not self._fill(strand):
            return None
        return strand.at_hand[0]

    @property
    def at_hand(self) -> int:
        """Records that were read and not yet taken."""
        return sum(len(one.at_hand) for one in self._strands.values())

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()

    def _fill(self, strand: Strand) -> bool:
        heard = time.monotonic()
        while not strand.at_hand and strand.position < strand.end:
            if strand.place not in self._assigned or self.at_hand > _MOST * len(self._strands):
                self._assign()
            if self._poll():
                heard = time.monotonic()
            elif time.monotonic() - heard > STALL_S:
                place = f"{strand.place.topic}[{strand.place.partition}]"
                raise LogUnavailable(
                    f"the log has said nothing for {STALL_S:g} s, with more to read of {place}"
                )
        return bool(strand.at_hand)

    def _assign(self) -> None:
        wanting = {
            place: one.position
            for place, one in self._strands.items()
            if one.position < one.end and len(one.at_hand) < _ENOUGH
        }
        self._assigned = set(wanting)
        self._reader.assign(wanting)

    def _poll(self) -> int:
        try:
            records = self._reader.poll(_POLL_S, _ENOUGH)
        except LogTruncated:
            if not self._step_over():
                raise
            return 1
        strand: Strand | None = None
        for record in records:
            if strand is None or (record.topic, record.partition) != strand.place:
                strand = self._strands[TopicPartition(record.topic, record.partition)]
            if strand.position <= record.offset:
                strand.position = record.offset + 1
                if record.offset < strand.end:
                    strand.at_hand.append(record)
        self._pace.take(len(records))
        self.read += len(records)
        return len(records)

    def _step_over(self) -> bool:
        """Pass what is gone, in whichever partition: the gap is seen by who takes the next record."""
        beginnings = self._log.offsets(self._assigned)
        stepped = False
        for place in self._assigned:
            strand = self._strands[place]
            self._reader.assign({place: strand.position})
            try:
                self._reader.poll(0, 1)
            except LogTruncated:
                strand.position = max(strand.position + 1, beginnings[place][0])
                stepped = True
        self._assigned = set()
        return stepped
