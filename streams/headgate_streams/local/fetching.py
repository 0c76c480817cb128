"""Reads records of chosen partitions of the embedded log, and waits for more. Used by consumer and reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Final

from headgate_graphs.errors import LogTruncated
from headgate_streams.local.database import OFFSET_BITS, Database, unpack_headers
from headgate_streams.local.writer import Writer
from headgate_streams.port import LogRecord, TopicPartition

_FETCH_BYTES: Final = 8_388_608
"""Stop a read from the file after 8 MiB, so that large records do not fill the memory."""
_LOOK_S: Final = 0.005
"""How often to look for other processes' records while waiting."""
_LOOK_IDLE_S: Final = 0.02
"""The same once nothing has come for a while."""
_IDLE_S: Final = 2.0


class Fetcher:
    """Positions in partitions, and the records from there on. One thread reads; any thread may wake it."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self.positions: dict[int, int] = {}
        """Next offset by partition, least recently read first."""
        self.paused: dict[int, int] = {}
        """The same of partitions that are not read for now."""
        self._bell = threading.Lock()
        self._bell.acquire()
        self._quiet_since_s = time.monotonic()
        writer.listeners.append(self._on_commit)

    def close(self) -> None:
        """Stop listening."""
        if self._on_commit in self._writer.listeners:
            self._writer.listeners.remove(self._on_commit)

    def fetch(self, max_records: int) -> list[LogRecord]:
        """Return up to `max_records` that are there now; the partitions take turns."""
        records = self._fetch(max_records)
        if not records and self._writer.look_around():
            records = self._fetch(max_records)
        return records

    def _fetch(self, max_records: int) -> list[LogRecord]:
        records: list[LogRecord] = []
        places = self._writer.places
        for pid, position in tuple(self.positions.items()):
            end = places[pid].next_offset
            if position == end:
                continue
            if position > end:
                self._check_end(pid, position)
                continue
            found = self._read(pid, position, end, max_records - len(records))
            del self.positions[pid]
            self.positions[pid] = found[-1].offset + 1 if found else end
            records += found
            if len(records) >= max_records:
                break
        if records:
            self._quiet_since_s = 0.0
        return records

    def wait(self, timeout_s: float) -> None:
        """Return when something may have come, or earlier."""
        if self._database.in_memory:
            self._bell.acquire(timeout=timeout_s)
            return
        now = time.monotonic()
        if not self._quiet_since_s:
            self._quiet_since_s = now
        interval_s = _LOOK_S if now - self._quiet_since_s < _IDLE_S else _LOOK_IDLE_S
        self._bell.acquire(timeout=min(timeout_s, interval_s))

    def _read(self, pid: int, start: int, end: int, max_records: int) -> list[LogRecord]:
        """Return records from `start` on; none when there is only a gap up to the end."""
        base = pid << OFFSET_BITS
        tail = self._writer.tail
        if base + start in tail:
            found = []
            for row_id in range(base + start, base + min(end, start + max_records)):
                record = tail.get(row_id)
                if record is None:
                    break
                found.append(record)
            if found:
                return found
        return self._read_file(pid, start, end, max_records)

    def _read_file(self, pid: int, start: int, end: int, max_records: int) -> list[LogRecord]:
        base = pid << OFFSET_BITS
        rows = self._database.read(
            "SELECT id, timestamp_ms, key, value, headers FROM records WHERE id >= ? AND id < ?"
            " ORDER BY id LIMIT ?",
            (base + start, base + end, max_records),
            _FETCH_BYTES,
        )
        topic, partition = self._writer.names[pid]
        # What is not there was deleted from the beginning on, or was never there: an import keeps gaps.
        is_there = bool(rows) and rows[0][0] == base + start
        if not is_there and start < self._database.beginning(pid, end):
            raise LogTruncated(f"{topic}[{partition}] has no record {start} any more")
        return [
            LogRecord(topic, partition, row_id - base, stamp, key, value, unpack_headers(headers))
            for row_id, stamp, key, value, headers in rows
        ]

    def _check_end(self, pid: int, position: int) -> None:
        self._writer.refresh()
        end = self._writer.places[pid].next_offset
        if position > end:
            topic, partition = self._writer.names[pid]
            raise LogTruncated(f"{topic}[{partition}] ends at {end}, before offset {position}")

    def _on_commit(self, touched: Iterable[int]) -> None:
        if touched and self.positions.keys().isdisjoint(touched):
            return
        if self._bell.locked():
            try:
                self._bell.release()
            except RuntimeError:  # another thread rang at the same moment
                return


class LocalReader:
    """Reads chosen partitions outside any group."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._writer = writer
        self._fetcher = Fetcher(database, writer)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from these offsets."""
        self._fetcher.positions = {self._writer.partition_id(tp): offset for tp, offset in positions.items()}

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there, waiting for the first."""
        deadline = time.monotonic() + timeout_s
        while True:
            records = self._fetcher.fetch(max_records)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            self._fetcher.wait(left)

    def close(self) -> None:
        """Stop listening."""
        self._fetcher.close()
