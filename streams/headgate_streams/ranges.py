"""A range of one partition, read from its first offset to its end. Used by recovery and replay."""

from __future__ import annotations

import time
from collections.abc import Iterator

from headgate_graphs.errors import LogUnavailable
from headgate_streams.port import Log, LogRecord, TopicPartition

POLL_S = 0.5
BATCH_RECORDS = 2_000


def read_range(
    log: Log, place: TopicPartition, first: int, end: int, stall_s: float = 30.0
) -> Iterator[LogRecord]:
    """Yield the records with first <= offset < end, in order, in no group.

    Raises LogUnavailable when nothing has come for `stall_s`, LogTruncated when `first` is gone.
    """
    if first >= end:
        return
    position, stop_at = first, time.monotonic() + stall_s
    reader = log.reader()
    try:
        reader.assign({place: first})
        while position < end:
            records = reader.poll(POLL_S, BATCH_RECORDS)
            for record in records:
                if record.offset >= end:
                    return
                yield record
            if records:
                position, stop_at = records[-1].offset + 1, time.monotonic() + stall_s
            elif time.monotonic() > stop_at:
                raise LogUnavailable(
                    f"{place.topic}[{place.partition}] was read to {position} only, of {end}: "
                    f"nothing came for {stall_s:g} s"
                )
    finally:
        reader.close()
