"""The log port: what the product needs of a log, and nothing of any one broker. Two adapters serve it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headgate_graphs.errors import HeadgateError

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(slots=True, unsafe_hash=True)
class LogRecord:
    """One record as it was read.

    Readers share it, so it must not be changed. It is not frozen: making it would cost four times as much.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Append time of the log (LogAppendTime), Unix milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: Headers


class Delivery(NamedTuple):
    """Where and when an append landed, or why it did not."""

    error: HeadgateError | None
    partition: int
    offset: int
    """-1 when it failed."""
    timestamp_ms: int
    """Append time of the log; -1 when it failed."""


OnDelivery = Callable[[Delivery], None]


class Committed(NamedTuple):
    """A group's position: the next offset to read, and the text kept with it."""

    offset: int
    metadata: str


class TopicDescription(NamedTuple):
    """What a topic is made of."""

    name: str
    partitions: int
    config: Mapping[str, str]


class LogProducer(Protocol):
    """Appends records; idempotent and in order per partition. One thread at a time."""

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
        """Queue one record. Delivery is reported once, to `on_delivery`, from `poll` or `flush`.

        A full queue is waited for (bounded), then LogUnavailable is raised. A failed delivery
        without a callback is raised by the next `poll` or `flush` as DeliveryFailed.
        """

    def poll(self, timeout_s: float = 0.0) -> int:
        """Serve delivery reports; return how many were served."""

    def push(self, timeout_s: float) -> int:
        """As `poll`, but send what waits for others to join it at once, and return when all is reported."""

    def flush(self, timeout_s: float = 30.0) -> None:
        """Return when all that is queued is durable (acks=all) and reported; LogUnavailable on timeout."""

    def close(self) -> None:
        """Flush, then release everything."""


OnAssign = Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]]
"""Called with newly assigned partitions; returns start offsets for those it wants to choose, if any."""
OnRevoke = Callable[[Sequence[TopicPartition]], None]
"""Called before partitions are given up; commits in it still count. Called for lost ones too."""


class LogConsumer(Protocol):
    """A member of a consumer group. One thread owns it; callbacks run inside `poll` on that thread."""

    def subscribe(
        self, topics: Sequence[str], on_assign: OnAssign | None = None, on_revoke: OnRevoke | None = None
    ) -> None:
        """Join the group. Assignments arrive in `poll` and are incremental (only what is added or taken)."""

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """Return what is there, waiting up to `timeout_s` for the first record; empty when nothing came.

        Records of one partition come in offset order. Never waits once it has a record.
        """

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit synchronously; raises PartitionLost when this member no longer owns one of them."""

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """Return the group's committed positions; None where there is none."""

    def assignment(self) -> frozenset[TopicPartition]:
        """Return what this member owns now."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching from these; they stay assigned."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""

    def close(self) -> None:
        """Leave the group at once (on_revoke is called), release everything."""


class LogReader(Protocol):
    """Reads chosen partitions outside any group; commits nothing. One thread."""

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from these offsets, in place of whatever was read before."""

    def poll(self, timeout_s: float, max_records: int = 500) -> list[LogRecord]:
        """As LogConsumer.poll."""

    def close(self) -> None:
        """Release everything."""


class Log(Protocol):
    """A durable, partitioned, ordered log with consumer groups. Safe to share between threads."""

    def producer(self, *, gather_ms: int | None = None) -> LogProducer:
        """Return a new producer; with `gather_ms` a record may wait so long for others to join it.

        For who flushes anyway: `flush` and `push` end the wait.
        """

    def consumer(self, group: str) -> LogConsumer:
        """Return a new member of `group`.

        A partition without a committed offset and without a start offset from `on_assign` is read from its
        beginning.
        """

    def reader(self) -> LogReader:
        """Return a new reader outside any group."""

    def create_topics(self, topics: Iterable[TopicDescription]) -> list[str]:
        """Create what is missing; return the names that were created. Idempotent.

        Raises UserError when one exists with another partition count.
        """

    def describe(self, topics: Iterable[str]) -> dict[str, TopicDescription]:
        """Return those of `topics` that exist."""

    def topics(self, prefix: str) -> list[str]:
        """Return the names of all topics that begin with `prefix`, sorted."""

    def offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (beginning, end) offsets; end is the offset the next record will get."""

    def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the first offset whose append time is not before `timestamp_ms`; the end if none."""

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records of each partition before its offset; a reader that needs one is refused.

        Nothing can be deleted from the middle. What is before the beginning already changes nothing.
        """

    def members(self, group: str) -> int | None:
        """Return how many members a consumer group has; None when the log does not tell."""

    def topic_id(self, topic: str) -> str:
        """Return which of the topics that ever had this name it is; empty when the log does not tell."""

    def close(self) -> None:
        """Release everything that is shared."""
