"""Ranges of partitions, read to their end in no group. Used by recovery, replay, checks and views."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from headgate_graphs.errors import LogUnavailable
from headgate_streams.port import Log, LogRecord, TopicPartition

STALL_S: Final = 30.0
"""How long a log that has more records may say nothing before it counts as unavailable."""
_POLL_S: Final = 0.2
_BATCH_RECORDS: Final = 2_000


def read_range(
    log: Log, place: TopicPartition, first: int, end: int, stall_s: float = STALL_S
) -> Iterator[LogRecord]:
    """Yield the records of one partition with first <= offset < end; as `read_ranges`."""
    return read_ranges(log, {place: (first, end)}, stall_s)


def read_ranges(
    log: Log, spans: Mapping[TopicPartition, tuple[int, int]], stall_s: float = STALL_S
) -> Iterator[LogRecord]:
    """Yield what lies between (first offset, end) of each partition, each in offset order, in no group.

    Raises LogUnavailable when the log falls silent with more to read, LogTruncated when a first offset is
    gone.
    """
    ends = {place: end for place, (first, end) in spans.items() if first < end}
    if not ends:
        return
    reader = log.reader()
    try:
        reader.assign({place: spans[place][0] for place in ends})
        heard = time.monotonic()
        while ends:
            records = reader.poll(_POLL_S, _BATCH_RECORDS)
            place, end = None, 0
            for record in records:
                # Most often it is of the partition of the one before: nothing is made or looked up then.
                if place is None or record.partition != place.partition or record.topic != place.topic:
                    place = TopicPartition(record.topic, record.partition)
                    end = ends.get(place, 0)
                if record.offset < end:
                    yield record
                if record.offset >= end - 1:
                    ends.pop(place, None)
            if records:
                heard = time.monotonic()
            elif time.monotonic() - heard > stall_s:
                raise LogUnavailable(_silence(ends, stall_s))
    finally:
        reader.close()


def _silence(ends: Mapping[TopicPartition, int], stall_s: float) -> str:
    names = ", ".join(sorted(f"{place.topic}[{place.partition}]" for place in ends)[:5])
    return f"the log has said nothing for {stall_s:g} s, with more to read of {names}"
