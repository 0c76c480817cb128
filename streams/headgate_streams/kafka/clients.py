"""How the Kafka client is configured, and what its errors mean here."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headgate_graphs.errors import (
    AccessRefused,
    HeadgateError,
    LogTruncated,
    LogUnavailable,
    PartitionLost,
    UserError,
)
from headgate_streams.security import KafkaSecurity

_C = TypeVar("_C")

OPEN: Final = KafkaSecurity()
"""No login and no TLS."""

ANSWER_S: Final = 10.0
"""How long to wait for a broker's answer before the log counts as unavailable."""

_SLICE_S: Final = 1.0
"""How long to wait for metadata before the reasons for the silence are looked at."""
_APART_S: Final = 5.0
"""Refusals that are further apart have nothing to do with each other: the client tries every second."""

_REPEAT_S: Final = 30.0
_DURATION: Final = re.compile(r"\d+ms")
_said: dict[str, float] = {}


def drop_repeats(record: logging.LogRecord) -> bool:
    """Whether to log a line of the client: the same text passes once in 30 s, whichever client says it."""
    text = _DURATION.sub("", record.getMessage().rpartition("]: ")[2])
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

CONSUMER: Final[Mapping[str, str]] = {
    **READER,
    "group.protocol": "consumer",
    "queued.min.messages": "200",
    "max.partition.fetch.bytes": "65536",
}
"""KIP-848: incremental assignments that the broker computes.

The client hands out what it has fetched in one order for all partitions, so records of a full partition
stand before those of the others: a few hundred, not ten thousand. A larger record is fetched alone."""

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
        KafkaError.SECURITY_DISABLED,
    }
)
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_LOGIN: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})
PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
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
    code, text = _cause(error), f"{doing}: {error.str()} ({error.name()})"
    if code in _LOST:
        return PartitionLost(text)
    if code in _TRUNCATED:
        return LogTruncated(f"{text}; what was to be read is not in the log any more, or not yet")
    if code in _FORBIDDEN:
        return AccessRefused(f"{text}; the user of this process has no ACL for it")
    if code in _OURS:
        return UserError(text)
    return LogUnavailable(text)


def _cause(error: KafkaError) -> int:
    """Return the error's code; that of a fatal one is known by the broker's words alone."""
    if error.code() != KafkaError._FATAL:
        return error.code()
    return next((code for code in _FORBIDDEN if KafkaError(code).str() in error.str()), error.code())


def kafka_error(exception: KafkaException) -> KafkaError:
    """Return the KafkaError inside an exception."""
    error = exception.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


class Troubles:
    """The client's newest complaint, to be told when a wait for the broker ends without an answer."""

    def __init__(self, bootstrap: str, security: KafkaSecurity = OPEN) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._newest = ""
        self.down_since_s: float | None = None
        """When the client last said that it reaches no broker; None while it has not, or has been seen to."""
        self._refusals: list[KafkaError] = []
        self._refused_from_s = self._refused_to_s = 0.0

    def __call__(self, error: KafkaError) -> None:
        """Remember and log; called by the client from its polls."""
        if error.code() in _LOGIN or error.code() == KafkaError._SSL:
            self._note_refusal(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._newest = error.str()
        elif self.down_since_s is None:
            self.down_since_s = time.monotonic()
        client_logger.debug("client: %s", error)

    def _note_refusal(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._refused_to_s > _APART_S:
            self._refused_from_s, self._refusals = now, []
        self._refused_to_s = now
        self._refusals = [*self._refusals[-1:], error]

    def unavailable(self, doing: str, waited_s: float = ANSWER_S) -> LogUnavailable:
        """Return the error for a broker that did not answer."""
        why = self._newest or f"is kafka_security_protocol right, {self._security.protocol}?"
        return LogUnavailable(
            f"Kafka at {self._bootstrap} did not answer within {waited_s:.0f} s {doing}: {why}"
        )

    def refusal(self, for_s: float = 0.0) -> LogUnavailable | None:
        """Return the error for a broker that has not let us in for so long; None when that is not so."""
        now = time.monotonic()
        if (
            len(self._refusals) < 2
            or now - self._refused_to_s > _APART_S
            or now - self._refused_from_s < for_s
        ):
            return None
        error = self._refusals[-1]
        if error.code() in _LOGIN:
            why, check = f"refuses user {self._security.username!a}", "kafka_username and its password"
        else:
            why, check = "and TLS do not go together", "kafka_ca_file, kafka_cert_file and kafka_key_file"
        return LogUnavailable(f"Kafka at {self._bootstrap} {why}: {error.str()}: check {check}")


class _Listing(Protocol):
    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Return the cluster's metadata."""

    def poll(self, timeout: float = -1) -> Any:
        """Serve callbacks."""


def metadata(client: _Listing, troubles: Troubles, doing: str, timeout_s: float = ANSWER_S) -> Any:
    """Return the cluster's metadata with every topic that this user may see.

    Raises:
        LogUnavailable: No broker answered in time, or it does not let us in, which is told at once.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.05, min(left_s, _SLICE_S)))
        except KafkaException as exception:
            client.poll(0)  # the reasons wait in the client's queue
            if (refusal := troubles.refusal()) is not None:
                raise refusal from exception
            if left_s <= _SLICE_S:
                raise troubles.unavailable(doing, timeout_s) from exception


def open_client(kind: Callable[..., _C], configuration: Mapping[str, Any], troubles: Troubles) -> _C:
    """Return a client of the library; raises UserError when an option is wrong. Nothing is connected yet."""
    try:
        return kind({**configuration, "error_cb": troubles}, logger=client_logger)
    except KafkaException as exception:
        raise UserError(f"kafka options: {kafka_error(exception).str()}") from None
