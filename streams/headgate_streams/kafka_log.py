"""The log on Kafka 4 brokers: serves the log port with the confluent client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports these without saying so
    AdminClient,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from headgate_graphs.errors import HeadgateError, LogUnavailable, UserError
from headgate_streams.kafka.clients import ANSWER_S, OPEN, SHARED, Troubles, kafka_error, meaning, metadata
from headgate_streams.kafka.consumer import AGAIN, AGAIN_S, KafkaConsumer, KafkaReader
from headgate_streams.kafka.material import Held, Material
from headgate_streams.kafka.producer import KafkaProducer
from headgate_streams.port import TopicDescription, TopicPartition
from headgate_streams.security import KafkaSecurity
from headgate_streams.topics import check_partitions

_T = TypeVar("_T")
_NOT_THERE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._NOENT}
)
_PRODUCER_ONLY: Final = frozenset({"message.max.bytes", "linger.ms", "compression.type", "batch.size"})
"""Options that only the producer understands, or should get."""
_LEADERS_S: Final = 30.0
"""How long the partitions of new topics may take to answer."""
_64 = (1 << 64) - 1
"""Half of a topic id; the client gives it with a sign."""
_MOVED: Final = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError._NOENT,
    }
)


class _LeaderMoved(LogUnavailable):
    """A partition has another leader than the client knows of."""


class KafkaLog:
    """A Kafka cluster. Nothing is asked of it before the first use."""

    def __init__(
        self, bootstrap: str, options: Mapping[str, str] | None = None, security: KafkaSecurity = OPEN
    ) -> None:
        """Take the bootstrap servers and further client options, which win over ours.

        Raises:
            UserError: A file that `security` names cannot be read.
        """
        given = dict(options or {})
        reading = {name: value for name, value in given.items() if name not in _PRODUCER_ONLY}
        self._producing = Material(bootstrap, given, security)
        self._reading = Material(bootstrap, reading, security)
        self._lock = threading.Lock()
        self._held: Held[AdminClient] | None = None
        self._before: AdminClient | None = None
        """The one that was replaced: another thread may still wait for its answer."""

    @property
    def _troubles(self) -> Troubles:
        return self._admin_held().troubles

    def producer(self, *, gather_ms: int | None = None) -> KafkaProducer:
        """Return a new producer."""
        return KafkaProducer(self._producing, gather_ms)

    def consumer(self, group: str) -> KafkaConsumer:
        """Return a new member of `group`, once it subscribes."""
        return KafkaConsumer(self._reading, group)

    def reader(self) -> KafkaReader:
        """Return a new reader outside any group."""
        return KafkaReader(self._reading)

    def create_topics(self, topics: Iterable[TopicDescription]) -> list[str]:
        """Create what is missing, with the broker's default replication; returns when all can be used."""
        wanted = {topic.name: topic for topic in topics}
        self._check(wanted)
        existing = self._partition_counts()
        missing = [topic for name, topic in wanted.items() if name not in existing]
        created = self._create(missing) if missing else []
        self._wait_for(set(wanted))
        self._check(wanted)
        self._wait_for_leaders(wanted.values())
        return created

    def _check(self, wanted: Mapping[str, TopicDescription]) -> None:
        existing = self._partition_counts()
        for topic in wanted.values():
            check_partitions(topic, existing.get(topic.name))

    def _create(self, missing: list[TopicDescription]) -> list[str]:
        new = [NewTopic(t.name, t.partitions, -1, config=dict(t.config)) for t in missing]
        created = []
        for name, future in self._admin().create_topics(new, operation_timeout=ANSWER_S).items():
            try:
                self._answer(future, f"cannot create topic {name}")
                created.append(name)
            except KafkaException as exception:
                if kafka_error(exception).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise meaning(kafka_error(exception), f"cannot create topic {name}") from exception
        return created

    def _wait_for(self, names: set[str]) -> None:
        """Return when the metadata knows all of them, which is shortly after they are made."""
        deadline = time.monotonic() + ANSWER_S
        while missing := names - self._partition_counts().keys():
            if time.monotonic() > deadline:
                raise LogUnavailable(
                    f"topics were created but are not to be seen: {', '.join(sorted(missing))}"
                )
            time.sleep(0.02)

    def _wait_for_leaders(self, topics: Iterable[TopicDescription]) -> None:
        """Return when every partition answers: a broker names itself its leader before it is ready to be.

        That takes up to a second after a topic was made, and much longer on a busy machine.
        """
        asked = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
        deadline = time.monotonic() + _LEADERS_S
        while True:
            try:
                self._list_offsets(asked, OffsetSpec.latest())  # type: ignore[no-untyped-call]
                return
            except LogUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _partition_counts(self) -> dict[str, int]:
        topics = metadata(self._admin(), self._troubles, "for the list of topics").topics
        return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}

    def describe(self, topics: Iterable[str]) -> dict[str, TopicDescription]:
        """Return those of `topics` that exist, with the configuration that was set for each."""
        counts = self._partition_counts()
        wanted = [name for name in dict.fromkeys(topics) if name in counts]
        if not wanted:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
        futures = self._admin().describe_configs(resources, request_timeout=ANSWER_S)
        return {
            resource.name: TopicDescription(resource.name, counts[resource.name], self._set_options(future))
            for resource, future in futures.items()
        }

    def _set_options(self, future: Future[Any]) -> dict[str, str]:
        entries = self._wait(future, "cannot describe topics")
        source = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {name: entry.value for name, entry in sorted(entries.items()) if entry.source == source}

    def topics(self, prefix: str) -> list[str]:
        """Return the names of all topics that begin with `prefix`, sorted; those that this user may see."""
        return sorted(name for name in self._partition_counts() if name.startswith(prefix))

    def offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (beginning, end), in two requests whatever the number of partitions."""
        asked = list(dict.fromkeys(partitions))
        beginnings = self._list_offsets(asked, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self._list_offsets(asked, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {tp: (beginnings[tp], ends[tp]) for tp in asked}

    def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Ask the broker's time index."""
        found = self._list_offsets([partition], OffsetSpec.for_timestamp(timestamp_ms))[partition]
        return found if found >= 0 else self.offsets([partition])[partition][1]

    def _list_offsets(self, asked: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                return self._ask_for_offsets(asked, spec)
            except _LeaderMoved:
                if time.monotonic() > deadline:
                    raise
            self._partition_counts()  # the client learns of leaders by it
            time.sleep(AGAIN_S)

    def _ask_for_offsets(self, asked: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        if not asked:
            return {}
        request = {confluent_kafka.TopicPartition(*tp): spec for tp in asked}
        futures = self._admin().list_offsets(request, request_timeout=ANSWER_S)
        return {
            TopicPartition(tp.topic, tp.partition): self._offset(tp, future) for tp, future in futures.items()
        }

    def _offset(self, tp: confluent_kafka.TopicPartition, future: Future[Any]) -> int:
        where = f"{tp.topic}[{tp.partition}]"
        try:
            return int(self._answer(future, f"cannot read the offsets of {where}").offset)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() in _NOT_THERE and tp.partition >= self._partition_counts().get(tp.topic, 0):
                raise UserError(
                    f"there is no partition {where}, or it is hidden from this user: create the topics first"
                ) from exception
            explained = self._explained(error, f"cannot read the offsets of {where}")
            raise _LeaderMoved(str(explained)) if error.code() in _MOVED else explained from exception

    def _admin(self) -> AdminClient:
        return self._admin_held().client

    def _admin_held(self) -> Held[AdminClient]:
        with self._lock:
            if self._held is None:
                self._held = Held(AdminClient, SHARED, self._reading)
            elif (client := self._held.replacement()) is not None:
                self._before, self._held.client = self._held.client, client
            return self._held

    def _wait(self, future: Future[_T], doing: str) -> _T:
        try:
            return self._answer(future, doing)
        except KafkaException as exception:
            raise self._explained(kafka_error(exception), doing) from exception

    def _explained(self, error: KafkaError, doing: str) -> HeadgateError:
        if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
            self._admin().poll(0)
            return self._troubles.unavailable(f"({doing})")
        return meaning(error, doing)

    def _answer(self, future: Future[_T], doing: str) -> _T:
        try:
            return future.result(timeout=ANSWER_S + 1)
        except TimeoutError as error:
            raise self._troubles.unavailable(f"({doing})") from error

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Ask the brokers to move the beginnings; raises LogUnavailable when they do not."""
        asked = [confluent_kafka.TopicPartition(*tp, offset) for tp, offset in offsets.items()]
        if not asked:
            return
        for tp, future in self._admin().delete_records(asked, request_timeout=ANSWER_S).items():
            self._wait(future, f"cannot delete records of {tp.topic}[{tp.partition}]")

    def members(self, group: str) -> int | None:
        """Ask the group's coordinator; None when it does not say, as to who may not describe the group."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            futures = self._admin().describe_consumer_groups([group], request_timeout=ANSWER_S)
            try:
                return len(self._answer(futures[group], f"cannot describe group {group}").members)
            except KafkaException as exception:
                code = kafka_error(exception).code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            if code not in AGAIN or time.monotonic() > deadline:
                return None
            time.sleep(AGAIN_S)

    def topic_id(self, topic: str) -> str:
        """Ask the broker; it gives every topic an id of its own."""
        request = confluent_kafka.TopicCollection([topic])
        future = self._admin().describe_topics(request, request_timeout=ANSWER_S)[topic]
        found = self._wait(future, f"cannot describe topic {topic}").topic_id
        high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
        return f"{high & _64:016x}{low & _64:016x}"

    def close(self) -> None:
        """Let the admin client go."""
        with self._lock:
            self._held = self._before = None
