"""One turn of the fold: a record's place and clock, the outputs made so far, and the timers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from headgate_guardrails.fold.lifetime import Lifetime, Work
from headgate_guardrails.fold.state import PartitionState, Tenant
from headgate_guardrails.fold.wire import small, varint

if TYPE_CHECKING:
    from headgate_guardrails.fold.flow import Flow

TASK_INPUTS = "task-inputs"
PLAN_INPUTS = "plan-inputs"
CONTROL_EVENTS = "control-events"
LIFETIMES = "lifetimes"
DEAD_LETTERS = "dead-letters"


class Output:
    """One message for one topic; `message.source` says what it was made from.

    It is made from a message or from its bytes; who asks for the other gets it then.
    """

    __slots__ = ("_message", "_value", "key", "kind", "queue", "tenant_id", "topic")

    def __init__(
        self,
        topic: str,
        key: str,
        tenant_id: str,
        kind: type[Message],
        message: Message | None,
        value: bytes | None,
        queue: str,
    ) -> None:
        self.topic = topic
        """One of the five constants above."""
        self.queue = queue
        """Named queue of an input, empty for the default one and for all else."""
        self.key = key
        self.tenant_id = tenant_id
        self.kind = kind
        """Class of the message."""
        self._message = message
        self._value = value

    @property
    def message(self) -> Any:
        """The message, not to be changed."""
        if self._message is None:
            self._message = self.kind.FromString(self._value or b"")
        return self._message

    @property
    def value(self) -> bytes:
        """The message as bytes."""
        if self._value is None and self._message is not None:
            self._value = self._message.SerializeToString()
        return self._value or b""


_SOURCE_PARTITION, _SOURCE_OFFSET, _SOURCE_INDEX = b"\x08", b"\x10", b"\x18"
"""The fields of a Source."""


class Witness(Protocol):
    """Is told what became of each visit, in the order in which the fold takes it."""

    def went_on(self, flow: Flow, work: Work, own_id: str, execution: Any) -> None:
        """A visit's result, a TaskExecution or a PlanExecution, goes on to what follows."""

    def gave_up(self, flow: Flow, plan_id: str, visit: str) -> None:
        """A join's time is over; `visit` is the execution that had sent out the branches."""


class Turn:
    """What the verbs need while one record is folded; the engine has one, which `begin` makes ready."""

    __slots__ = ("clock", "is_silent", "offset", "outputs", "secrets", "state", "value", "witness")

    def __init__(
        self,
        state: PartitionState,
        offset: int,
        secrets: Mapping[str, bytes] = MappingProxyType({}),
        is_silent: bool = False,
        witness: Witness | None = None,
    ) -> None:
        self.state = state
        self.secrets = secrets
        """Ticket keys by fingerprint."""
        self.witness = witness
        """Is told what goes on, for who folds a log to learn its history; decides nothing."""
        self.value: bytes
        """The bytes that are taken, once the record is decoded: the record's own, or what waited for it."""
        self.begin(offset, is_silent)

    def begin(self, offset: int, is_silent: bool) -> None:
        """Go on to the next record; the clock has been moved. To make another turn would cost more."""
        self.offset = offset
        self.is_silent = is_silent
        """Whether nobody wants the outputs: then none need be made. It changes nothing in the state."""
        self.clock = self.state.clock_ms
        self.outputs: list[Output] = []

    def emit(self, topic: str, key: str, tenant_id: str, message: Any) -> None:
        """Add an output; its source index is its position among the outputs of this record."""
        if self.is_silent:
            return
        source = message.source
        source.partition = self.state.partition
        source.offset = self.offset
        source.index = len(self.outputs)
        self.outputs.append(Output(topic, key, tenant_id, type(message), message, None, ""))

    def source(self) -> bytes:
        """Return the Source of the next output as bytes."""
        partition, index = self.state.partition, len(self.outputs)
        source = _SOURCE_OFFSET + varint(self.offset) if self.offset else b""
        if partition:
            source = small(_SOURCE_PARTITION, partition) + source
        return source + small(_SOURCE_INDEX, index) if index else source

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
        (wake, tenant.tenant_id, lifetime_id)
        for tenant in state.tenants.values()
        for wake, lifetime_id in tenant.lifetimes.wakes()
    ]
    heapq.heapify(heap)
    return heap


def stamp(field: Timestamp | Duration, ms: int) -> None:
    """Set a Timestamp or Duration field from milliseconds."""
    field.seconds, rest = divmod(ms, 1000)
    field.nanos = rest * 1_000_000
