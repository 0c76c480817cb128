"""Rows of the tables that `run`, `status` and `timeline` show; no colours, no widths, plain text cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headgate.command.views.state import Attempt, LifetimeState, Spend
from headgate.happening import Happening
from headgate.words import clock, control_word, execution_word, moment, status_word, usd, violation_line
from headgate_protos.v1.control_pb2 import OperatorCommand
from headgate_protos.v1.execution_pb2 import LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution

SPEND_COLUMNS = ("node", "visits", "runs", "tokens", "cost", "seconds")
SPEND_NUMBERS = SPEND_COLUMNS[1:]
ATTEMPT_COLUMNS = ("began", "node", "iteration", "attempt", "status", "tokens", "cost", "why")
ATTEMPT_NUMBERS = ("iteration", "attempt", "tokens", "cost")
TIMELINE_COLUMNS = ("when", "what", "node", "iteration", "attempt", "status", "cost", "tokens", "why")
TIMELINE_NUMBERS = ("iteration", "attempt", "cost", "tokens")


def spend_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per node that ran, most expensive first, and the total."""
    visits: dict[str, int] = {}
    for attempt in state.attempts.values():
        visits[attempt.node_id] = max(visits.get(attempt.node_id, 0), attempt.iteration)
    ordered = sorted(
        state.settled().items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].tokens_used, item[0])
    )
    rows = [_spend_row(node, str(visits.get(node, "")), spend) for node, spend in ordered]
    return [*rows, _spend_row("total", str(sum(visits.values())), state.settled_total())]


def _spend_row(name: str, visits: str, spend: Spend) -> tuple[str, ...]:
    cost = usd(spend.cost_nano_usd) + (" + unpriced" if spend.unpriced else "")
    return (name, visits, str(spend.runs), f"{spend.tokens_used:,}", cost, f"{spend.latency_ms / 1000:.2f}")


def attempt_rows(attempts: Iterable[Attempt]) -> list[tuple[str, ...]]:
    """Return one row per attempt, in the order in which they began."""
    return [
        (
            clock(one.since_ms), one.node_id, str(one.iteration), str(one.attempt), one.status,
            f"{one.usage.tokens_used:,}", usd(one.usage.cost_nano_usd), one.why,
        )
        for one in attempts
    ]  # fmt: skip


def timeline_row(happening: Happening) -> dict[str, Any]:
    """Return one line of a timeline as plain data; empty strings where a column does not apply."""
    row: dict[str, Any] = dict.fromkeys(TIMELINE_COLUMNS, "")
    row["when"] = moment(happening.when_ms)
    message = happening.message
    match message:
        case TaskExecution() | PlanExecution():
            row |= _execution_row(message)
        case LifetimeStart():
            row |= {"what": "start", "why": f"graph {message.graph_id} {message.graph_version or '(newest)'}"}
        case OperatorCommand():
            row |= {"what": "command", "status": _order(message), "why": f"by {message.issued_by}"}
        case LifetimeView():
            row |= {"what": "lifetime", "status": status_word(message.status), "why": message.reason}
        case _ if happening.event is not None:
            row |= _event_row(happening)
        case _:
            row |= {"what": "running", "why": f"worker {getattr(message, 'worker', '')}"}
    return row


def _execution_row(message: TaskExecution | PlanExecution) -> dict[str, Any]:
    headers, error = message.headers, message.result.error
    why = f"{error.code}: {error.message}" if error.code else ""
    if isinstance(message, PlanExecution) and not why and message.result.next_task_ids:
        why = "→ " + ", ".join(message.result.next_task_ids)
    return {
        "what": "plan" if isinstance(message, PlanExecution) else "task",
        "node": headers.node_id,
        "iteration": headers.iteration,
        "attempt": headers.attempt,
        "status": execution_word(headers.status),
        "cost": usd(message.resource_usage.cost_nano_usd),
        "tokens": message.resource_usage.tokens_used,
        "why": why,
    }


def _event_row(happening: Happening) -> dict[str, Any]:
    event = happening.event
    assert event is not None  # noqa: S101 - the caller has looked
    broken = "; ".join(violation_line(one) for one in event.violations)
    why = broken or event.reason
    return {
        "what": "shadow" if event.shadow else "control",
        "node": event.node_id,
        "status": control_word(event.type),
        "why": why,
    }


def _order(command: OperatorCommand) -> str:
    return str(command.WhichOneof("command")).replace("_", "-")
