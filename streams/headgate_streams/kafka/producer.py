"""The Kafka adapter's producer: idempotent, acks=all, one report for each record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headgate_graphs.errors import DeliveryFailed, DeliveryUnknown
from headgate_streams.kafka.clients import ANSWER_S, PRODUCER, kafka_error, meaning
from headgate_streams.kafka.material import Held, Material
from headgate_streams.port import Delivery, Headers, OnDelivery

_CLOSE_S: Final = 30.0
_PATIENCE_S: Final = 2.0
"""How long a new client waits for the old one to have nothing under way, before that is waited for."""

_UNTOLD: Final = frozenset(
    {KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._TIMED_OUT}
)
"""The broker did not answer in time, or the client was given up with the record under way."""


class KafkaProducer:
    """Appends to chosen partitions; reports come from `poll` and `flush` on the caller's thread."""

    def __init__(self, material: Material, gather_ms: int | None = None) -> None:
        """Take how to reach the cluster, and how long a record may wait for others to join it."""
        gathering = {} if gather_ms is None else {"linger.ms": str(gather_ms)}
        self._held = Held(Producer, {**PRODUCER, **gathering}, material)
        self._troubles = self._held.troubles
        self._client = self._held.client
        self._produce = self._client.produce
        self._stale_since_s: float | None = None
        self._refused: list[tuple[OnDelivery | None, Delivery]] = []
        self._unheard: DeliveryFailed | None = None

    def append(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Queue one record; a full queue is served until there is room."""
        # Without a callback a lost record would not be noticed, so there always is one.
        report = self._on_unheard if on_delivery is None else partial(_report, on_delivery)
        # The client takes a list, and nothing else that is ordered.
        listed: Any = list(headers)
        try:
            self._produce(topic, value, key, partition, report, headers=listed)
        except BufferError:
            self._wait_for_room(partial(self._produce, topic, value, key, partition, report, headers=listed))
        except KafkaException as exception:
            self._refuse(topic, partition, kafka_error(exception), on_delivery)

    def _wait_for_room(self, produce: Callable[[], None]) -> None:
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            self._client.poll(0.05)
            try:
                produce()
                return
            except BufferError:
                continue
        raise self._troubles.unavailable("to make room in the producer's queue")

    def _refuse(self, topic: str, partition: int, error: KafkaError, on_delivery: OnDelivery | None) -> None:
        """Report a record that the client did not take, as a delivery like any other."""
        self._refused.append((on_delivery, Delivery(_failure(topic, partition, error), partition, -1, -1)))

    def _on_unheard(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._unheard is None:
            self._unheard = _failure(message.topic() or "", message.partition() or 0, error)

    def poll(self, timeout_s: float = 0.0) -> int:
        """Serve reports; raises DeliveryFailed for a failure that no callback heard."""
        self._renew_when_stale()
        with _fatal_errors():
            served = self._client.poll(timeout_s if not self._refused else 0.0)
        served += self._serve_refused()
        self._raise_unheard()
        return served

    def push(self, timeout_s: float) -> int:
        """Serve reports while nothing lingers; what is under way when the time is over is reported later."""
        self._renew_when_stale()
        before = len(self._client)
        with _fatal_errors():
            left = self._client.flush(timeout_s if not self._refused else 0.0)
        served = max(0, before - left) + self._serve_refused()
        self._raise_unheard()
        return served

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all is delivered and reported."""
        self._flush(timeout_s)
        self._renew_when_stale()

    def _flush(self, timeout_s: float) -> None:
        with _fatal_errors():
            left = self._client.flush(timeout_s)
        self._serve_refused()
        self._raise_unheard()
        if left:
            raise self._troubles.unavailable(f"to a flush of {left} records", timeout_s)

    def _renew_when_stale(self) -> None:
        """Replace the client, when its files have changed, at a moment at which nothing is under way.

        So no record can be overtaken or repeated. When there is no such moment for a while, it is made.
        """
        if (heir := self._held.heir()) is not None:
            # Whether a broker took what is under way will never be told: it is reported as failed.
            with _fatal_errors():
                self._client.purge()
                self._client.flush(_PATIENCE_S)
            self._go_on_with(heir)
        if not self._held.is_stale():
            self._stale_since_s = None
            return
        self._stale_since_s = self._stale_since_s or time.monotonic()
        if len(self._client) and time.monotonic() - self._stale_since_s > _PATIENCE_S:
            with _fatal_errors():
                self._client.flush(_PATIENCE_S)
        if len(self._client) == 0 and (client := self._held.successor()) is not None:
            self._go_on_with(client)

    def _go_on_with(self, client: Producer) -> None:
        self._held.client = self._client = client
        self._produce = client.produce

    def close(self) -> None:
        """Flush; the client's threads end with the object."""
        self._flush(_CLOSE_S)

    def _serve_refused(self) -> int:
        refused, self._refused = self._refused, []
        for on_delivery, delivery in refused:
            if on_delivery is not None:
                on_delivery(delivery)
            elif isinstance(delivery.error, DeliveryFailed):
                self._unheard = self._unheard or delivery.error
        return len(refused)

    def _raise_unheard(self) -> None:
        if self._unheard is not None:
            error, self._unheard = self._unheard, None
            raise error


@contextmanager
def _fatal_errors() -> Iterator[None]:
    """Say in our words that the client can never append again, such as for who may write to no topic.

    The client raises that from inside a callback, where it may turn into a SystemError.
    """
    try:
        yield
    except (KafkaException, SystemError) as exception:
        cause = exception if isinstance(exception, KafkaException) else exception.__cause__
        if not isinstance(cause, KafkaException):
            raise
        raise meaning(kafka_error(cause), "nothing can be appended") from exception


def _failure(topic: str, partition: int, error: KafkaError) -> DeliveryFailed:
    kind = DeliveryUnknown if error.code() in _UNTOLD else DeliveryFailed
    return kind(f"{topic}[{partition}]: {error.str()} ({error.name()})")


def _report(on_delivery: OnDelivery, error: KafkaError | None, message: Message) -> None:
    partition = message.partition() or 0
    if error is not None:
        on_delivery(Delivery(_failure(message.topic() or "", partition, error), partition, -1, -1))
    else:
        on_delivery(Delivery(None, partition, message.offset() or 0, message.timestamp()[1]))
