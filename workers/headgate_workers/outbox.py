"""What a worker appends: envelopes and dead letters, each confirmed. Used by the consumer's thread alone."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from headgate_graphs.errors import BadRecord, DeliveryFailed, HeadgateError, LogUnavailable
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.codec import encode
from headgate_streams.letters import dead_letter, tell
from headgate_streams.port import Delivery, LogProducer, LogRecord
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.topics import Topics, partition_for

_LOGGER = logging.getLogger(__name__)

GATHER_MS = 5
"""How long a record waits for company when nobody pushes it. Everything is pushed here, a batch at a time;
this is for the push that came to nothing, on a machine without a free moment."""
PUSH_S = 0.001
"""How long a push is given. The handlers of what came meanwhile run beside it."""


class Outbox:
    """Appends in order; what a full producer does not take waits here and is tried again."""

    def __init__(self, producer: LogProducer, topics: Topics, partitions: int) -> None:
        self._producer = producer
        self._publisher = ExecutionPublisher(producer, topics, partitions)
        self._dead_letters = topics.dead_letters
        self._partitions = partitions
        self._waiting: deque[Callable[[], None]] = deque()
        self._refusal: HeadgateError | None = None
        self.unconfirmed = 0
        """Appends whose delivery has not been reported."""

    def publish(self, envelope: ExecutionEnvelope, then: Callable[[Delivery], None] | None = None) -> None:
        """Append an envelope; `then` is called with its delivery, in a later `send`."""
        self.unconfirmed += 1
        self._waiting.append(partial(self._publisher.publish, envelope, partial(self._confirm, then)))

    def bury(self, record: LogRecord, error: BadRecord, then: Callable[[], None]) -> None:
        """Append the dead letter of a record; `then` is called when it is durable."""
        _LOGGER.warning("%s-%d@%d is a dead letter: %s", record.topic, record.partition, record.offset, error)
        letter = dead_letter(record, error)
        tell(letter)
        key = letter.tenant_id.encode()
        value, headers = encode(letter, letter.tenant_id)
        self.unconfirmed += 1
        self._waiting.append(
            partial(
                self._producer.append,
                self._dead_letters,
                partition_for(key, self._partitions),
                key=key,
                value=value,
                headers=headers,
                on_delivery=partial(self._confirm, lambda _delivery: then()),
            )
        )

    def send(self, wait_s: float = 0.0) -> None:
        """Hand over what waits, send it, and report deliveries; `wait_s` is for who waits for them.

        Raises DeliveryFailed when one was refused.
        """
        wait_s = max(wait_s, PUSH_S if self._waiting else 0.0)
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
            self._producer.push(wait_s) if wait_s else self._producer.poll()
        except LogUnavailable as error:
            _LOGGER.warning("nothing can be appended for now: %s", error)
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> None:
        """Flush and release the producer."""
        self._producer.close()

    def _confirm(self, then: Callable[[Delivery], None] | None, delivery: Delivery) -> None:
        self.unconfirmed -= 1
        if delivery.error is not None:
            self._refusal = self._refusal or _as_refusal(delivery.error)
        elif then is not None:
            then(delivery)


def _as_refusal(error: HeadgateError) -> HeadgateError:
    return error if isinstance(error, DeliveryFailed) else DeliveryFailed(str(error))
