"""Turns what the Kafka client reads into records, and its errors into ours. Used by consumer and reader."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, Message

from headgate_graphs.errors import HeadgateError
from headgate_streams.kafka.clients import PASSING, client_logger, meaning
from headgate_streams.port import LogRecord


class Poller:
    """Reads from one client; an error that comes behind records is raised by the next poll, after them."""

    def __init__(self, client: Consumer, ignored: frozenset[int] = frozenset()) -> None:
        self._client = client
        self._ignored = ignored
        self._error: HeadgateError | None = None

    def poll(self, timeout_s: float, max_records: int) -> list[LogRecord]:
        """Return what is there, waiting for the first; consume() alone would wait the full time."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        first = self._client.poll(timeout_s)
        if first is None:
            return []
        records: list[LogRecord] = []
        self._take((first,), records)
        if max_records > 1:
            self._take(self._client.consume(max_records - 1, 0), records)
        if self._error is not None and not records:
            return self.poll(0, max_records)
        return records

    def _take(self, messages: Iterable[Message], records: list[LogRecord]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(error, message)
                continue
            records.append(
                LogRecord(
                    message.topic(),  # type: ignore[arg-type]
                    message.partition(),  # type: ignore[arg-type]
                    message.offset(),  # type: ignore[arg-type]
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    tuple(message.headers() or ()),  # type: ignore[arg-type]
                )
            )

    def _note(self, error: KafkaError, message: Message) -> None:
        if error.code() in self._ignored:
            return
        if error.code() in PASSING or (error.retriable() and not error.fatal()):
            client_logger.info("poll: %s", error)
        elif self._error is None:
            where = f"{message.topic()}[{message.partition()}]" if message.topic() else "the group"
            self._error = meaning(error, f"cannot read {where}")
