"""The embedded log's consumer: a member of a group, its assignment and its positions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headgate_graphs.errors import PartitionLost, UserError
from headgate_streams.local.database import Database
from headgate_streams.local.fetching import Fetcher
from headgate_streams.local.groups import Balance, Commit, Join, Leave, Release
from headgate_streams.local.heartbeats import Heartbeats
from headgate_streams.local.writer import Writer
from headgate_streams.port import Committed, LogRecord, OnAssign, OnRevoke, TopicPartition

_logger = logging.getLogger(__name__)

_BALANCE_S: Final = 1.0
"""How often a member looks for dead members when nothing else made it look."""
_POLL_LIMIT_S: Final = 300.0
"""A member that has not polled for this long counts as hung, and is no longer kept alive."""


class LocalConsumer:
    """A member of a group; see `groups` for how members share partitions."""

    def __init__(self, database: Database, writer: Writer, heartbeats: Heartbeats, group: str) -> None:
        self._database = database
        self._heartbeats = heartbeats
        self._writer = writer
        self._group = group
        self._fetcher = Fetcher(database, writer)
        self._topics: tuple[str, ...] = ()
        self._on_assign: OnAssign | None = None
        self._on_revoke: OnRevoke | None = None
        self._member_id: int | None = None
        self._owned: frozenset[TopicPartition] = frozenset()
        self._generation = -1
        self._balanced_s = 0.0
        self._polled_s = time.monotonic()

    def subscribe(
        self, topics: Sequence[str], on_assign: OnAssign | None = None, on_revoke: OnRevoke | None = None
    ) -> None:
        """Join the group at the next poll; raises UserError when a topic does not exist."""
        self._writer.refresh()
        missing = set(topics) - {name.topic for name in self._writer.ids}
        if missing:
            raise UserError(f"there is no topic {', '.join(sorted(missing))}: create the topics first")
        self._topics = tuple(topics)
        self._on_assign = on_assign
        self._on_revoke = on_revoke

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there, waiting for the first; balances the group on the way."""
        now = self._polled_s = time.monotonic()
        deadline = now + timeout_s
        while True:
            if self._topics and self._must_balance(now):
                self._balance()
            records = self._fetcher.fetch(max_records)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            self._fetcher.wait(min(left, _BALANCE_S))
            now = time.monotonic()

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit, checking in the same transaction that all of it is still owned."""
        if not offsets:
            return
        if self._member_id is None or not self._owned.issuperset(offsets):
            raise PartitionLost(f"group {self._group}: a partition to commit is not assigned to this member")
        positions = {self._writer.ids[tp]: position for tp, position in offsets.items()}
        self._writer.run(Commit(self._group, self._member_id, positions))

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Return the group's positions."""
        rows = self._database.read(
            "SELECT partition_id, next_offset, metadata FROM commits WHERE group_name = ?", (self._group,)
        )
        known = {row[0]: Committed(row[1], row[2]) for row in rows}
        return {tp: known.get(self._writer.partition_id(tp)) for tp in partitions}

    def assignment(self) -> frozenset[TopicPartition]:
        """Return what this member owns."""
        return self._owned

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Set the positions aside."""
        self._move(partitions, self._fetcher.positions, self._fetcher.paused)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Take the positions back."""
        self._move(partitions, self._fetcher.paused, self._fetcher.positions)

    def _move(
        self, partitions: Iterable[TopicPartition], source: dict[int, int], target: dict[int, int]
    ) -> None:
        for tp in partitions:
            pid = self._writer.ids.get(tp, -1)
            if pid in source:
                target[pid] = source.pop(pid)

    def close(self) -> None:
        """Leave the group."""
        self._fetcher.close()
        if self._member_id is None:
            return
        try:
            self._revoke(self._owned)
        finally:
            member_id, self._member_id = self._member_id, None
            self._heartbeats.let_go(member_id)
            self._writer.run(Leave(self._group, member_id))

    def is_polling(self) -> bool:
        """Whether this member's thread has polled lately; asked by the heartbeats."""
        return time.monotonic() - self._polled_s < _POLL_LIMIT_S

    def _group_changed(self) -> bool:
        return self._writer.generations.get(self._group, -1) != self._generation

    def _must_balance(self, now_s: float) -> bool:
        return self._member_id is None or now_s - self._balanced_s >= _BALANCE_S or self._group_changed()

    def _balance(self) -> None:
        """One round: join if need be, then give up the surplus, then take what is free."""
        if self._member_id is None:
            join = Join(self._group, self._topics)
            self._writer.run(join)
            self._member_id = join.member_id
            self._heartbeats.keep(join.member_id, self.is_polling)
        self._balanced_s = time.monotonic()
        self._generation = self._writer.generations.get(self._group, -1)
        work = Balance(self._group, self._member_id)
        self._writer.run(work)
        if not work.is_member:
            self._rejoin()
            return
        names = self._writer.names
        if work.surplus:
            self._revoke([names[pid] for pid in work.surplus])
            self._writer.run(Release(self._group, self._member_id, work.surplus))
        if work.taken:
            self._assign({names[pid]: committed for pid, committed in work.taken.items()})

    def _rejoin(self) -> None:
        """Somebody found this member dead: all it had is lost."""
        if self._member_id is not None:
            self._heartbeats.let_go(self._member_id)
        self._member_id = None
        lost = self._owned
        _logger.warning(
            "group %s: membership expired, %d partitions lost; joining again", self._group, len(lost)
        )
        self._revoke(lost)

    def _assign(self, taken: Mapping[TopicPartition, Committed | None]) -> None:
        chosen = self._on_assign(sorted(taken)) if self._on_assign is not None else {}
        for tp, committed in taken.items():
            pid, start = self._writer.ids[tp], committed.offset if committed is not None else None
            if (start := chosen.get(tp, start)) is None:
                start = self._database.beginning(pid, self._writer.places[pid].next_offset)
            self._fetcher.positions[pid] = start
        self._owned |= taken.keys()

    def _revoke(self, partitions: Iterable[TopicPartition]) -> None:
        gone = sorted(partitions)
        if not gone:
            return
        try:
            if self._on_revoke is not None:
                self._on_revoke(gone)
        finally:
            self._owned -= frozenset(gone)
            for tp in gone:
                self._fetcher.positions.pop(self._writer.ids[tp], None)
                self._fetcher.paused.pop(self._writer.ids[tp], None)
