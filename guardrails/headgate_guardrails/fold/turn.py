"""One turn of the fold: a record's place and clock, the outputs made so far, and the timers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from headgate_guardrails.fold.state import Lifetime, PartitionState, Tenant

TASK_INPUTS = "task-inputs"
PLAN_INPUTS = "plan-inputs"
CONTROL_EVENTS = "control-events"
LIFETIMES = "lifetimes"
DEAD_LETTERS = "dead-letters"


class Output(NamedTuple):
    """One message for one topic; `message.source` says what it was made from."""

    topic: str
    """One of the five constants above."""
    queue: str
    """Named queue of an input, empty for the default one and for all else."""
    key: str
    tenant_id: str
    message: Any


class Turn:
    """What the verbs need while one record is folded."""

    __slots__ = ("clock", "offset", "outputs", "secrets", "state")

    def __init__(
        self, state: PartitionState, offset: int, secrets: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        self.state = state
        self.offset = offset
        self.secrets = secrets
        """Ticket keys by fingerprint."""
        self.clock = state.clock_ms
        self.outputs: list[Output] = []

    def emit(self, topic: str, key: str, tenant_id: str, message: Any, queue: str = "") -> None:
        """Add an output; its source index is its position among the outputs of this record."""
        source = message.source
        source.partition = self.state.partition
        source.offset = self.offset
        source.index = len(self.outputs)
        self.outputs.append(Output(topic, queue, key, tenant_id, message))

    def arm(self, tenant: Tenant, lifetime: Lifetime, due: int) -> None:
        """See to it that the lifetime is looked at when the clock reaches `due`.

        A lifetime has one wake-up, the earliest; an earlier one leaves the old entry behind as stale,
        and the heap is swept when most of it is.
        """
        if lifetime.wake and lifetime.wake <= due:
            return
        state = self.state
        if lifetime.wake:
            state.stale += 1
        lifetime.wake = due
        heapq.heappush(state.heap, (due, tenant.tenant_id, lifetime.lifetime_id))
        if state.stale > 256 and state.stale * 2 > len(state.heap):
            state.heap = wakes(state)
            state.stale = 0


def wakes(state: PartitionState) -> list[tuple[int, str, str]]:
    """Return the heap as the lifetimes' own wake-ups make it."""
    heap = [
        (lifetime.wake, tenant.tenant_id, lifetime.lifetime_id)
        for tenant in state.tenants.values()
        for lifetime in tenant.lifetimes.values()
        if lifetime.wake
    ]
    heapq.heapify(heap)
    return heap


def stamp(field: Timestamp | Duration, ms: int) -> None:
    """Set a Timestamp or Duration field from milliseconds."""
    field.seconds, rest = divmod(ms, 1000)
    field.nanos = rest * 1_000_000
