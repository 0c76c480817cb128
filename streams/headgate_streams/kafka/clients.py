"""How the Kafka client is configured, and what its errors mean here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headgate_graphs.errors import HeadgateError, LogTruncated, LogUnavailable, PartitionLost, UserError

_C = TypeVar("_C")

ANSWER_S: Final = 10.0
"""How long to wait for a broker's answer before the log counts as unavailable."""

_REPEAT_S: Final = 30.0
_said: dict[str, float] = {}


def drop_repeats(record: logging.LogRecord) -> bool:
    """Whether to log a line of the client: the same text passes once in 30 s, whichever client says it."""
    text = record.getMessage().rpartition("]: ")[2]
    now = time.monotonic()
    if now - _said.get(text, -_REPEAT_S) < _REPEAT_S:
        return False
    if len(_said) > 1_000:
        _said.clear()
    _said[text] = now
    return True


client_logger: Final = logging.getLogger("headgate.kafka")
"""Where the client's own log lines go; silent unless logging is configured."""
client_logger.addHandler(logging.NullHandler())
client_logger.addFilter(drop_repeats)

SHARED: Final[Mapping[str, str]] = {
    "client.id": "headgate",
    "socket.nagle.disable": "true",
    "socket.timeout.ms": "10000",
    "reconnect.backoff.max.ms": "1000",
}
"""Answers that were eaten are noticed in 10 s; a broker that is back is found within a second."""

PRODUCER: Final[Mapping[str, str]] = {
    **SHARED,
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "2",
    "request.timeout.ms": "10000",
    "message.timeout.ms": "120000",
    "topic.metadata.propagation.max.ms": "5000",
}
"""A linger of 2 ms costs a lone record 2 ms and gives a loaded, synced log five times its throughput. Two
minutes for a delivery outlast a broker's restart."""

READER: Final[Mapping[str, str]] = {
    **SHARED,
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": "100",
    "fetch.error.backoff.ms": "100",
    "fetch.queue.backoff.ms": "10",
    "queued.min.messages": "10000",
    "queued.max.messages.kbytes": "32768",
}
"""Where to start is always said, so a position that is not in the log is an error, never a silent jump.
A waiting fetch holds back newly assigned partitions, hence 100 ms."""

CONSUMER: Final[Mapping[str, str]] = {**READER, "group.protocol": "consumer"}
"""KIP-848: incremental assignments that the broker computes."""

_LOST: Final = frozenset(
    {
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_TRUNCATED: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_OURS: Final = frozenset(
    {
        KafkaError._INVALID_ARG,
        KafkaError._UNKNOWN_PROTOCOL,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
    }
)
PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._PARTITION_EOF,
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.STALE_MEMBER_EPOCH,
    }
)
"""Errors of polling that the client gets over by itself; a lost assignment is told by the revoke callback."""


def meaning(error: KafkaError, doing: str) -> HeadgateError:
    """Return the error that says to our loops what the client's error means."""
    code, text = error.code(), f"{doing}: {error.str()} ({error.name()})"
    if code in _LOST:
        return PartitionLost(text)
    if code in _TRUNCATED:
        return LogTruncated(f"{text}; what was to be read is not in the log any more, or not yet")
    if code in _OURS:
        return UserError(text)
    return LogUnavailable(text)


def kafka_error(exception: KafkaException) -> KafkaError:
    """Return the KafkaError inside an exception."""
    error = exception.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


class Troubles:
    """The client's newest complaint, to be told when a wait for the broker ends without an answer."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._newest = ""

    def __call__(self, error: KafkaError) -> None:
        """Remember and log; called by the client from its polls."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._newest = error.str()
        client_logger.debug("client: %s", error)

    def unavailable(self, doing: str, waited_s: float = ANSWER_S) -> LogUnavailable:
        """Return the error for a broker that did not answer."""
        why = f": {self._newest}" if self._newest else ""
        return LogUnavailable(
            f"Kafka at {self._bootstrap} did not answer within {waited_s:.0f} s {doing}{why}"
        )


def open_client(kind: Callable[..., _C], configuration: Mapping[str, Any], troubles: Troubles) -> _C:
    """Return a client of the library; raises UserError when an option is wrong. Nothing is connected yet."""
    try:
        return kind({**configuration, "error_cb": troubles}, logger=client_logger)
    except KafkaException as exception:
        raise UserError(f"kafka options: {kafka_error(exception).str()}") from None
