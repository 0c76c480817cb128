"""Reads the log after a load: counts what was lost and done twice, and times the planner's loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from headgate_loadtest.installation import Installation
from headgate_loadtest.samples import Nanos, as_nanos
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.port import TopicPartition

_IDLE_POLLS = 20
"""Empty polls in a row after which what is left is not there."""


@dataclass
class Audit:
    """What the log says about a load."""

    results: int = 0
    """Results of executions."""
    repeated: int = 0
    """Results of an execution that had one already: work that was done twice."""
    loop_ns: Nanos = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """From the end of a task to the begin of the next one, less what the plan between them took itself."""
    first_ms: int = 0
    """Append time of the first result."""
    last_ms: int = 0
    """Append time of the last one."""
    times_ms: list[int] = field(default_factory=list)
    """Append time of each result."""

    @property
    def steps_per_s(self) -> float:
        """Results in a second, over the middle eight tenths of them: neither begin nor end."""
        count = len(self.times_ms)
        if count < 20:
            return 0.0
        ordered = np.sort(np.asarray(self.times_ms, dtype=np.int64))
        low, high = int(ordered[count // 10]), int(ordered[count - 1 - count // 10])
        return 0.8 * count / max(0.001, (high - low) / 1000)


def audit(installation: Installation, begins: Mapping[TopicPartition, int]) -> Audit:
    """Return what the executions log says from `begins` to its end."""
    ends = installation.ends(installation.topics.executions)
    left = {where for where, end in ends.items() if begins.get(where, 0) < end}
    reader = installation.log.reader()
    tally = _Tally()
    try:
        reader.assign({where: begins.get(where, 0) for where in left})
        idle = 0
        while left and idle < _IDLE_POLLS:
            records = reader.poll(0.5, 5_000)
            idle = 0 if records else idle + 1
            for record in records:
                tally.take(record.value or b"", record.timestamp_ms)
                where = TopicPartition(record.topic, record.partition)
                if record.offset >= ends[where] - 1:
                    left.discard(where)
    finally:
        reader.close()
    return tally.audit()


class _Tally:
    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._found = Audit()
        self._ended_ns: dict[str, int] = {}
        self._plan_ns: dict[str, int] = {}
        self._loops: list[int] = []

    def take(self, value: bytes, timestamp_ms: int) -> None:
        envelope = ExecutionEnvelope.FromString(value)
        kind = envelope.WhichOneof("payload")
        if kind not in ("task_execution", "plan_execution"):
            return
        execution = getattr(envelope, kind)
        headers, found = execution.headers, self._found
        found.times_ms.append(timestamp_ms)
        if headers.execution_id in self._seen:
            found.repeated += 1
            return
        self._seen.add(headers.execution_id)
        began_ns, ended_ns = headers.started_at.ToNanoseconds(), headers.ended_at.ToNanoseconds()
        if kind == "plan_execution":
            self._plan_ns[headers.lifetime_id] = ended_ns - began_ns
        else:
            before = self._ended_ns.get(headers.lifetime_id)
            if before is not None and headers.node_id == "work":
                took_ns = began_ns - before - self._plan_ns.get(headers.lifetime_id, 0)
                self._loops.append(max(0, took_ns))
            self._ended_ns[headers.lifetime_id] = ended_ns

    def audit(self) -> Audit:
        found = self._found
        found.results = len(found.times_ms)
        found.first_ms = min(found.times_ms, default=0)
        found.last_ms = max(found.times_ms, default=0)
        found.loop_ns = as_nanos(self._loops)
        return found


def lost(acknowledged: Collection[str], ended: Collection[str]) -> list[str]:
    """Return what the log had taken and that has not ended, sorted."""
    return sorted(set(acknowledged).difference(ended))
