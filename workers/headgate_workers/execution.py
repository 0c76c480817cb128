"""Builds the envelopes a worker appends: announcements, results, heartbeats."""

from __future__ import annotations

import time
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from headgate_protos.v1.common_pb2 import ExecutionHeaders, ExecutionStatus
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.payloads import key_of, set_value
from headgate_workers.outcome import Outcome, failed
from headgate_workers.work import Work

WITHHELD = "withheld: the values of this lifetime are sealed"
"""In place of an exception's words, which no key could take back."""
_COMPLETED = ExecutionStatus.EXECUTION_STATUS_COMPLETED


def announcement(work: Work, worker: str) -> ExecutionEnvelope:
    """Return the ExecutionStarted of a leased run."""
    envelope = _envelope(work)
    started = envelope.execution_started
    started.execution_id = work.execution_id
    started.run_id = work.run_id
    started.worker = worker
    started.ticket = work.received.ticket
    headers = work.received.headers
    started.node_id = headers.node_id
    started.iteration = headers.iteration
    started.attempt = headers.attempt
    return envelope


def heartbeat(tenant: str, runs: Iterable[Work], worker: str) -> ExecutionEnvelope:
    """Return one heartbeat for all leased runs of a tenant, with what each has used so far."""
    envelope = ExecutionEnvelope(tenant_id=tenant)
    envelope.heartbeat.worker = worker
    for work in runs:
        envelope.heartbeat.runs.add(
            lifetime_id=work.lifetime_id,
            execution_id=work.execution_id,
            run_id=work.run_id,
            partial_usage=work.usage_so_far(),
        )
    return envelope


def report(work: Work, outcome: Outcome, max_record_bytes: int) -> ExecutionEnvelope:
    """Return the TaskExecution or PlanExecution of a run.

    A result that would not fit a record (a plan that names a million tasks) becomes the failure
    RESULT_TOO_LARGE; one that the wire cannot say (ids that are not Unicode) a HANDLER_ERROR.
    """
    try:
        envelope = _report(work, outcome)
    except ValueError as error:
        return _report(work, failed("HANDLER_ERROR", f"the result cannot travel: {error}", retryable=False))
    if envelope.ByteSize() > max_record_bytes:
        size = envelope.ByteSize()
        message = f"the result needs a record of {size} bytes, the most is {max_record_bytes}"
        return _report(work, failed("RESULT_TOO_LARGE", message, retryable=False))
    return envelope


def _report(work: Work, outcome: Outcome) -> ExecutionEnvelope:
    envelope = _envelope(work)
    if isinstance(work.received, TaskInput):
        _fill(envelope.task_execution, work, outcome)
        if outcome.metadata_json:
            envelope.task_execution.result.metadata_json = outcome.metadata_json
    else:
        _fill(envelope.plan_execution, work, outcome)
        _fill_decision(envelope.plan_execution, work.received, outcome)
    return envelope


def _fill(execution: TaskExecution | PlanExecution, work: Work, outcome: Outcome) -> None:
    execution.tenant_id = work.tenant_id
    execution.ticket = work.received.ticket
    elapsed_ns = work.elapsed_ns()
    _fill_headers(execution.headers, work, outcome.status, elapsed_ns)
    work.usage.write_to(
        execution.resource_usage, elapsed_ns // 1_000_000, must_be_told=work.has_begun and _has_limit(work)
    )
    result = execution.result
    if outcome.status == _COMPLETED:
        result.success = True
    if outcome.error is not None:
        result.error.CopyFrom(outcome.error)
        if outcome.error.exception_class and key_of(work.received.start_input):
            result.error.message = WITHHELD  # it may quote what the handler was given
    if outcome.payload is not None:
        set_value(result, outcome.payload)


def _fill_headers(headers: ExecutionHeaders, work: Work, status: ExecutionStatus, elapsed_ns: int) -> None:
    headers.CopyFrom(work.received.headers)
    headers.status = status
    headers.run_id = work.run_id
    ended_ns = time.time_ns()
    _set_time(headers.started_at, ended_ns - elapsed_ns)
    _set_time(headers.ended_at, ended_ns)


def _set_time(timestamp: Timestamp, unix_ns: int) -> None:
    timestamp.seconds, timestamp.nanos = divmod(unix_ns, 1_000_000_000)


def _fill_decision(execution: PlanExecution, received: PlanInput, outcome: Outcome) -> None:
    result = execution.result
    result.decision_metadata_json = outcome.metadata_json
    result.next_task_ids.extend(outcome.next_ids)
    for task_id, payload in outcome.next_inputs.items():
        result.next_inputs.add(task_id=task_id, input_data=payload)
    if received.upstream_task_executions:
        first = received.upstream_task_executions[0]
        execution.upstream_task_execution.tenant_id = first.tenant_id
        execution.upstream_task_execution.headers.CopyFrom(first.headers)


def _has_limit(work: Work) -> bool:
    # A handler that ran under a declared limit and never said what it used is settled at the hold.
    hold = work.received.hold
    return bool(hold.tokens_used or hold.cost_nano_usd)


def _envelope(work: Work) -> ExecutionEnvelope:
    return ExecutionEnvelope(tenant_id=work.tenant_id, lifetime_id=work.lifetime_id)
