"""One queue's input topic as this worker consumes it: shares, repeats, bad records, commits."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from headgate_graphs.errors import BadRecord, LogUnavailable, PartitionLost
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.codec import decode
from headgate_streams.crash import crash_point
from headgate_streams.flood import FloodLimit
from headgate_streams.port import Committed, Log, LogConsumer, LogRecord, TopicPartition
from headgate_workers.settings import WorkerSettings
from headgate_workers.share import Share
from headgate_workers.work import Work

_LOGGER = logging.getLogger(__name__)


class Intake:
    """A member of one queue's group. One thread, the consumer's."""

    def __init__(
        self,
        log: Log,
        consumer: LogConsumer,
        topic: str,
        expected: type[TaskInput] | type[PlanInput],
        on_bad: Callable[[LogRecord, BadRecord, Share], None],
        drain: Callable[[Sequence[Share]], None],
        settings: WorkerSettings,
    ) -> None:
        """Join the group.

        `on_bad` deals with a bad record; `drain` returns when shares that are taken away are settled, or
        time is up. A partition with more than `dead_letter_limit_per_minute` bad records is paused for a
        while.
        """
        self._log = log
        self._consumer = consumer
        self._expected = expected
        self._on_bad = on_bad
        self._drain = drain
        self._in_hand = settings.concurrency
        self._shares: dict[int, Share] = {}
        self._read: list[LogRecord] = []
        """Read, and not looked at before the shares are claimed."""
        self._must_hand_over = True
        self._flood = FloodLimit(settings.dead_letter_limit_per_minute)
        self._is_paused: bool | None = False
        self._run_prefix = secrets.token_hex(8)
        self._run_numbers = itertools.count(1)
        self.oldest_ms = 0
        """Append time of the oldest input of the last `take`."""
        consumer.subscribe([topic], self._assigned, self._revoked)

    def take(self, wait_s: float, room: int) -> list[Work]:
        """Return new work, at most `room`, waiting up to `wait_s` for the first.

        Without room the partitions are paused, and the group is served all the same. Repeats are dropped;
        bad records have been handed on. Raises LogUnavailable, and loses nothing by it.
        """
        self._hold_back(room <= 0)
        self._end_flood_pauses()
        # In its own line: a rebalance inside the poll puts another list in the place of `_read`.
        polled = self._consumer.poll(0.0 if room <= 0 else wait_s, max(room, 1))
        self._read.extend(polled)
        self._claim()
        read, self._read = self._read, []
        works: list[Work] = []
        for record in read:
            share = self._shares.get(record.partition)
            if share is None:
                continue  # taken away since it was fetched; its new owner reads it
            work = self._open(record, share)
            if work is not None:
                self.oldest_ms = min(self.oldest_ms, record.timestamp_ms) if works else record.timestamp_ms
                works.append(work)
        return works

    def commit(self) -> None:
        """Commit what is settled; a partition that is somebody else's is given up. Raises LogUnavailable."""
        ready = {s: c for s in self._shares.values() if (c := s.progress()) is not None}
        if ready:
            crash_point("worker-before-commit")
            self._commit(ready)

    def close(self, *, in_order: bool) -> None:
        """Leave the group; not in order, when the worker has failed, as if it had died."""
        self._must_hand_over = in_order
        self._consumer.close()

    def shares(self) -> list[Share]:
        """Return what this worker owns now."""
        return list(self._shares.values())

    def _open(self, record: LogRecord, share: Share) -> Work | None:
        try:
            received = decode(record, self._expected)
            work = Work(received, share, record.offset, f"{self._run_prefix}-{next(self._run_numbers)}")
            _check(work)
        except BadRecord as error:
            share.tracker.track(record.offset)
            self._on_bad(record, error, share)
            self._count_bad(share.partition)
            return None
        if not received.HasField("source"):
            share.tracker.track(record.offset)
        else:
            share.tracker.track(record.offset, received.source)
            if not share.seen.advance(received.source):
                share.tracker.done(record.offset)
                return None
        share.take_up(work)
        return work

    def _hold_back(self, must_pause: bool) -> None:
        if must_pause != self._is_paused:
            self._is_paused = must_pause
            partitions = {share.partition for share in self._shares.values()}
            if must_pause:
                self._consumer.pause(partitions)
            else:
                self._consumer.resume(partitions.difference(self._flood.paused()))

    def _count_bad(self, partition: TopicPartition) -> None:
        pause_s = self._flood.note(partition, time.monotonic())
        if pause_s:
            _LOGGER.warning("%s", self._flood.warning(partition, pause_s))
            self._consumer.pause([partition])

    def _end_flood_pauses(self) -> None:
        over = self._flood.over(time.monotonic())
        if over and not self._is_paused:
            self._consumer.resume(over)

    def _claim(self) -> None:
        """Say that new partitions are this worker's, before anything of them begins."""
        new = {share: share.claim() for share in self._shares.values() if not share.is_claimed}
        if new:
            self._commit(new)

    def _commit(self, ready: Mapping[Share, Committed]) -> None:
        try:
            self._commit_all(ready)
        except PartitionLost:
            for share, committed in ready.items():
                self._commit_one(share, committed)

    def _commit_all(self, ready: Mapping[Share, Committed]) -> None:
        self._consumer.commit({share.partition: committed for share, committed in ready.items()})
        for share, committed in ready.items():
            share.committed_ok(committed)

    def _commit_one(self, share: Share, committed: Committed) -> None:
        try:
            self._commit_all({share: committed})
        except PartitionLost as error:
            _LOGGER.warning("%s-%d is somebody else's now: %s", *share.partition, error)
            self._lose([share])

    def _assigned(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        known = self._consumer.committed(partitions)
        ends = self._log.offsets(partitions)
        for partition in partitions:
            share = Share(partition, known.get(partition), ends[partition], self._in_hand)
            self._shares[partition.partition] = share
            if share.is_feared:
                _LOGGER.warning(
                    "%s-%d: its last workers died with nothing done; its first inputs are run one by one",
                    *partition,
                )
        if self._is_paused:
            self._is_paused = None  # the new ones are not: say it to all of them again
        return {}

    def _revoked(self, partitions: Sequence[TopicPartition]) -> None:
        shares = [s for p in partitions if (s := self._shares.get(p.partition)) is not None]
        self._drain(shares)
        try:
            if self._must_hand_over:
                self._commit({share: share.farewell() for share in shares if share.is_claimed})
            else:
                self.commit()
        except LogUnavailable as error:
            _LOGGER.warning("what was finished could not be committed, it will be done again: %s", error)
        finally:
            self._lose(shares)

    def _lose(self, shares: Sequence[Share]) -> None:
        gone = {share.partition for share in shares}
        self._flood.forget(gone)
        self._read = [record for record in self._read if (record.topic, record.partition) not in gone]
        for share in shares:
            share.is_lost = True
            self._shares.pop(share.partition.partition, None)


def _check(work: Work) -> None:
    if not (work.execution_id and work.lifetime_id and work.node_type):
        raise BadRecord("DECODE", "an input without execution_id, lifetime_id or node_type")
