"""The embedded log's SQLite file: its tables, its two connections, and how rows and records map."""

from __future__ import annotations

import sqlite3
import struct
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_streams.port import Headers

OFFSET_BITS: Final = 44
"""A record's row id is partition id << 44 | offset, so that one partition's records lie side by side."""
BUSY_S: Final = 10.0
"""How long to wait for another process's transaction before the log counts as unavailable."""
_SCHEMA_VERSION: Final = 1
_WAL_PAGES: Final = 4_000
"""Copy the write-ahead log into the file after 16 MB: seldom for speed, small to recover fast."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, config TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0, last_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition));
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    id INTEGER PRIMARY KEY AUTOINCREMENT, group_name TEXT NOT NULL, topics TEXT NOT NULL,
    seen_ms INTEGER NOT NULL, process_id INTEGER NOT NULL, process_space TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS owners (
    group_name TEXT NOT NULL, partition_id INTEGER NOT NULL, member_id INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commits (
    group_name TEXT NOT NULL, partition_id INTEGER NOT NULL,
    next_offset INTEGER NOT NULL, metadata TEXT NOT NULL,
    PRIMARY KEY (group_name, partition_id)) WITHOUT ROWID;
"""


class Database:
    """One connection that writes and one that reads; in memory they are the same one."""

    def __init__(self, path: Path | str) -> None:
        """Open the file at `path`, making it and its directory; ":memory:" keeps everything in this process.

        Raises:
            LogUnavailable: The file cannot be opened or made.
            UserError: The file was written by a newer version.
        """
        self.in_memory = str(path) == ":memory:"
        self.name = str(path)
        self.write_lock = threading.Lock()
        try:
            if not self.in_memory:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self.writing = self._connect()
            _prepare(self.writing, self.name)
            self.reading = self.writing if self.in_memory else self._connect()
        except (OSError, sqlite3.Error) as error:
            raise LogUnavailable(f"cannot open the log {self.name}: {error}") from error
        self._read_lock = self.write_lock if self.in_memory else threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.name, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )

    def read(self, statement: str, parameters: Sequence[Any] = (), max_bytes: int | None = None) -> list[Any]:
        """Return the rows, up to the one that brings the length of the fourth columns above `max_bytes`."""
        try:
            with self._read_lock:
                cursor = self.reading.execute(statement, parameters)
                if max_bytes is None:
                    return cursor.fetchall()
                rows, size = [], 0
                for row in cursor:
                    rows.append(row)
                    size += len(row[3] or b"")
                    if size > max_bytes:
                        break
                cursor.close()
                return rows
        except sqlite3.Error as error:
            raise LogUnavailable(f"cannot read the log {self.name}: {error}") from error

    def beginning(self, partition_id: int, end: int) -> int:
        """Return the first offset of a partition that ends at `end`; `end` when it holds nothing."""
        base = partition_id << OFFSET_BITS
        ((first,),) = self.read("SELECT MIN(id) FROM records WHERE id >= ? AND id < ?", (base, base + end))
        return end if first is None else int(first) - base

    def close(self) -> None:
        """Close both connections; waits for what is under way."""
        with self.write_lock:
            self.writing.close()
        if not self.in_memory:
            with self._read_lock:
                self.reading.close()


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    _enable_wal(connection)
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        connection.close()
        raise UserError(f"the log {name} was written by a newer headgate (format {version}); use that one")
    if version == _SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; two processes that make the file at once get in each other's way here."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@lru_cache(maxsize=4_096)
def pack_headers(headers: Headers) -> bytes:
    """Return headers as bytes: for each, the lengths of name and value, then both."""
    parts = []
    for name, value in headers:
        raw = name.encode()
        parts.append(struct.pack("<II", len(raw), len(value)) + raw + value)
    return b"".join(parts)


@lru_cache(maxsize=4_096)
def unpack_headers(packed: bytes) -> Headers:
    """Return what `pack_headers` packed."""
    headers, at = [], 0
    while at < len(packed):
        name_size, value_size = struct.unpack_from("<II", packed, at)
        middle = at + 8 + name_size
        headers.append((packed[at + 8 : middle].decode(), packed[middle : middle + value_size]))
        at = middle + value_size
    return tuple(headers)
