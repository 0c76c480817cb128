"""The embedded log's single writer: threads that commit at the same time share one transaction and one fsync.

Each thread queues its work and asks for the write lock. Who gets it commits whatever is queued; the others
find theirs done when they get it. So the more threads wait for the disk, the more each fsync carries.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from headgate_graphs.errors import HeadgateError, LogUnavailable, UserError
from headgate_streams.local.database import OFFSET_BITS, Database, pack_headers
from headgate_streams.port import Headers, LogRecord, TopicPartition

TAIL_BYTES: Final = 33_554_432
TAIL_RECORDS: Final = 65_536
"""The newest records of this process are kept as objects, so that its own consumers read no rows (32 MiB)."""
LOOK_S: Final = 0.004
"""A look at what other processes did serves all threads for this long."""
_RECORD_OVERHEAD_BYTES: Final = 256
_ROWS: Final = (64, 16, 4, 1)
"""Rows of one INSERT. Each call into SQLite gives up the interpreter lock, so fewer, larger calls."""


class Place(NamedTuple):
    """Where a partition's next record goes."""

    next_offset: int
    last_ms: int


class Pending(NamedTuple):
    """One record to append."""

    partition_id: int
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Work(Protocol):
    """Something done inside a write transaction."""

    durable: bool
    """Whether it must be on disk when done. Group state need not: losing its end only repeats work."""

    def apply(self, writer: Writer) -> None:
        """Do it; a HeadgateError raised before the first write fails this work alone."""


class Ticket:
    """Work in the queue and what became of it."""

    __slots__ = ("done", "error", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = False
        self.error: Exception | None = None


class Writer:
    """Owns the writing connection, and what all threads of the process know about the log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = database.write_lock
        self._queue: deque[Ticket] = deque()
        self._synchronous = ""
        self._version = -1
        self._looked_s = 0.0
        self._tail_ids: deque[tuple[int, int]] = deque()
        self._tail_bytes = 0
        self._appended: list[tuple[int, LogRecord]] = []
        self._changed = False
        self._moved: dict[int, Place] = {}
        self.connection = database.writing
        self.places: dict[int, Place] = {}
        """Where each partition ends, as of the last commit seen."""
        self.ids: dict[TopicPartition, int] = {}
        self.names: dict[int, TopicPartition] = {}
        self.generations: dict[str, int] = {}
        """Changes of each group, counted."""
        self.tail: dict[int, LogRecord] = {}
        """Newest records by row id."""
        self.listeners: list[Callable[[Iterable[int]], None]] = []
        """Called after each commit with the partitions that grew; empty when groups or topics changed."""
        with self._lock:
            self._reload()

    def changed(self, group: str | None = None) -> None:
        """Note inside the transaction that a group changed (None: every group), or that topics were added."""
        self._changed = True
        where, parameters = ("", ()) if group is None else (" WHERE name = ?", (group,))
        self.connection.execute(f"UPDATE groups SET generation = generation + 1{where}", parameters)  # noqa: S608

    def run(self, work: Work) -> None:
        """Return when `work` is committed; raises its error, or LogUnavailable when nothing was written."""
        ticket = Ticket(work)
        self._queue.append(ticket)
        with self._lock:
            if not ticket.done:
                self._commit_queued()
        if ticket.error is not None:
            raise ticket.error

    def look_around(self) -> bool:
        """Notice what other processes committed; skipped when somebody looked a moment ago or is writing."""
        if self._database.in_memory:
            return False
        now = time.monotonic()
        if now - self._looked_s < LOOK_S or not self._lock.acquire(blocking=False):
            return False
        try:
            self._looked_s = now
            changed = self._reload_if_changed()
        except sqlite3.Error as error:
            raise LogUnavailable(f"cannot read the log {self._database.name}: {error}") from error
        finally:
            self._lock.release()
        if changed:
            self._tell(())
        return changed

    def refresh(self) -> None:
        """Know all that every process has committed until now."""
        with self._lock:
            try:
                changed = self._reload_if_changed()
            except sqlite3.Error as error:
                raise LogUnavailable(f"cannot read the log {self._database.name}: {error}") from error
        if changed:
            self._tell(())

    def partition_id(self, name: TopicPartition) -> int:
        """Return a partition's id; raises UserError when there is no such partition."""
        pid = self.ids.get(name)
        if pid is None:
            self.refresh()
            pid = self.ids.get(name)
        if pid is None:
            raise UserError(f"there is no partition {name.topic}[{name.partition}]: create the topics first")
        return pid

    def append(self, records: Sequence[Pending]) -> list[tuple[int, int]]:
        """Insert records inside the transaction; returns (offset, append time in ms) of each."""
        now_ms = time.time_ns() // 1_000_000
        moved, places = self._moved, self.places
        landed: list[tuple[int, int]] = []
        rows: list[Any] = []
        for pid, topic, partition, key, value, headers in records:
            place = moved.get(pid) or places[pid]
            offset = place.next_offset
            stamp = now_ms if now_ms > place.last_ms else place.last_ms
            moved[pid] = Place(offset + 1, stamp)
            landed.append((offset, stamp))
            row_id = pid << OFFSET_BITS | offset
            rows += (row_id, stamp, key, value, pack_headers(headers))
            self._appended.append((row_id, LogRecord(topic, partition, offset, stamp, key, value, headers)))
        self._insert(rows, len(records))
        return landed

    def restore(self, pid: int, records: Sequence[LogRecord], end: int) -> None:
        """Insert records of a partition inside the transaction, where and when they say; it ends at `end`."""
        next_offset, last_ms = self._moved.get(pid) or self.places[pid]
        rows: list[Any] = []
        for record in records:
            if record.offset < next_offset:
                where = f"{record.topic}[{record.partition}]"
                raise UserError(f"{where} ends at {next_offset}: offset {record.offset} is taken")
            next_offset, last_ms = record.offset + 1, max(last_ms, record.timestamp_ms)
            row_id = pid << OFFSET_BITS | record.offset
            rows += (row_id, record.timestamp_ms, record.key, record.value, pack_headers(record.headers))
        self._moved[pid] = Place(max(next_offset, end), last_ms)
        self._insert(rows, len(records))

    def _insert(self, rows: list[Any], count: int) -> None:
        at = 0
        for size in _ROWS:
            while count >= size:
                self.connection.execute(_INSERTS[size], rows[at : at + 5 * size])
                at += 5 * size
                count -= size

    def _commit_queued(self) -> None:
        tickets = []
        while self._queue:
            tickets.append(self._queue.popleft())
        durable = any(ticket.work.durable for ticket in tickets)
        try:
            groups_changed = self._transact(tickets, durable)
            if groups_changed:
                self._reload()
        except BaseException as error:
            self._give_up(tickets, error)
            if not isinstance(error, sqlite3.Error):
                raise
            return
        touched = self._publish()
        for ticket in tickets:
            ticket.done = True
        if touched or groups_changed:
            self._tell(() if groups_changed else touched)

    def _transact(self, tickets: list[Ticket], durable: bool) -> bool:
        self._set_synchronous("FULL" if durable and not self._database.in_memory else "NORMAL")
        self.connection.execute("BEGIN IMMEDIATE")
        changed = self._reload_if_changed()
        for ticket in tickets:
            try:
                ticket.work.apply(self)
            except HeadgateError as error:
                ticket.error = error
        if self._moved:
            self._save_places()
        self.connection.execute("COMMIT")
        changed, self._changed = changed or self._changed, False
        return changed

    def _save_places(self) -> None:
        rows = [(place.next_offset, place.last_ms, pid) for pid, place in self._moved.items()]
        self.connection.executemany("UPDATE partitions SET next_offset = ?, last_ms = ? WHERE id = ?", rows)

    def _give_up(self, tickets: list[Ticket], cause: BaseException) -> None:
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        self._moved = {}
        self._appended.clear()
        self._changed = False
        self._version = -1
        for ticket in tickets:
            ticket.done = True
            ticket.error = LogUnavailable(f"cannot write the log {self._database.name}: {cause}")

    def _publish(self) -> set[int]:
        """Show what is now durable to the readers of this process."""
        if not self._moved:
            return set()
        for row_id, record in self._appended:
            size = len(record.value or b"") + _RECORD_OVERHEAD_BYTES
            self.tail[row_id] = record
            self._tail_ids.append((row_id, size))
            self._tail_bytes += size
        self._appended.clear()
        while self._tail_bytes > TAIL_BYTES or len(self._tail_ids) > TAIL_RECORDS:
            row_id, size = self._tail_ids.popleft()
            self._tail_bytes -= size
            self.tail.pop(row_id, None)
        self.places.update(self._moved)
        touched = set(self._moved)
        self._moved = {}
        return touched

    def _tell(self, touched: Iterable[int]) -> None:
        for listener in tuple(self.listeners):
            listener(touched)

    def _set_synchronous(self, mode: str) -> None:
        if self._synchronous != mode:
            self.connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def _reload_if_changed(self) -> bool:
        """Reload when another process has committed; own commits do not change the version."""
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._reload()
        self._version = version
        return True

    def _reload(self) -> None:
        """Read where every partition ends, as one row: each row gives up the interpreter lock once."""
        (text,) = self.connection.execute(_PLACES).fetchone()
        places = [tuple(map(int, part.split(":"))) for part in text.split(",")] if text else []
        if any(pid not in self.names for pid, _, _ in places):
            self._read_names()
        for pid, next_offset, last_ms in places:
            self.places[pid] = Place(next_offset, last_ms)
        self.generations = dict(self.connection.execute("SELECT name, generation FROM groups").fetchall())

    def _read_names(self) -> None:
        rows = self.connection.execute("SELECT id, topic, partition FROM partitions").fetchall()
        for pid, topic, partition in rows:
            name = TopicPartition(topic, partition)
            self.names[pid] = name
            self.ids[name] = pid


_PLACES: Final = "SELECT group_concat(id || ':' || next_offset || ':' || last_ms) FROM partitions"
_INSERTS: Final = {
    size: f"INSERT INTO records VALUES {','.join(['(?,?,?,?,?)'] * size)}"  # noqa: S608
    for size in _ROWS
}
