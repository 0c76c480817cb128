"""Which part of the log is meant: offsets or times, and which offsets that is in each partition."""

from __future__ import annotations

from dataclasses import dataclass

from headgate_streams.port import Log, TopicPartition


@dataclass(frozen=True, slots=True)
class Moment:
    """One end of a range: an offset, which is the same number in every partition, or a time."""

    offset: int | None = None
    time_ms: int | None = None
    """Append time, Unix milliseconds."""

    def offset_in(self, log: Log, place: TopicPartition) -> int:
        """Return the offset that is meant in one partition; for a time, the first record not before it."""
        if self.offset is not None:
            return self.offset
        return log.offset_at(place, self.time_ms or 0)


@dataclass(frozen=True, slots=True)
class Range:
    """Records from the first moment on and before the second; None is the log's own beginning or end."""

    first: Moment | None = None
    end: Moment | None = None

    def within(self, log: Log, place: TopicPartition, span: tuple[int, int]) -> tuple[int, int]:
        """Return (first offset, end) of what is meant in a partition that has `span`."""
        first = self.first.offset_in(log, place) if self.first is not None else span[0]
        end = self.end.offset_in(log, place) if self.end is not None else span[1]
        return min(max(first, span[0]), span[1]), max(min(end, span[1]), span[0])
