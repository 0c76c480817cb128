"""How fast a broken cap is heard of, and how fast the handler beside it stops, while a load goes on."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from headgate_loadtest.installation import FLUSH_S, Installation, policy_set, registration, start_of
from headgate_loadtest.samples import Nanos, as_nanos
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.port import TopicPartition

TENANTS = ("breach-a", "breach-b", "breach-c", "breach-d")
_CAP = 1_000
_SETTLE_S = 5.0


@dataclass(frozen=True)
class Breaches:
    """What was measured, one entry for each cap that was broken."""

    asked: int
    event_ns: Nanos
    """From the append of the result that breaks the cap until the control event was read."""
    stop_ns: Nanos
    """... until the handler that ran beside it had stopped."""


def measure_breaches(installation: Installation, count: int, per_s: float) -> Breaches:
    """Return how `count` runs were stopped, `per_s` asked for in a second.

    Each run has two tasks at once: one spends more than the cap, the other waits until it is cancelled.
    """
    names = [(TENANTS[n % len(TENANTS)], f"breach-{secrets.token_hex(6)}") for n in range(count)]
    publisher = installation.publisher()
    for tenant in TENANTS:
        publisher.publish(registration(_graph(tenant)))
        publisher.publish(policy_set(_policy(), tenant))
    installation.producer().flush(FLUSH_S)
    begins = installation.ends(installation.topics.executions)
    ears = _Ears(installation)
    for tenant, name in names:
        publisher.publish(start_of(tenant, name, "load-breach"))
        installation.producer().push(0.005)
        time.sleep(1 / per_s)
    ears.wait_for({name for _, name in names})
    time.sleep(0.5)  # the last handlers report that they have stopped
    return _paired(installation, begins, ears.heard_ns, count)


def _graph(tenant: str) -> AgentGraph:
    spend = {
        "rounds": 0,
        "seed": 0,
        "bytes": 10,
        "leased": False,
        "kind": "none",
        "ms": 0.0,
        "tokens": 2 * _CAP,
    }
    wait = {**spend, "tokens": 0, "kind": "fixed", "ms": 60_000.0}
    return AgentGraph.model_validate(
        {
            "metadata": {"id": "load-breach", "version": "1.0.0"},
            "entry": "decide",
            "limits": {"deadline": "1h"},
            "tasks": [
                {"id": "spend", "type": "load_work", "config": {"params": spend}},
                {"id": "wait", "type": "load_work", "config": {"params": wait, "timeout": "2m"}},
            ],
            "plans": [
                {
                    "id": "decide",
                    "type": "load_decide",
                    "config": {"params": {"rounds": 1, "next": ["spend", "wait"]}},
                },
                {"id": "after", "type": "load_decide", "config": {"params": {"rounds": 0, "next": []}}},
            ],
            "edges": [
                {"from": "decide", "to": "spend", "type": "parallel"},
                {"from": "decide", "to": "wait", "type": "parallel"},
                {"from": "spend", "to": "after"},
                {"from": "wait", "to": "after"},
                {"from": "after", "to": "end", "type": "final"},
            ],
        }
    ).for_tenant(tenant)


def _policy() -> Policy:
    rule: dict[str, Any] = {
        "name": "cap",
        "scope": "lifetime",
        "limit": {"tokens_used": _CAP},
        "action": "abort_lifetime",
    }
    return Policy.model_validate(
        {"kind": "GuardrailPolicy", "metadata": {"name": "breach", "version": 1}, "rules": [rule]}
    )


class _Ears:
    """Listens for the control events, on a thread of its own."""

    def __init__(self, installation: Installation) -> None:
        self.heard_ns: dict[str, int] = {}
        """When each lifetime's abort was read, Unix nanoseconds."""
        self._reader = installation.log.reader()
        self._reader.assign(installation.ends(installation.topics.control_events))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-ears", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for record in self._reader.poll(0.02):
                event = ExecutionEvent.FromString(record.value or b"")
                if event.type == ControlType.CONTROL_TYPE_ABORT_LIFETIME:
                    self.heard_ns.setdefault(event.lifetime_id, time.time_ns())

    def wait_for(self, names: set[str]) -> None:
        """Return when all have been heard of, or after a bounded time."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline and not names <= self.heard_ns.keys():
            time.sleep(0.02)
        self._stop.set()
        self._thread.join(5)
        self._reader.close()


def _paired(
    installation: Installation, begins: dict[TopicPartition, int], heard_ns: dict[str, int], count: int
) -> Breaches:
    broke_ns: dict[str, int] = {}
    stopped_ns: dict[str, int] = {}
    reader = installation.log.reader()
    try:
        reader.assign(begins)
        while records := reader.poll(0.5, 5_000):
            for record in records:
                envelope = ExecutionEnvelope.FromString(record.value or b"")
                headers = envelope.task_execution.headers
                if headers.graph_id != "load-breach":
                    continue
                if headers.node_id == "spend":
                    broke_ns.setdefault(headers.lifetime_id, record.timestamp_ms * 1_000_000)
                elif headers.node_id == "wait":
                    stopped_ns.setdefault(headers.lifetime_id, headers.ended_at.ToNanoseconds())
    finally:
        reader.close()
    both = [name for name in broke_ns if name in heard_ns]
    return Breaches(
        count,
        as_nanos(max(0, heard_ns[name] - broke_ns[name]) for name in both),
        as_nanos(max(0, stopped_ns[name] - broke_ns[name]) for name in both if name in stopped_ns),
    )
