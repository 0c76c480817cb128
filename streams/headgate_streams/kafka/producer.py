"""The Kafka adapter's producer: idempotent, acks=all, one report for each record.

The idempotent client sends a partition's next request when fewer than five of its records are under way, and
until then its thread asks again without a pause whenever a queued record has waited long enough
(https://github.com/confluentinc/librdkafka/pull/4989): a core for each producer while the broker is slow, and
slower for it. So the client is given one batch of a partition at a time, and what comes meanwhile waits here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
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

_MOST_UNREPORTED: Final = 100_000
"""Records that may wait here and in the client: as many as the client alone takes unless told otherwise."""
_BATCH_BYTES: Final = 900_000
"""Values of one batch: with keys and headers below the client's and the broker's bound of one request."""


_Record = tuple[bytes | None, bytes | None, Any, OnDelivery | None]
"""Value, key, headers, and who is told. The client takes a list of headers, and nothing else in order."""


class _Lane:
    """One partition: what the client has of it, and what waits until that is reported."""

    __slots__ = ("is_closed", "partition", "topic", "under_way", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.under_way = 0
        """Records that the client has and has not reported."""
        self.is_closed = False
        """Whether the batch is on its way, so that it cannot be joined."""
        self.waiting: deque[_Record] = deque()


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
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._open: list[_Lane] = []
        """Those whose batch can be joined."""
        self._next: list[_Lane] = []
        """Those of which the client has nothing and something waits."""
        self._unreported = 0
        self._served = 0
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
        lane = self._lanes.get((topic, partition)) or self._new_lane(topic, partition)
        record = (value, key, list(headers), on_delivery)
        deadline = 0.0
        while self._unreported >= _MOST_UNREPORTED:
            deadline = self._make_room(deadline)
            self._send_next()
        if lane.is_closed:
            lane.waiting.append(record)
        else:
            if not lane.under_way:
                self._open.append(lane)
            self._hand_over(lane, record)
        self._unreported += 1

    def _new_lane(self, topic: str, partition: int) -> _Lane:
        lane = self._lanes[topic, partition] = _Lane(topic, partition)
        return lane

    def _hand_over(self, lane: _Lane, record: _Record) -> None:
        """Give one record to the client; what that does not take is reported as any other failure."""
        value, key, headers, on_delivery = record
        report = partial(self._reported, lane, on_delivery)
        deadline = 0.0
        while True:
            try:
                self._produce(lane.topic, value, key, lane.partition, report, headers=headers)
                lane.under_way += 1
                return
            except BufferError:
                deadline = self._make_room(deadline)
            except KafkaException as exception:
                error = _failure(lane.topic, lane.partition, kafka_error(exception))
                self._refused.append((on_delivery, Delivery(error, lane.partition, -1, -1)))
                return

    def _make_room(self, deadline: float) -> float:
        """Serve reports for a moment; return until when that may go on, which 0 is for not begun."""
        now = time.monotonic()
        if 0 < deadline < now:
            raise self._troubles.unavailable("to make room in the producer's queue")
        self._client.poll(0.05)
        return deadline or now + ANSWER_S

    def _reported(
        self, lane: _Lane, on_delivery: OnDelivery | None, error: KafkaError | None, message: Message
    ) -> None:
        """Take the client's report of one record, and tell of it."""
        self._unreported -= 1
        self._served += 1
        lane.under_way -= 1
        if not lane.under_way:
            if lane.waiting:
                self._next.append(lane)
            else:
                lane.is_closed = False
        if on_delivery is not None:
            _report(on_delivery, error, message)
        elif error is not None and self._unheard is None:
            # Without a callback a lost record would not be noticed.
            self._unheard = _failure(lane.topic, lane.partition, error)

    def _close_batches(self) -> None:
        """Let nothing join what has been given to the client so far."""
        for lane in self._open:
            lane.is_closed = lane.under_way > 0
        self._open.clear()

    def _send_next(self) -> bool:
        """Give the client the next batch of each partition of which it has nothing; whether there was one."""
        if not self._next:
            return False
        while self._next:
            lane, size = self._next[0], 0
            while lane.waiting and size < _BATCH_BYTES:
                size += len(lane.waiting[0][0] or b"")
                self._hand_over(lane, lane.waiting[0])
                lane.waiting.popleft()
            lane.is_closed = lane.under_way > 0
            self._next.pop(0)
        return True

    def poll(self, timeout_s: float = 0.0) -> int:
        """Serve reports; raises DeliveryFailed for a failure that no callback heard."""
        self._renew_when_stale()
        self._close_batches()
        with _fatal_errors():
            self._client.poll(timeout_s if not self._refused else 0.0)
            self._send_next()
        return self._told()

    def push(self, timeout_s: float) -> int:
        """Serve reports while nothing lingers; what is under way when the time is over is reported later."""
        self._renew_when_stale()
        self._send_all(timeout_s if not self._refused else 0.0)
        return self._told()

    def _send_all(self, timeout_s: float) -> None:
        """Send until all is reported or the time is over."""
        self._close_batches()
        deadline = time.monotonic() + timeout_s
        with _fatal_errors():
            self._client.flush(timeout_s)
            while self._send_next():
                self._client.flush(max(0.0, deadline - time.monotonic()))

    def _told(self) -> int:
        """Return how many reports were served since the last time; raise what nobody has heard."""
        served, self._served = self._served + self._serve_refused(), 0
        self._raise_unheard()
        return served

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all is delivered and reported."""
        self._flush(timeout_s)
        self._renew_when_stale()

    def _flush(self, timeout_s: float) -> None:
        self._send_all(timeout_s)
        self._told()
        if self._unreported:
            raise self._troubles.unavailable(f"to a flush of {self._unreported} records", timeout_s)

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
        self._unreported -= len(refused)
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
