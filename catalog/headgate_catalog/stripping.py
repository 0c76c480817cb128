"""Takes out of messages what users put into them, so that the catalog has nothing that must be erased.

What is left: ids, statuses, times, usage, codes and one-line reasons, policies' numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message

from headgate_protos.v1.control_pb2 import ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import (
    ExecutionStarted,
    GraphRegistered,
    KeyRegistered,
    LifetimeStart,
    LifetimeView,
    PolicySet,
    TenantQuarantined,
    TicketKeyRegistered,
)
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput, PlanResult
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput, TaskResult


def stripped(message: Message) -> bytes:
    """Return the bytes of a message without what users put into it; the message is changed."""
    _STRIP[type(message)](message)
    return message.SerializeToString()


def content_of(view: LifetimeView) -> bytes:
    """Return the bytes of what users put into a view: its outcome, and what people are asked."""
    outcome = view.outcome if view.HasField("outcome") else None
    return LifetimeView(outcome=outcome, waiting=view.waiting).SerializeToString()


def whole_view(view: bytes, content: bytes | None) -> LifetimeView:
    """Return a view from what `stripped` and `content_of` gave; without the latter, without content."""
    found = LifetimeView.FromString(view)
    if content:
        put_in = LifetimeView.FromString(content)
        found.ClearField("waiting")
        found.MergeFrom(put_in)
    return found


def _strip_start(message: LifetimeStart) -> None:
    message.ClearField("input")
    for visit in (*message.fork.prefix, *message.fork.stubs):
        if visit.HasField("task_result"):
            _strip_task_result(visit.task_result)
        elif visit.HasField("plan_result"):
            _strip_plan_result(visit.plan_result)


def _strip_started(message: ExecutionStarted) -> None:
    message.ClearField("ticket")


def _strip_task(message: TaskExecution) -> None:
    message.ClearField("input_data")
    message.ClearField("ticket")
    _strip_task_result(message.result)


def _strip_task_result(result: TaskResult) -> None:
    result.ClearField("json_result")
    result.ClearField("blob_reference")
    result.ClearField("metadata_json")


def _strip_plan(message: PlanExecution) -> None:
    message.ClearField("upstream_task_execution")
    message.ClearField("ticket")
    _strip_plan_result(message.result)


def _strip_plan_result(result: PlanResult) -> None:
    result.ClearField("json_result")
    result.ClearField("blob_reference")
    result.ClearField("decision_metadata_json")
    result.ClearField("next_inputs")


def _strip_command(message: OperatorCommand) -> None:
    if message.WhichOneof("command") == "complete":
        message.complete.ClearField("json_answer")


def _strip_input(message: TaskInput | PlanInput) -> None:
    kept = type(message)()
    kept.tenant_id = message.tenant_id
    kept.headers.CopyFrom(message.headers)
    kept.source.CopyFrom(message.source)
    if isinstance(message, PlanInput) and isinstance(kept, PlanInput):
        kept.upstream_task_executions.extend(message.upstream_task_executions)
        for upstream in kept.upstream_task_executions:
            _strip_task(upstream)
    message.CopyFrom(kept)  # type: ignore[arg-type]


def _strip_view(message: LifetimeView) -> None:
    message.ClearField("outcome")
    for waiting in message.waiting:
        waiting.ClearField("json_input")


def _strip_nothing(message: Any) -> None:
    """Control events are the gate's; graphs, policies and keys are no content of a run."""


_STRIP: Final[dict[type[Message], Callable[[Any], None]]] = {
    LifetimeStart: _strip_start,
    ExecutionStarted: _strip_started,
    TaskExecution: _strip_task,
    PlanExecution: _strip_plan,
    OperatorCommand: _strip_command,
    TaskInput: _strip_input,
    PlanInput: _strip_input,
    LifetimeView: _strip_view,
    ExecutionEvent: _strip_nothing,
    GraphRegistered: _strip_nothing,
    PolicySet: _strip_nothing,
    KeyRegistered: _strip_nothing,
    TicketKeyRegistered: _strip_nothing,
    TenantQuarantined: _strip_nothing,
}
TYPES: Final[dict[str, type[Message]]] = {kind.__name__: kind for kind in _STRIP}
"""What happens to a lifetime, by the name of its type; nothing else is kept."""
