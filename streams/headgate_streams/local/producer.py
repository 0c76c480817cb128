"""The embedded log's producer."""

from __future__ import annotations

from typing import Final

from headgate_graphs.errors import DeliveryFailed, HeadgateError, UserError
from headgate_streams.local.writer import Pending, Writer
from headgate_streams.port import Delivery, Headers, OnDelivery, TopicPartition

_BATCH_RECORDS: Final = 2_000
"""A producer writes by itself once this many records are queued."""


class _Append:
    """Work of a producer: its queued records."""

    durable = True

    def __init__(self, records: list[Pending]) -> None:
        self._records = records
        self.landed: list[tuple[int, int]] = []

    def apply(self, writer: Writer) -> None:
        self.landed = writer.append(self._records)


class LocalProducer:
    """Queues records and writes them at `poll` or `flush`, together with whatever else waits for the disk."""

    def __init__(self, writer: Writer, max_record_bytes: int) -> None:
        self._writer = writer
        self._max_record_bytes = max_record_bytes
        self._queued: list[Pending] = []
        self._callbacks: list[OnDelivery | None] = []
        self._refused: list[tuple[OnDelivery | None, Delivery]] = []

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
        """Queue one record."""
        pid = self._writer.ids.get(TopicPartition(topic, partition))
        if pid is None or (value is not None and len(value) > self._max_record_bytes):
            pid = self._refuse(topic, partition, value, on_delivery)
            if pid is None:
                return
        self._queued.append(Pending(pid, topic, partition, key, value, headers))
        self._callbacks.append(on_delivery)
        if len(self._queued) >= _BATCH_RECORDS:
            self._write()

    def _refuse(
        self, topic: str, partition: int, value: bytes | None, on_delivery: OnDelivery | None
    ) -> int | None:
        """Return the partition's id after all, or None when the record is refused."""
        try:
            pid = self._writer.partition_id(TopicPartition(topic, partition))
        except UserError as error:
            self._refused.append((on_delivery, Delivery(DeliveryFailed(str(error)), partition, -1, -1)))
            return None
        size = len(value or b"")
        if size <= self._max_record_bytes:
            return pid
        why = f"{topic}[{partition}]: a record of {size} bytes is above the most, {self._max_record_bytes}"
        self._refused.append((on_delivery, Delivery(DeliveryFailed(why), partition, -1, -1)))
        return None

    def poll(self, timeout_s: float = 0.0) -> int:  # noqa: ARG002
        """Write what is queued, report it; never waits for more. On LogUnavailable the queue is kept."""
        served = self._write() if self._queued else 0
        return served + self._report_refused() if self._refused else served

    def push(self, timeout_s: float) -> int:
        """As `poll`."""
        return self.poll(timeout_s)

    def flush(self, timeout_s: float = 30.0) -> None:  # noqa: ARG002
        """As `poll`: what was queued is on disk when this returns."""
        self.poll()

    def close(self) -> None:
        """Flush."""
        self.flush()

    def _write(self) -> int:
        work = _Append(self._queued)
        self._writer.run(work)
        queued, callbacks = self._queued, self._callbacks
        self._queued, self._callbacks = [], []
        for record, callback, (offset, stamp) in zip(queued, callbacks, work.landed, strict=True):
            if callback is not None:
                callback(Delivery(None, record.partition, offset, stamp))
        return len(queued)

    def _report_refused(self) -> int:
        refused, self._refused = self._refused, []
        unheard: HeadgateError | None = None
        for callback, delivery in refused:
            if callback is not None:
                callback(delivery)
            else:
                unheard = unheard or delivery.error
        if unheard is not None:
            raise unheard
        return len(refused)
