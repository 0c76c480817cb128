"""Makes the orders that an operator may give. Pure; `client` sends them, and the gate obeys or refuses."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from headgate_protos.v1.control_pb2 import (
    AbortLifetime,
    CompleteExecution,
    OperatorCommand,
    PauseLifetime,
    RaiseBudget,
    ReleaseTenant,
    ResumeLifetime,
)


def pause(reason: str = "", ttl_ms: int | None = None, graph_id: str = "") -> OperatorCommand:
    """Return the order to dispatch nothing more of a lifetime.

    Sent without a lifetime it freezes the graph, or with no graph all of the tenant; `ttl_ms` (log time until
    the pause turns into an abort) belongs to a lifetime.
    """
    ttl = None if ttl_ms is None else Duration(seconds=ttl_ms // 1000, nanos=ttl_ms % 1000 * 1_000_000)
    return OperatorCommand(pause=PauseLifetime(reason=reason, ttl=ttl, graph_id=graph_id))


def resume(pause_generation: int = 0, graph_id: str = "") -> OperatorCommand:
    """Return the order to go on; generation 0 means the pause in force. Without a lifetime as `pause`."""
    return OperatorCommand(resume=ResumeLifetime(pause_generation=pause_generation, graph_id=graph_id))


def abort(reason: str = "") -> OperatorCommand:
    """Return the order to end a lifetime now and to cancel what runs."""
    return OperatorCommand(abort=AbortLifetime(reason=reason))


def raise_budget(policy: str, rule: str, metric: str, value: int) -> OperatorCommand:
    """Return the order to give one cap of one rule a new absolute value (cost in nano-USD).

    It resumes what that rule had paused. Sent without a lifetime for rules at scope tenant.
    """
    return OperatorCommand(raise_budget=RaiseBudget(policy=policy, rule=rule, metric=metric, value=value))


def complete(execution_id: str, outcome: int, json_answer: str = "") -> OperatorCommand:
    """Return the answer to a human task; `outcome` is a HumanOutcome."""
    order = CompleteExecution(execution_id=execution_id, json_answer=json_answer)
    order.outcome = outcome  # type: ignore[assignment]
    return OperatorCommand(complete=order)


def release(skip_failed: bool = False) -> OperatorCommand:
    """Return the order to fold what a quarantined tenant missed, and to go on; sent without a lifetime.

    With `skip_failed` the record on which the fold failed is left out and becomes a dead letter.
    """
    return OperatorCommand(release=ReleaseTenant(skip_failed=skip_failed))
