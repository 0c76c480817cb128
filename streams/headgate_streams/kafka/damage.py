"""What an administrator may do to topics and groups by mistake, done on purpose. Called by chaos alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_streams.kafka.clients import ANSWER_S, SHARED, kafka_error, meaning
from headgate_streams.kafka.material import Held, Material
from headgate_streams.settings import StreamSettings

_GONE_S: Final = 15.0
"""How long a deleted topic may still be seen, and a dead member may keep its group."""


class KafkaDamage:
    """Harms one cluster's topics and groups. Every call waits for the broker."""

    def __init__(self, settings: StreamSettings) -> None:
        """Take the cluster that the settings name.

        Raises:
            UserError: They name none.
        """
        if settings.kafka is None:
            raise UserError("there is no broker whose topics could be damaged")
        material = Material(settings.kafka, settings.kafka_options, settings.security)
        self._held: Held[AdminClient] = Held(AdminClient, SHARED, material)

    def add_partitions(self, topic: str, total: int) -> None:
        """Let a topic have more partitions."""
        wanted = [NewPartitions(topic, total)]
        self._wait(lambda: self._held.client.create_partitions(wanted), f"cannot add partitions to {topic}")

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with all it holds; returns when it is not to be seen any more."""
        self._wait(lambda: self._held.client.delete_topics([topic]), f"cannot delete {topic}")
        deadline = time.monotonic() + _GONE_S
        while topic in self._held.client.list_topics(timeout=ANSWER_S).topics:
            if time.monotonic() > deadline:
                raise LogUnavailable(f"{topic} was deleted and is still there after {_GONE_S:.0f} s")
            time.sleep(0.1)

    def forget_group(self, group: str) -> None:
        """Delete a group with its offsets, as a broker does when they expire; it must have no member."""
        deadline = time.monotonic() + _GONE_S
        while True:
            try:
                futures = self._held.client.delete_consumer_groups([group], request_timeout=ANSWER_S)
                futures[group].result(ANSWER_S + 1)
                return
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return
                if error.code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                    raise meaning(error, f"cannot delete group {group}") from exception
            time.sleep(0.3)

    def _wait(self, ask: Callable[[], Mapping[str, Future[Any]]], doing: str) -> None:
        try:
            for future in ask().values():
                future.result(ANSWER_S + 1)
        except KafkaException as exception:
            raise meaning(kafka_error(exception), doing) from exception
        except TimeoutError as error:
            raise self._held.troubles.unavailable(f"({doing})") from error
