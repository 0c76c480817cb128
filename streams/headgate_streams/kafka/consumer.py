"""The Kafka adapter's consumer: a member of a KIP-848 group, and a reader outside any group.

Assignment callbacks are incremental. Where a partition begins is decided here and said to the client: what
`on_assign` chose, else what the group has committed, else the beginning.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException

from headgate_graphs.errors import PartitionLost, UserError
from headgate_streams.kafka.bounded import BoundedCalls
from headgate_streams.kafka.clients import ANSWER_S, CONSUMER, READER, kafka_error, meaning, metadata
from headgate_streams.kafka.material import Held, Material
from headgate_streams.kafka.polling import Poller
from headgate_streams.port import Committed, LogRecord, OnAssign, OnRevoke, TopicPartition

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

AGAIN_S: Final = 0.02
"""Pause before asking again: a stale epoch is cured by the next heartbeat, a moved coordinator by a query."""
AGAIN: Final = frozenset(
    {
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._WAIT_COORD,
    }
)


_NOBODYS_GROUP: Final = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED})
"""What a reader need not hear: that it may not join the group which it does not want to join."""


_CALLS: Final = "headgate-kafka-calls"


class KafkaConsumer:
    """A member of a group. Heartbeats come from the client's own thread; all else from the owner's."""

    def __init__(self, material: Material, group: str) -> None:
        self._group = group
        self._held = Held(Consumer, {**CONSUMER, "group.id": group}, material)
        self._troubles = self._held.troubles
        self._client = self._held.client
        self._topics: list[str] = []
        self._poller = Poller(self._client)
        self._owned: frozenset[TopicPartition] = frozenset()
        self._lost: frozenset[TopicPartition] = frozenset()
        self._on_assign: OnAssign | None = None
        self._on_revoke: OnRevoke | None = None
        self._calls = BoundedCalls(_CALLS)
        self._is_open = True
        self._is_in_callback = False

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
            names = ", ".join(missing)
            raise UserError(
                f"there is no topic {names}, or it is hidden from this user: create the topics first"
            )
        self._topics = list(topics)
        self._join()

    def _join(self) -> None:
        self._client.subscribe(
            self._topics, on_assign=self._on_assigned, on_revoke=self._on_revoked, on_lost=self._on_lost
        )

    def _existing_topics(self) -> set[str]:
        return set(metadata(self._client, self._troubles, "to a subscription").topics)

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there; assignment callbacks run in here. Nothing comes while a commit is out."""
        if not self._calls.is_free(timeout_s):
            if (heir := self._held.heir(stuck_s=self._calls.late_s)) is not None:
                self._give_way_to(heir)
            return []
        if (heir := self._held.heir()) is not None:
            self._give_way_to(heir)
        if (refusal := self._troubles.refusal(for_s=ANSWER_S)) is not None:
            raise refusal
        self._renew_when_stale()
        return self._poller.poll(timeout_s, max_records)

    def _renew_when_stale(self) -> None:
        """Leave the group and join it again with a new client, when the files of the old one have changed.

        Partitions are given up and come back as in any rebalance.
        """
        if not self._topics or not self._held.is_stale() or (client := self._held.successor()) is None:
            return
        old, self._held.client = self._client, client
        try:
            self._tell_revoked(self._owned)
        finally:
            close_in_time(old, self._calls)
            self._client, self._calls = client, BoundedCalls(_CALLS)
            self._poller = Poller(client)
        self._join()

    def _give_way_to(self, heir: Consumer) -> None:
        """Go on with another client; the group gives the old one's partitions away when its session ends."""
        old, calls = self._client, self._calls
        self._held.client = self._client = heir
        self._calls, self._poller = BoundedCalls(_CALLS), Poller(heir)
        calls.end_with(old.close)
        self._lost = self._owned
        try:
            self._tell_revoked(self._owned)
        finally:
            self._lost = frozenset()
        if self._topics:
            self._join()

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
        if not self._owned.issuperset(offsets) or not self._lost.isdisjoint(offsets):
            raise PartitionLost(f"group {self._group}: a partition to commit is not assigned to this member")
        self._ask(lambda: self._client.commit(offsets=wanted, asynchronous=False), "to a commit")

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Return the group's positions, from the coordinator."""
        asked = [confluent_kafka.TopicPartition(tp.topic, tp.partition) for tp in partitions]
        if not asked:
            return {}
        answers = self._ask(lambda: self._client.committed(asked, timeout=ANSWER_S), "with committed offsets")
        return {
            TopicPartition(answer.topic, answer.partition): (
                Committed(answer.offset, answer.metadata or "") if answer.offset >= 0 else None
            )
            for answer in answers
        }

    def _ask(self, question: Callable[[], list[Any] | None], doing: str) -> list[Any]:
        """Return the coordinator's answers, asking again for a bounded time while that may help."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                answers = self._call(question, deadline - time.monotonic()) or []
                error = next((answer.error for answer in answers if answer.error is not None), None)
                if error is None:
                    return answers
            except TimeoutError:
                raise self._troubles.unavailable(doing) from None
            except KafkaException as exception:
                error = kafka_error(exception)
            if error.code() not in AGAIN or time.monotonic() + AGAIN_S > deadline:
                raise meaning(error, f"group {self._group}")
            time.sleep(AGAIN_S)

    def _call(self, question: Callable[[], _T], timeout_s: float) -> _T:
        # Inside a callback the client answers no other thread; the broker has just spoken there, so a call
        # on this thread will hardly hang.
        return question() if self._is_in_callback else self._calls.call(question, timeout_s)

    def assignment(self) -> frozenset[TopicPartition]:
        """Return what this member owns."""
        return self._owned

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching; partitions that are no longer owned are skipped."""
        self._settle()
        self._client.pause(self._still_owned(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch again; partitions that are no longer owned are skipped."""
        self._settle()
        self._client.resume(self._still_owned(partitions))

    def _settle(self) -> None:
        if not self._is_in_callback and not self._calls.is_free(ANSWER_S):
            raise self._troubles.unavailable("to an earlier commit")

    def _still_owned(self, partitions: Iterable[TopicPartition]) -> list[confluent_kafka.TopicPartition]:
        return [confluent_kafka.TopicPartition(*tp) for tp in partitions if tp in self._owned]

    def close(self) -> None:
        """Leave the group; on_revoke is called from here."""
        if not self._is_open:
            return
        self._is_open = False
        # Told here, where a commit still counts and is waited for, and not from inside the client's close.
        try:
            self._tell_revoked(self._owned)
        finally:
            close_in_time(self._client, self._calls)

    @contextmanager
    def _callback(self) -> Iterator[None]:
        self._is_in_callback = True
        try:
            yield
        finally:
            self._is_in_callback = False

    def _on_assigned(self, client: Consumer, added: list[Any]) -> None:
        if client is not self._client:
            return  # one that has given way hands nothing out any more
        names = sorted(TopicPartition(tp.topic, tp.partition) for tp in added)
        with self._callback():
            chosen = self._on_assign(names) if self._on_assign is not None else {}
            committed = self.committed(tp for tp in names if tp not in chosen)
            client.incremental_assign(
                [confluent_kafka.TopicPartition(*tp, _start(tp, chosen, committed)) for tp in names]
            )
        self._owned |= frozenset(names)

    def _on_revoked(self, client: Consumer, removed: list[Any]) -> None:
        if client is not self._client:
            return  # what is this member's now is the other client's
        with self._callback():
            try:
                self._tell_revoked(TopicPartition(tp.topic, tp.partition) for tp in removed)
            finally:
                client.incremental_unassign(removed)

    def _on_lost(self, client: Consumer, removed: list[Any]) -> None:
        if client is not self._client:
            return
        _logger.warning("group %s: lost %d partitions; joining again", self._group, len(removed))
        self._lost = frozenset(TopicPartition(tp.topic, tp.partition) for tp in removed)
        try:
            self._on_revoked(client, removed)
        finally:
            self._lost = frozenset()

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
    """Reads chosen partitions; the group it must name is never joined, so nobody need allow it."""

    def __init__(self, material: Material) -> None:
        named = {"group.id": f"headgate-reader-{uuid.uuid4().hex}"}
        # Last, so that no option can make it a member of a group of the new protocol.
        self._held = Held(partial(_classic, Consumer), {**READER, **named}, material)
        self._client = self._held.client
        self._poller = Poller(self._client, _NOBODYS_GROUP)
        self._positions: dict[TopicPartition, int] = {}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from these offsets."""
        self._positions = dict(positions)
        self._client.assign([confluent_kafka.TopicPartition(*tp, offset) for tp, offset in positions.items()])

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there."""
        if (refusal := self._held.troubles.refusal(for_s=ANSWER_S)) is not None:
            raise refusal
        if (client := self._held.replacement()) is not None:
            self._go_on_with(client)
        records = self._poller.poll(timeout_s, max_records)
        for record in records:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return records

    def _go_on_with(self, client: Consumer) -> None:
        BoundedCalls(_CALLS).end_with(self._client.close)
        self._held.client = self._client = client
        self._poller = Poller(client, _NOBODYS_GROUP)
        self.assign(self._positions)

    def close(self) -> None:
        """Close the client."""
        close_in_time(self._client, BoundedCalls("headgate-kafka-close"))


def _classic(
    kind: Callable[..., Consumer], configuration: Mapping[str, Any], *, logger: logging.Logger
) -> Consumer:
    return kind({**configuration, "group.protocol": "classic"}, logger=logger)


def close_in_time(client: Consumer, calls: BoundedCalls) -> None:
    """Close a client, or leave it to its thread when the broker does not answer."""
    try:
        calls.call(client.close, ANSWER_S)
    except TimeoutError:
        _logger.warning("the broker did not answer to a close within %.0f s; left behind", ANSWER_S)
    finally:
        calls.close()
