"""A story as rows: one for each thing that happened, or a tree of executions. Plain text cells, no widths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headgate.story.model import Life, Note, Step, Story
from headgate.story.telling import order_words, outcome_words
from headgate.story.tree import Branch, walk
from headgate.words import (
    TERMINAL,
    clock,
    control_word,
    event_words,
    execution_word,
    fork_words,
    moment,
    nested,
    shortened,
    status_word,
    usd,
    violation_line,
)
from headgate_catalog.happening import Happening
from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.control_pb2 import ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput

TIMELINE_COLUMNS = ("when", "who", "what", "node", "iteration", "attempt", "status", "cost", "tokens", "why")
TIMELINE_NUMBERS = ("iteration", "attempt", "cost", "tokens")
TREE_COLUMNS = ("what", "status", "began", "took", "cost", "tokens", "who", "why")
TREE_NUMBERS = ("took", "cost", "tokens")


def timeline_rows(story: Story) -> list[dict[str, Any]]:
    """Return one row for each happening; a result that came after its lifetime's end says so."""
    rows, ended = [], set()
    for happening in story.happenings:
        row = timeline_row(happening, story.steps)
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


def timeline_row(happening: Happening, steps: dict[str, Step]) -> dict[str, Any]:
    """Return one line of a timeline as plain data; empty strings where a column does not apply.

    Beside the columns: whose it is, how many levels of sub-graphs lie above, and which execution.
    """
    row: dict[str, Any] = dict.fromkeys(TIMELINE_COLUMNS, "")
    row |= {"when": moment(happening.when_ms), "lifetime": happening.lifetime_id, "depth": happening.depth}
    row["execution"] = ""
    message = happening.message
    match message:
        case TaskExecution() | PlanExecution():
            row |= _execution_row(message, steps.get(message.headers.execution_id))
        case TaskInput() | PlanInput():
            row |= _headers_of(message) | {"who": "gate", "what": "dispatch", "status": "pending"}
            row["why"] = _cause(steps.get(message.headers.execution_id))
        case LifetimeStart():
            row |= {"what": "start", "who": message.issued_by}
            row["why"] = _start_why(message)
        case OperatorCommand():
            row |= {"what": "command", "who": message.issued_by, "status": _order(message)}
            row["why"] = order_words(message)
        case LifetimeView():
            row |= {"what": "lifetime", "who": "gate", "status": status_word(message.status)}
            row["why"] = _view_why(message)
        case ExecutionEvent():
            row |= _event_row(message)
        case ExecutionStarted():
            row |= {"what": "running", "who": message.worker, "status": "running"}
            row |= {name: getattr(message, name) or "" for name in ("iteration", "attempt")}
            row |= {"node": message.node_id, "execution": message.execution_id}
    return row


def _start_why(start: LifetimeStart) -> str:
    """Return the graph, and what a fork repeats and changes."""
    said = f"graph {start.graph_id} {start.graph_version or '(newest)'}"
    if not start.HasField("fork"):
        return said
    fork = start.fork
    repeated = f"{fork_words(fork.origin)}, {len(fork.prefix)} visits repeated"
    return " · ".join((said, repeated, *fork.changes))


def _cause(step: Step | None) -> str:
    return step.cause if step is not None else ""


def _view_why(view: LifetimeView) -> str:
    """Return which sub-graph it is, if it is one, and the reason."""
    named = f"{view.graph_id} {view.graph_version} {view.lifetime_id}" if view.parent_lifetime_id else ""
    return ": ".join(filter(None, (named, view.reason)))


def _headers_of(message: TaskExecution | PlanExecution | TaskInput | PlanInput) -> dict[str, Any]:
    headers = message.headers
    return {
        "node": headers.node_id,
        "iteration": headers.iteration,
        "attempt": headers.attempt,
        "execution": headers.execution_id,
    }


def _execution_row(message: TaskExecution | PlanExecution, step: Step | None) -> dict[str, Any]:
    """Return a result; where its dispatch is no longer in the log, what led to it stands here."""
    is_told = step is None or step.asked_ms is not None
    return _headers_of(message) | {
        "who": step.who if step is not None else "",
        "what": "plan" if isinstance(message, PlanExecution) else "task",
        "status": execution_word(message.headers.status),
        "cost": usd(message.resource_usage.cost_nano_usd),
        "tokens": message.resource_usage.tokens_used,
        "why": " · ".join(filter(None, ("" if is_told else _cause(step), outcome_words(message)))),
    }


def _event_row(event: ExecutionEvent) -> dict[str, Any]:
    broken = "; ".join(violation_line(one) for one in event.violations)
    kind = control_word(event.type)
    return {
        "who": "gate",
        "what": "shadow" if event.shadow else "warning" if kind == "WARN" else "control",
        "node": event.node_id,
        "execution": event.execution_id,
        "status": kind,
        "why": broken or event_words(event),
    }


def _order(command: OperatorCommand) -> str:
    return str(command.WhichOneof("command")).replace("_", "-")


def tree_rows(roots: Iterable[Branch]) -> list[list[str]]:
    """Return one row of cells for each branch, with the lines of the tree in the first cell."""
    found = []
    for guide, branch in walk(list(roots)):
        told = branch_row(branch)
        what = f"{guide}{told.pop('what')}"
        told["why"] = shortened(told["why"])
        cells = {"what": what, **told, "took": _took(told["took_ms"])}
        found.append([str(cells[column]) for column in TREE_COLUMNS])
    return found


def tree_data(roots: Iterable[Branch]) -> list[dict[str, Any]]:
    """Return the tree as plain data: each with `below`, the list of what lies below it."""
    return [branch_row(one) | {"below": tree_data(one.below)} for one in roots]


def branch_row(branch: Branch) -> dict[str, Any]:
    """Return what one branch says, by column, with `took_ms` (None while it lasts) in place of `took`.

    The rules about an execution stand in the notes below it; as data they are beside it too.
    """
    item = branch.item
    if isinstance(item, Step):
        return _step_row(item)
    if isinstance(item, Note):
        what = {"what": f"◆ {item.kind}", "status": "", "began": clock(item.when_ms), "took_ms": None}
        return what | {"cost": "", "tokens": "", "who": item.who, "why": item.text}
    return _life_row(item)


def _step_row(step: Step) -> dict[str, Any]:
    began = step.began_ms or step.asked_ms
    usage = step.usage
    return {
        "what": step.label,
        "execution": step.execution_id,
        "status": step.status,
        "began": clock(began) if began else "",
        "took_ms": None if began is None or step.ended_ms is None else max(0, step.ended_ms - began),
        "cost": usd(usage.cost_nano_usd) if usage.cost_nano_usd else "",
        "tokens": f"{usage.tokens_used:,}" if usage.tokens_used else "",
        "who": step.who,
        "rules": step.rules,
        "why": " · ".join(filter(None, (step.cause, step.outcome))),
    }


def _life_row(life: Life) -> dict[str, Any]:
    view = life.view
    graph = f"graph {view.graph_id} {view.graph_version}" if view is not None else ""
    usage = view.usage if view is not None else ResourceUsage()
    forked = fork_words(view.fork_of) if view is not None and view.HasField("fork_of") else ""
    return {
        "what": life.lifetime_id,
        "status": life.status,
        "began": clock(life.began_ms) if life.began_ms else "",
        "took_ms": None if not life.began_ms or life.ended_ms is None else life.ended_ms - life.began_ms,
        "cost": usd(usage.cost_nano_usd) if usage.cost_nano_usd else "",
        "tokens": f"{usage.tokens_used:,}" if usage.tokens_used else "",
        "who": life.start.issued_by if life.start is not None else "",
        "why": " · ".join(filter(None, (graph, forked, view.reason if view is not None else ""))),
    }


def _took(ms: int | None) -> str:
    return "" if ms is None else f"{ms / 1000:.2f} s"
