"""Makes a scenario from a real log: when runs were asked for, how long they go round, how long steps take."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import Any

from headgate_graphs.errors import UserError
from headgate_graphs.units import format_duration
from headgate_loadtest.installation import Installation
from headgate_loadtest.scenario import MAX_LIFETIMES
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.port import TopicPartition


def record(installation: Installation, speed: float, most: int = 20_000) -> dict[str, Any]:
    """Return a scenario as plain data, for a YAML file: the arrivals of the log, `speed` times as fast.

    What runs did is kept as a shape: median rounds, median payload, a lognormal of step times. The newest
    `most` runs count. Raises UserError for a log without runs.
    """
    found = _Reading(installation)
    if not found.starts:
        raise UserError(f"{installation.topics.executions}: no run was ever asked for here")
    times = sorted(at for at, _ in found.starts)[-min(most, MAX_LIFETIMES) :]
    tenants = Counter(tenant for _, tenant in found.starts)
    rounds = round(statistics.median(found.tasks.values())) if found.tasks else 1
    return {
        "apiVersion": "headgate/v1",
        "kind": "LoadScenario",
        "name": "recorded",
        "at": [format_duration(round((at - times[0]) / speed)) for at in times],
        "tenants": {"count": len(tenants), "spread": "zipf", "exponent": _exponent(tenants)},
        "work": {
            "rounds": max(1, rounds),
            "payload_bytes": _median(found.sizes),
            "step_time": found.step_time(),
        },
    }


class _Reading:
    def __init__(self, installation: Installation) -> None:
        self.starts: list[tuple[int, str]] = []
        """(append time in ms, tenant) of each."""
        self.tasks: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.latencies_ms: list[int] = []
        ends = installation.ends(installation.topics.executions)
        begins = {place: begin for place, (begin, _) in installation.log.offsets(list(ends)).items()}
        left = {place for place, end in ends.items() if end > begins[place]}
        reader = installation.log.reader()
        try:
            reader.assign({place: begins[place] for place in left})
            idle = 0
            while left and idle < 20:
                records = reader.poll(0.5, 5_000)
                idle = 0 if records else idle + 1
                for one in records:
                    self._take(one.value or b"", one.timestamp_ms)
                    place = TopicPartition(one.topic, one.partition)
                    if one.offset >= ends[place] - 1:
                        left.discard(place)
        finally:
            reader.close()

    def _take(self, value: bytes, at_ms: int) -> None:
        envelope = ExecutionEnvelope.FromString(value)
        kind = envelope.WhichOneof("payload")
        if kind == "lifetime_start":
            self.starts.append((at_ms, envelope.tenant_id))
        elif kind == "task_execution":
            task = envelope.task_execution
            self.tasks[task.headers.lifetime_id] += 1
            self.sizes.append(len(task.result.json_result) or int(task.result.blob_reference.size_bytes))
            self.latencies_ms.append(int(task.resource_usage.latency_ms))

    def step_time(self) -> dict[str, Any]:
        times = [max(1, one) for one in self.latencies_ms]
        if not times or statistics.median(times) < 2:
            return {"kind": "none"}
        logs = [math.log(one) for one in times]
        sigma = min(3.0, statistics.pstdev(logs))
        return {"kind": "lognormal", "ms": float(statistics.median(times)), "sigma": round(sigma, 3)}


def _median(values: list[int]) -> int:
    return min(10_000_000, round(statistics.median(values))) if values else 0


def _exponent(tenants: Counter[str]) -> float:
    """Return the slope of log count over log rank: what Zipf's exponent would be."""
    counts = [count for _, count in tenants.most_common()]
    if len(counts) < 2 or counts[0] == counts[-1]:
        return 0.0
    xs = [math.log(rank) for rank in range(1, len(counts) + 1)]
    ys = [math.log(count) for count in counts]
    slope, _ = statistics.linear_regression(xs, ys)
    return round(min(4.0, max(0.0, -slope)), 3)
