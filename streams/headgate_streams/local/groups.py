"""Consumer groups of the embedded log, across threads and processes; every step is one transaction.

A member row says who is alive; an owner row says whose a partition is. Nobody takes a partition that has an
owner row, and only its owner (after its revoke callback) or the death of its owner removes the row: so no
partition ever has two owners. Members converge on equal shares by giving up what is above their share and
taking what is free up to it.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headgate_graphs.errors import PartitionLost
from headgate_streams.local.database import Database
from headgate_streams.local.writer import Writer
from headgate_streams.port import Committed

SESSION_MS: Final = 6_000
"""A member that was not seen for this long is dead; the same as the broker's smallest session timeout."""


def now_ms() -> int:
    """Return the machine's monotonic clock, which all its processes share; it starts anew at boot."""
    return time.monotonic_ns() // 1_000_000


def process_space() -> str:
    """Return what makes process ids comparable: two processes with the same text see each other's ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "host"


class Join:
    """Make a member; `member_id` is set when done."""

    durable = False

    def __init__(self, group: str, topics: Sequence[str]) -> None:
        self._group = group
        self._topics = json.dumps(list(topics))
        self.member_id = -1

    def apply(self, writer: Writer) -> None:
        """Insert the member."""
        writer.connection.execute("INSERT OR IGNORE INTO groups VALUES (?, 0)", (self._group,))
        cursor = writer.connection.execute(
            "INSERT INTO members (group_name, topics, seen_ms, process_id, process_space) VALUES (?,?,?,?,?)",
            (self._group, self._topics, now_ms(), os.getpid(), process_space()),
        )
        self.member_id = cursor.lastrowid or -1
        writer.changed(self._group)


class Beat:
    """Say that members are alive."""

    durable = False

    def __init__(self, member_ids: Sequence[int]) -> None:
        self._member_ids = member_ids

    def apply(self, writer: Writer) -> None:
        """Touch the member rows; one that is gone stays gone, which its owner finds out by itself."""
        rows = [(now_ms(), member_id) for member_id in self._member_ids]
        writer.connection.executemany("UPDATE members SET seen_ms = ? WHERE id = ?", rows)


class Balance:
    """Bury the dead, take what is free up to this member's share, find what is above it."""

    durable = False

    def __init__(self, group: str, member_id: int) -> None:
        self._group = group
        self._member_id = member_id
        self.is_member = True
        self.surplus: list[int] = []
        """Owned partitions that others should have."""
        self.taken: dict[int, Committed | None] = {}
        """Partitions taken now, with what the group has committed of them."""

    def apply(self, writer: Writer) -> None:
        """Set `is_member`, `surplus` and `taken`."""
        members = self._living(writer)
        self.is_member = self._member_id in members
        if not self.is_member:
            return
        owners = dict(
            _rows(writer, "SELECT partition_id, member_id FROM owners WHERE group_name = ?", self._group)
        )
        taken: list[int] = []
        for topic in members[self._member_id]:
            subscribed = [member for member, topics in members.items() if topic in topics]
            self._share(writer, topic, subscribed, owners, taken)
        if taken:
            self._take(writer, taken)

    def _living(self, writer: Writer) -> dict[int, list[str]]:
        """Return the topics of each living member, oldest first; the dead lose their rows."""
        rows = _rows(
            writer,
            "SELECT id, topics, seen_ms, process_id, process_space FROM members"
            " WHERE group_name = ? ORDER BY id",
            self._group,
        )
        dead = [row[0] for row in rows if row[0] != self._member_id and _is_dead(*row[2:])]
        for member_id in dead:
            remove_member(writer, self._group, member_id)
        return {row[0]: json.loads(row[1]) for row in rows if row[0] not in dead}

    def _share(
        self, writer: Writer, topic: str, subscribed: list[int], owners: Mapping[int, int], taken: list[int]
    ) -> None:
        partitions = [pid for pid, name in writer.names.items() if name.topic == topic]
        # The first of a topic that has fewer partitions than members differs by topic.
        rank = (subscribed.index(self._member_id) + zlib.crc32(topic.encode())) % len(subscribed)
        share, extra = divmod(len(partitions), len(subscribed))
        share += rank < extra
        mine = sorted(pid for pid in partitions if owners.get(pid) == self._member_id)
        self.surplus += mine[share:]
        free = sorted(pid for pid in partitions if pid not in owners)
        taken += free[: max(0, share - len(mine))]

    def _take(self, writer: Writer, taken: list[int]) -> None:
        rows = [(self._group, pid, self._member_id) for pid in taken]
        writer.connection.executemany("INSERT INTO owners VALUES (?, ?, ?)", rows)
        commits = read_commits(writer, self._group)
        self.taken = {pid: commits.get(pid) for pid in taken}


class Release:
    """Give up partitions."""

    durable = False

    def __init__(self, group: str, member_id: int, partitions: Sequence[int]) -> None:
        self._group = group
        self._member_id = member_id
        self._partitions = partitions

    def apply(self, writer: Writer) -> None:
        """Delete the owner rows that are still this member's."""
        rows = [(self._group, pid, self._member_id) for pid in self._partitions]
        writer.connection.executemany(
            "DELETE FROM owners WHERE group_name = ? AND partition_id = ? AND member_id = ?", rows
        )
        writer.changed(self._group)


class Leave:
    """End a membership."""

    durable = False

    def __init__(self, group: str, member_id: int) -> None:
        self._group = group
        self._member_id = member_id

    def apply(self, writer: Writer) -> None:
        """Delete the member and all it owns."""
        remove_member(writer, self._group, self._member_id)


class Commit:
    """Keep positions of partitions that this member owns."""

    durable = False
    """Not synced: a power failure may set a group back, and what is read again is dropped as a repeat."""

    def __init__(self, group: str, member_id: int, positions: Mapping[int, Committed]) -> None:
        self._group = group
        self._member_id = member_id
        self._positions = positions

    def apply(self, writer: Writer) -> None:
        """Write the positions; raises PartitionLost, and writes none, when one is not this member's."""
        marks = ",".join("?" * len(self._positions))
        (owned,) = writer.connection.execute(
            "SELECT count(*) FROM owners WHERE group_name = ? AND member_id = ?"  # noqa: S608
            f" AND partition_id IN ({marks})",
            (self._group, self._member_id, *self._positions),
        ).fetchone()
        if owned != len(self._positions):
            raise PartitionLost(f"group {self._group}: a partition to commit belongs to another member now")
        rows: list[Any] = []
        for pid, position in self._positions.items():
            rows += (self._group, pid, position.offset, position.metadata)
        values = ",".join(["(?,?,?,?)"] * len(self._positions))
        writer.connection.execute(f"INSERT OR REPLACE INTO commits VALUES {values}", rows)  # noqa: S608


def count_living(database: Database, group: str) -> int:
    """Return how many members of a group are alive; changes nothing."""
    rows = database.read(
        "SELECT seen_ms, process_id, process_space FROM members WHERE group_name = ?", (group,)
    )
    return sum(not _is_dead(*row) for row in rows)


def remove_member(writer: Writer, group: str, member_id: int) -> None:
    """Delete a member and what it owns, and let the others know."""
    writer.connection.execute("DELETE FROM members WHERE id = ?", (member_id,))
    writer.connection.execute("DELETE FROM owners WHERE group_name = ? AND member_id = ?", (group, member_id))
    writer.changed(group)


def read_commits(writer: Writer, group: str) -> dict[int, Committed]:
    """Return all that a group has committed."""
    rows = _rows(
        writer, "SELECT partition_id, next_offset, metadata FROM commits WHERE group_name = ?", group
    )
    return {pid: Committed(offset, metadata) for pid, offset, metadata in rows}


def _rows(writer: Writer, statement: str, *parameters: object) -> list[Any]:
    return writer.connection.execute(statement, parameters).fetchall()


def _is_dead(seen_ms: int, process_id: int, space: str) -> bool:
    age_ms = now_ms() - seen_ms
    # Seen in the future means seen before a reboot set the clock back.
    if age_ms > SESSION_MS or age_ms < -1_000:
        return True
    return space == process_space() and not _process_exists(process_id)


def _process_exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
