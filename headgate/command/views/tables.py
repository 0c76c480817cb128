"""Rows of the tables that `run`, `status` and `timeline` show; no colours, no widths, plain text cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headgate.command.views.state import LifetimeState, Spend
from headgate.words import (
    TERMINAL,
    clock,
    control_word,
    event_words,
    execution_word,
    moment,
    nested,
    shortened,
    status_word,
    usd,
    violation_line,
)
from headgate_catalog.happening import Happening
from headgate_protos.v1.control_pb2 import ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution

SPEND_COLUMNS = ("node", "visits", "runs", "tokens", "cost", "seconds")
SPEND_NUMBERS = SPEND_COLUMNS[1:]
ATTEMPT_COLUMNS = ("began", "node", "iteration", "attempt", "status", "tokens", "cost", "why")
BELOW_COLUMNS = ("sub-graph", "graph", "status", "cost", "tokens", "why")
BELOW_NUMBERS = ("cost", "tokens")
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
    rows += [_spend_row(f"sub-graph {graph}", str(count), spent) for graph, count, spent in _below(state)]
    return [*rows, _spend_row("total", str(sum(visits.values())), state.settled_total())]


def _below(state: LifetimeState) -> list[tuple[str, int, Spend]]:
    """Return graph id, how many lifetimes, and their spend, of the sub-graphs."""
    found: dict[str, tuple[int, Spend]] = {}
    for one in state.below.values():
        graph = one.view.graph_id if one.view is not None else "?"
        count, spent = found.get(graph, (0, Spend()))
        for spend in one.settled().values():
            spent = spent.plus(spend)
        found[graph] = (count + 1, spent)
    return [(graph, count, spent) for graph, (count, spent) in found.items()]


def _spend_row(name: str, visits: str, spend: Spend) -> tuple[str, ...]:
    cost = usd(spend.cost_nano_usd) + (" + unpriced" if spend.unpriced else "")
    return (name, visits, str(spend.runs), f"{spend.tokens_used:,}", cost, f"{spend.latency_ms / 1000:.2f}")


def attempt_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per attempt, in the order in which they began; those of sub-graphs are indented."""
    found = [
        (nested(attempt.node_id, name, one.depth), attempt)
        for name, one in {"": state, **state.below}.items()
        for attempt in one.attempts.values()
    ]
    return [
        (
            clock(one.since_ms), node, str(one.iteration), str(one.attempt), one.status,
            f"{one.usage.tokens_used:,}", usd(one.usage.cost_nano_usd), shortened(one.why),
        )
        for node, one in (sorted(found, key=lambda item: item[1].since_ms) if state.below else found)
    ]  # fmt: skip


def below_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per sub-graph, indented by its level, in the order in which they became known."""
    return [
        ("  " * (one.depth - 1) + name, f"{view.graph_id} {view.graph_version}", one.status,
         usd(view.usage.cost_nano_usd), f"{view.usage.tokens_used:,}", shortened(view.reason))
        for name, one in state.below.items()
        if (view := one.view) is not None
    ]  # fmt: skip


def timeline_rows(history: Iterable[Happening]) -> list[dict[str, Any]]:
    """Return one row for each happening; a result that came after its lifetime's end says so."""
    rows, ended = [], set()
    for happening in history:
        row = timeline_row(happening)
        if happening.execution is not None and happening.lifetime_id in ended:
            row["why"] = "; ".join(filter(None, ("after the end", row["why"])))
        if happening.view is not None and status_word(happening.view.status) in TERMINAL:
            ended.add(happening.lifetime_id)
        rows.append(row)
    return rows


def timeline_cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row for people: what happened below is indented."""
    shown = row | {"what": "  " * row["depth"] + row["what"], "why": shortened(row["why"])}
    if row["node"]:
        shown["node"] = nested(row["node"], row["lifetime"], row["depth"])
    return [str(shown[column]) for column in TIMELINE_COLUMNS]


def timeline_row(happening: Happening) -> dict[str, Any]:
    """Return one line of a timeline as plain data; empty strings where a column does not apply.

    Beside the columns: whose it is, and how many levels of sub-graphs lie above.
    """
    row: dict[str, Any] = dict.fromkeys(TIMELINE_COLUMNS, "")
    row |= {"when": moment(happening.when_ms), "lifetime": happening.lifetime_id, "depth": happening.depth}
    message = happening.message
    match message:
        case TaskExecution() | PlanExecution():
            row |= _execution_row(message)
        case LifetimeStart():
            row |= {"what": "start", "why": f"graph {message.graph_id} {message.graph_version or '(newest)'}"}
        case OperatorCommand():
            row |= {"what": "command", "status": _order(message), "why": f"by {message.issued_by}"}
        case LifetimeView():
            row |= {"what": "lifetime", "status": status_word(message.status), "why": _view_why(message)}
        case _ if happening.event is not None:
            row |= _event_row(happening.event)
        case ExecutionStarted():
            row |= {"what": "running", "why": f"worker {message.worker}"}
            row |= {name: getattr(message, name) or "" for name in ("iteration", "attempt")}
            row["node"] = message.node_id
    return row


def _view_why(view: LifetimeView) -> str:
    """Return which sub-graph it is, if it is one, and the reason."""
    named = f"{view.graph_id} {view.graph_version} {view.lifetime_id}" if view.parent_lifetime_id else ""
    return ": ".join(filter(None, (named, view.reason)))


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


def _event_row(event: ExecutionEvent) -> dict[str, Any]:
    broken = "; ".join(violation_line(one) for one in event.violations)
    kind = control_word(event.type)
    return {
        "what": "shadow" if event.shadow else "warning" if kind == "WARN" else "control",
        "node": event.node_id,
        "status": kind,
        "why": broken or event_words(event),
    }


def _order(command: OperatorCommand) -> str:
    return str(command.WhichOneof("command")).replace("_", "-")
