"""What an intake reads is never lost, whatever happens inside a poll."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headgate_protos.v1.common_pb2 import ExecutionStatus, NodeKind
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.codec import encode
from headgate_streams.port import Committed, LogRecord, TopicPartition
from headgate_workers.intake import Intake
from headgate_workers.settings import WorkerSettings

TOPIC = "hg.task-inputs"
KEPT, TAKEN = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class PollThatRebalances:
    """Owns two partitions; its second poll loses one of them and returns a record of the other."""

    def __init__(self) -> None:
        self.polls = 0
        self.committed_to: dict[TopicPartition, Committed] = {}

    def subscribe(
        self, _topics: object, on_assign: Callable[..., Any], on_revoke: Callable[..., Any]
    ) -> None:
        self._on_assign, self._on_revoke = on_assign, on_revoke

    def poll(self, _timeout_s: float, _max_records: int) -> list[LogRecord]:
        self.polls += 1
        if self.polls == 1:
            self._on_assign([KEPT, TAKEN])
            return []
        self._on_revoke([TAKEN])
        return [record_of("one", KEPT, 0)]

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        return dict.fromkeys(partitions)

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self.committed_to |= offsets

    def resume(self, _partitions: object) -> None:
        """Nothing is paused here."""

    pause = resume


class EmptyLog:
    def offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return dict.fromkeys(partitions, (0, 0))


def record_of(execution_id: str, place: TopicPartition, offset: int) -> LogRecord:
    given = TaskInput(tenant_id="acme")
    given.headers.execution_id, given.headers.lifetime_id = execution_id, "life"
    given.headers.node_type = "t"
    given.headers.status = ExecutionStatus.EXECUTION_STATUS_PENDING
    given.headers.node_kind = NodeKind.NODE_KIND_TASK
    given.source.offset = offset
    value, headers = encode(given, "acme")
    return LogRecord(place.topic, place.partition, offset, 0, execution_id.encode(), value, headers)


def test_what_is_read_in_the_poll_that_takes_another_partition_away_is_begun() -> None:
    consumer: Any = PollThatRebalances()
    log: Any = EmptyLog()
    intake = Intake(log, consumer, TOPIC, TaskInput, lambda *_: None, lambda _shares: None, WorkerSettings())
    assert intake.take(0.0, 10) == []
    assert [work.execution_id for work in intake.take(0.0, 10)] == ["one"]
    assert set(consumer.committed_to) == {KEPT, TAKEN}
