"""One thing that happened to one lifetime, whichever topic it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import LifetimeStatus
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.codec import decode
from headgate_streams.port import LogRecord
from headgate_streams.topics import Topics


@dataclass(frozen=True, slots=True)
class Happening:
    """One record of a lifetime.

    `order` sorts all that happened to one lifetime in the order in which the gate saw it: a record of the log
    by its own offset, an output of the gate behind the record that led to it.
    """

    when_ms: int
    order: tuple[int, int, int]
    message: Any
    """LifetimeStart, ExecutionStarted, TaskExecution, PlanExecution, OperatorCommand, ExecutionEvent,
    LifetimeView, TaskInput or PlanInput."""
    lifetime_id: str = ""
    """Whose it is; empty for a control event about a whole graph or tenant."""
    depth: int = 0
    """Levels of sub-graphs between the lifetime that was asked for and this one."""
    tenant_id: str = ""
    """Whose lifetime it is."""

    @property
    def view(self) -> LifetimeView | None:
        """The message when it is the gate's view of the lifetime."""
        return self.message if isinstance(self.message, LifetimeView) else None

    @property
    def event(self) -> ExecutionEvent | None:
        """The message when it is a control event."""
        return self.message if isinstance(self.message, ExecutionEvent) else None

    @property
    def execution(self) -> TaskExecution | PlanExecution | None:
        """The message when it is a result."""
        return self.message if isinstance(self.message, TaskExecution | PlanExecution) else None

    @property
    def dispatch(self) -> TaskInput | PlanInput | None:
        """The message when it is an input that the gate dispatched."""
        return self.message if isinstance(self.message, TaskInput | PlanInput) else None


def read_happening(record: LogRecord, topics: Topics, tenant: str | None = None) -> Happening | None:
    """Return what a record says about the tenant's work, or about any tenant's; None when nothing.

    What does not decode is the gate's to report, and is passed over here.
    """
    try:
        is_input = record.topic == topics.executions
        found = _from_log(record) if is_input else _from_gate(record, topics)
    except BadRecord:
        return None
    return found if found is not None and tenant in (None, found.tenant_id) else None


def _from_log(record: LogRecord) -> Happening | None:
    envelope = decode(record, ExecutionEnvelope)
    kind = envelope.WhichOneof("payload")
    if kind in (None, "tick", "logic_version", "heartbeat"):
        return None
    order, message = (record.offset, 0, 0), getattr(envelope, str(kind))
    return Happening(record.timestamp_ms, order, message, envelope.lifetime_id, tenant_id=envelope.tenant_id)


def _from_gate(record: LogRecord, topics: Topics) -> Happening | None:
    if record.value is None:
        return None
    message = decode(record, _type_of(record.topic, topics))
    lifetime = message.headers.lifetime_id if hasattr(message, "headers") else message.lifetime_id
    order = (message.source.offset, 1, message.source.index)
    return Happening(record.timestamp_ms, order, message, lifetime, tenant_id=message.tenant_id)


def _type_of(topic: str, topics: Topics) -> Any:
    if topic == topics.control_events:
        return ExecutionEvent
    if topic == topics.lifetimes:
        return LifetimeView
    return TaskInput if topic.startswith(topics.task_inputs()) else PlanInput


def place_of(view: LifetimeView) -> tuple[bool, int, int]:
    """Return what sorts the views of one lifetime: the last of them says where it stands.

    A gate that takes over repeats earlier ones. A start that comes again when its lifetime is long forgotten
    is refused, which says nothing of the lifetime: a rejected one has no other view.
    """
    is_of_a_run = view.status != LifetimeStatus.LIFETIME_STATUS_REJECTED
    return is_of_a_run, view.source.offset, view.source.index
