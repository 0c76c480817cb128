"""The topics of one installation as they are now: what each carries, where it begins and ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headgate_graphs.errors import UserError
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2
from headgate_streams.port import Log, TopicPartition
from headgate_streams.topics import Topics

Spans = Mapping[TopicPartition, tuple[int, int]]
"""Where each partition begins, and the offset that its next record will get."""


class Installation:
    """What a log holds of one placement; nothing of it is written, and no group of it is joined."""

    def __init__(self, log: Log, topics: Topics) -> None:
        """Look around; raises UserError when there is no such installation."""
        self.log = log
        self.topics = topics
        found = log.describe(log.topics(f"{topics.prefix}."))
        if topics.executions not in found:
            raise UserError(
                f"there is no topic {topics.executions}: nothing to read again; see --local, --kafka and "
                "HEADGATE_TOPIC_PREFIX"
            )
        self._counts = {name: topic.partitions for name, topic in found.items()}
        self.partitions = self._counts[topics.executions]
        """Partitions of the log."""

    def outputs(self) -> dict[str, type[Any]]:
        """Return each topic that gates write to, and the class of what it carries."""
        topics = self.topics
        tasks, plans = topics.of_named_queues()
        fixed: dict[str, type[Any]] = {
            topics.control_events: control_pb2.ExecutionEvent,
            topics.lifetimes: execution_pb2.LifetimeView,
            topics.dead_letters: execution_pb2.DeadLetter,
            topics.task_inputs(): task_pb2.TaskInput,
            topics.plan_inputs(): plan_pb2.PlanInput,
        }
        named = {
            name: task_pb2.TaskInput if name.startswith(tasks) else plan_pb2.PlanInput
            for name in sorted(self._counts)
            if name.startswith((tasks, plans))
        }
        return {name: kind for name, kind in (fixed | named).items() if name in self._counts}

    def places(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return all partitions of some topics."""
        return [TopicPartition(topic, number) for topic in topics for number in range(self._counts[topic])]

    def spans(self, topics: Iterable[str]) -> Spans:
        """Return where the partitions of some topics begin and end at this moment."""
        places = self.places(topics)
        return self.log.offsets(places) if places else {}

    def acted_on(self) -> dict[int, int] | None:
        """Return up to where gates have said all that follows, by partition; None when nobody tells.

        Asking takes no part in the group.
        """
        places = self.places([self.topics.executions])
        consumer = self.log.consumer(self.topics.gate_group)
        try:
            found = consumer.committed(places)
        finally:
            consumer.close()
        if all(known is None for known in found.values()):
            return None
        return {place.partition: known.offset if known else 0 for place, known in found.items()}
