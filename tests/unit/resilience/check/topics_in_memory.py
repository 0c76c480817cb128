"""The topics of an installation as lists: what a check reads in unit tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, PLAN_INPUTS, TASK_INPUTS, Output
from headgate_resilience.check import Check, Report
from headgate_streams.blobs import BlobStore, MemoryBlobStore
from headgate_streams.codec import headers_of
from headgate_streams.port import Headers, LogRecord
from headgate_streams.topics import Topics, partition_for, spread


class MemoryTopics:
    """Serves `Records`; every topic has the same number of partitions."""

    def __init__(self, partitions: int = 1) -> None:
        self.topics = Topics("headgate")
        self.partitions = partitions
        self.records: dict[str, dict[int, list[LogRecord]]] = {}
        self.offsets: dict[tuple[str, str], dict[int, int]] = {}
        self.is_read = True
        """Whether workers have committed all there is, else nothing; gates always have."""
        for one in self.topics.descriptions(partitions):
            self.records[one.name] = {number: [] for number in range(one.partitions)}

    # -- writing --

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        partition: int = 0,
        timestamp_ms: int = 1_700_000_000_000,
    ) -> LogRecord:
        parts = self.records.setdefault(topic, {number: [] for number in range(self.partitions)})
        records = parts[partition]
        record = LogRecord(topic, partition, len(records), timestamp_ms, key, value, headers)
        records.append(record)
        return record

    def say(self, output: Output) -> LogRecord:
        """Append an output as the gate does."""
        topics, kind = self.topics, output.topic
        partition = partition_for(output.tenant_id, self.partitions)
        if kind in (TASK_INPUTS, PLAN_INPUTS):
            make = topics.task_inputs if kind == TASK_INPUTS else topics.plan_inputs
            topic, partition = make(output.queue), spread(output.key, self.partitions)
        elif kind == CONTROL_EVENTS:
            topic = topics.control_events
        else:
            topic = topics.lifetimes if kind == LIFETIMES else topics.dead_letters
        headers = headers_of(output.kind.__name__, output.tenant_id)
        return self.append(topic, output.key.encode(), output.value, headers, partition=partition)

    def fold(self, log: Iterable[LogRecord]) -> None:
        """Take a whole log of partition 0, and say what a gate says of it."""
        engine = GuardrailEngine(PartitionState(0, self.partitions))
        for record in log:
            self.records[self.topics.executions][0].append(record)
            for output in engine.apply(record):
                self.say(output)

    # -- Records --

    def names(self) -> list[str]:
        return sorted(self.records)

    def spans(self, topic: str) -> Mapping[int, tuple[int, int]]:
        found = self.records.get(topic, {})
        return {n: (r[0].offset, r[-1].offset + 1) if r else (0, 0) for n, r in found.items()}

    def ends(self, topic: str) -> Mapping[int, int]:
        return {number: end for number, (_, end) in self.spans(topic).items()}

    def read(self, topic: str, partition: int | None = None) -> Iterator[LogRecord]:
        for number, records in self.records.get(topic, {}).items():
            if partition in (None, number):
                yield from records

    def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """Return what was set, else everything or nothing."""
        has_read = self.is_read or topic == self.topics.executions
        ends = {number: end for number, (_, end) in self.spans(topic).items() if has_read}
        return self.offsets.get((group, topic), ends)


def checked(
    records: MemoryTopics, *, settled: bool = True, blobs: BlobStore | None = None, **more: Any
) -> Report:
    """Check topics in memory; while the workload is not over, nobody has committed any input."""
    records.is_read = settled
    canaries = more.pop("canaries", {})
    check = Check(records, blobs or MemoryBlobStore(), settled=settled, canaries=canaries, **more)
    return check.run()
