"""The Kafka adapter's consumer: a member of a KIP-848 group, and a reader outside any group.

Assignment callbacks are incremental. Where a partition begins is decided here and said to the client: what
`on_assign` chose, else what the group has committed, else the beginning.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException

from headgate_graphs.errors import LogUnavailable, PartitionLost, UserError
from headgate_streams.kafka.clients import (
    ANSWER_S,
    CONSUMER,
    READER,
    Troubles,
    client_logger,
    kafka_error,
    meaning,
)
from headgate_streams.kafka.polling import Poller
from headgate_streams.port import Committed, LogRecord, OnAssign, OnRevoke, TopicPartition

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

_STALE_PAUSE_S: Final = 0.02
"""A stale epoch is cured by the next heartbeat, which the client sends by itself."""


class KafkaConsumer:
    """A member of a group. Heartbeats come from the client's own thread; all else from the owner's."""

    def __init__(self, bootstrap: str, options: Mapping[str, str], group: str) -> None:
        self._group = group
        self._troubles = Troubles(bootstrap)
        configuration = {**CONSUMER, "bootstrap.servers": bootstrap, "group.id": group, **options}
        self._client = Consumer({**configuration, "error_cb": self._troubles}, logger=client_logger)
        self._poller = Poller(self._client)
        self._owned: frozenset[TopicPartition] = frozenset()
        self._on_assign: OnAssign | None = None
        self._on_revoke: OnRevoke | None = None
        self._is_open = True

    def subscribe(
        self, topics: Sequence[str], on_assign: OnAssign | None = None, on_revoke: OnRevoke | None = None
    ) -> None:
        """Join the group.

        Raises:
            UserError: A topic does not exist.
            LogUnavailable: No broker answered.
        """
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        existing = self._existing_topics()
        missing = sorted(set(topics) - existing)
        if missing:
            raise UserError(f"there is no topic {', '.join(missing)}: create the topics first")
        self._client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _existing_topics(self) -> set[str]:
        try:
            return set(self._client.list_topics(timeout=ANSWER_S).topics)
        except KafkaException as exception:
            self._client.poll(0)  # the reason waits in the client's queue
            raise self._troubles.unavailable("to a subscription") from exception

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there; assignment callbacks run in here."""
        return self._poller.poll(timeout_s, max_records)

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit and wait for the answer.

        The broker refuses a member that it has fenced; that a partition is still this member's is checked
        here, as a broker need not look at that.
        """
        if not offsets:
            return
        wanted = [
            confluent_kafka.TopicPartition(tp.topic, tp.partition, committed.offset, committed.metadata)
            for tp, committed in offsets.items()
        ]
        self._while_stale(lambda: self._commit_once(wanted, offsets.keys()), "to a commit")

    def _commit_once(self, wanted: list[Any], partitions: Iterable[TopicPartition]) -> None:
        if not self._owned.issuperset(partitions):
            raise PartitionLost(f"group {self._group}: a partition to commit is not assigned to this member")
        for answer in self._client.commit(offsets=wanted, asynchronous=False) or ():
            if answer.error is not None:
                raise KafkaException(answer.error)

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Return the group's positions, from the coordinator."""
        asked = [confluent_kafka.TopicPartition(tp.topic, tp.partition) for tp in partitions]
        if not asked:
            return {}
        answers = self._while_stale(lambda: self._committed_once(asked), "for committed offsets")
        return {
            TopicPartition(answer.topic, answer.partition): (
                Committed(answer.offset, answer.metadata or "") if answer.offset >= 0 else None
            )
            for answer in answers
        }

    def _committed_once(self, asked: list[Any]) -> list[Any]:
        answers: list[Any] = self._client.committed(asked, timeout=ANSWER_S)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return answers

    def _while_stale(self, ask: Callable[[], _T], doing: str) -> _T:
        """Ask again while the broker says that the member's epoch is not the newest, for a bounded time."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                return ask()
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
                    raise self._troubles.unavailable(doing) from exception
                if error.code() != KafkaError.STALE_MEMBER_EPOCH:
                    raise meaning(error, f"group {self._group}") from exception
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"group {self._group}: the member's epoch stays stale"
                    ) from exception
            time.sleep(_STALE_PAUSE_S)

    def assignment(self) -> frozenset[TopicPartition]:
        """Return what this member owns."""
        return self._owned

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching; partitions that are no longer owned are skipped."""
        self._client.pause(self._still_owned(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch again; partitions that are no longer owned are skipped."""
        self._client.resume(self._still_owned(partitions))

    def _still_owned(self, partitions: Iterable[TopicPartition]) -> list[confluent_kafka.TopicPartition]:
        return [confluent_kafka.TopicPartition(*tp) for tp in partitions if tp in self._owned]

    def close(self) -> None:
        """Leave the group; on_revoke is called from here."""
        if not self._is_open:
            return
        self._is_open = False
        self._client.close()
        if self._owned:
            self._tell_revoked(self._owned)

    def _assigned(self, client: Consumer, added: list[Any]) -> None:
        names = sorted(TopicPartition(tp.topic, tp.partition) for tp in added)
        chosen = self._on_assign(names) if self._on_assign is not None else {}
        committed = self.committed(tp for tp in names if tp not in chosen)
        client.incremental_assign(
            [confluent_kafka.TopicPartition(*tp, _start(tp, chosen, committed)) for tp in names]
        )
        self._owned |= frozenset(names)

    def _revoked(self, client: Consumer, removed: list[Any]) -> None:
        try:
            self._tell_revoked(TopicPartition(tp.topic, tp.partition) for tp in removed)
        finally:
            client.incremental_unassign(removed)

    def _lost(self, client: Consumer, removed: list[Any]) -> None:
        _logger.warning("group %s: lost %d partitions; joining again", self._group, len(removed))
        self._revoked(client, removed)

    def _tell_revoked(self, partitions: Iterable[TopicPartition]) -> None:
        gone = sorted(frozenset(partitions) & self._owned)
        try:
            if gone and self._on_revoke is not None:
                self._on_revoke(gone)
        finally:
            self._owned -= frozenset(gone)


def _start(
    tp: TopicPartition,
    chosen: Mapping[TopicPartition, int],
    committed: Mapping[TopicPartition, Committed | None],
) -> int:
    if tp in chosen:
        return chosen[tp]
    position = committed[tp]
    return OFFSET_BEGINNING if position is None else position.offset


class KafkaReader:
    """Reads chosen partitions; the group it must name is never joined."""

    def __init__(self, bootstrap: str, options: Mapping[str, str]) -> None:
        configuration = {
            **READER,
            "bootstrap.servers": bootstrap,
            "group.id": f"headgate-reader-{uuid.uuid4().hex}",
            **options,
        }
        configuration["group.protocol"] = "classic"
        self._troubles = Troubles(bootstrap)
        self._client = Consumer({**configuration, "error_cb": self._troubles}, logger=client_logger)
        self._poller = Poller(self._client)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from these offsets."""
        self._client.assign([confluent_kafka.TopicPartition(*tp, offset) for tp, offset in positions.items()])

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there."""
        return self._poller.poll(timeout_s, max_records)

    def close(self) -> None:
        """Close the client."""
        self._client.close()
