"""Puts a story together from happenings. Pure; happenings come in the gate's order.

Most steps are told by their input, announcement and result. The gate itself settles others (a timeout, a
refusal, a person, a sub-graph): of those the input of the plan behind them tells, or a later try.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headgate.story.causes import add_causes
from headgate.story.model import Life, Note, Step, Story
from headgate.words import (
    TERMINAL,
    control_word,
    event_words,
    execution_word,
    millis,
    status_word,
    violation_line,
)
from headgate_catalog.happening import Happening
from headgate_graphs.ids import execution_id
from headgate_graphs.model import AgentGraph
from headgate_protos.v1.common_pb2 import ExecutionError, ExecutionHeaders
from headgate_protos.v1.control_pb2 import ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeStart, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput

HELD_BACK = "held back"
REPEATED = "repeated"
"""Status of what a fork takes from the record and does not run."""
TONES = {
    "WARN": "warn",
    "THROTTLE_EXECUTION": "hold",
    "PAUSE_LIFETIME": "hold",
    "RESUME_LIFETIME": "go",
    "RELEASE_TENANT": "go",
}
"""By control event; everything else stops something."""

Graphs = Mapping[tuple[str, str], AgentGraph]
"""By id and version."""


def tell(title: str, tenant: str, happenings: Iterable[Happening], graphs: Graphs) -> Story:
    """Return the story of what happened, each step with its cause; unknown graphs leave causes vague."""
    story = Story(title, tenant, list(happenings))
    for happening in story.happenings:
        _take(story, happening)
    _close(story)
    add_causes(story, graphs)
    return story


def _take(story: Story, one: Happening) -> None:
    match one.message:
        case LifetimeStart():
            life = _life(story, one)
            if life.start is None:
                _repeated(story, one, one.message)
            life.start, life.began_ms = life.start or one.message, life.began_ms or one.when_ms
        case LifetimeView():
            _viewed(story, one, one.message)
        case TaskInput() | PlanInput():
            _dispatched(story, one, one.message)
        case ExecutionStarted():
            _started(story, one, one.message)
        case TaskExecution() | PlanExecution():
            _reported(story, one, one.message)
        case ExecutionEvent():
            _controlled(story, one, one.message)
        case OperatorCommand():
            _ordered(story, one, one.message)


def _repeated(story: Story, one: Happening, start: LifetimeStart) -> None:
    """A fork's history was not run: each visit of it is told as a record of where it comes from."""

    def id_of(node_id: str, iteration: int) -> str:
        return str(execution_id(story.tenant, one.lifetime_id, node_id, iteration, 1))

    for place, visit in enumerate(start.fork.prefix):
        if visit.HasField("join_timeout"):
            continue
        node, iteration = visit.visit.node_id, visit.visit.iteration
        own = id_of(node, iteration)
        step = Step(own, one.lifetime_id, (one.order[0], 0, place + 1), node, iteration=iteration, attempt=1)
        step.kind = "plan" if visit.HasField("plan_result") else "task"
        step.upstream = tuple(id_of(up.node_id, up.iteration) for up in visit.upstream)
        step.status, step.began_ms, step.ended_ms = REPEATED, one.when_ms, one.when_ms
        step.who = f"record of {start.fork.origin.lifetime_id}"
        chosen = visit.plan_result.next_task_ids
        step.outcome = _error_words(visit.task_result.error) or ("→ " + ", ".join(chosen) if chosen else "")
        story.steps[own] = step


def _life(story: Story, one: Happening) -> Life:
    return story.lives.setdefault(one.lifetime_id, Life(one.lifetime_id, one.depth))


def _step(story: Story, one: Happening, execution_id: str) -> Step:
    _life(story, one)
    return story.steps.setdefault(execution_id, Step(execution_id, one.lifetime_id, one.order))


def _identify(step: Step, headers: ExecutionHeaders, kind: str) -> None:
    step.node_id, step.kind = headers.node_id, kind
    step.iteration, step.attempt = headers.iteration, headers.attempt
    step.upstream = tuple(headers.upstream_execution_ids) or step.upstream
    step.previous = headers.parent_execution_id or step.previous


def _viewed(story: Story, one: Happening, view: LifetimeView) -> None:
    life = _life(story, one)
    if life.status in TERMINAL and status_word(view.status) not in TERMINAL:
        return  # a repeat from before the end
    life.view, life.status = view, status_word(view.status)
    life.began_ms = life.began_ms or millis(view.started_at)
    if life.status in TERMINAL and life.ended_ms is None:
        life.ended_ms = millis(view.ended_at) or one.when_ms
    for waiting in view.waiting:
        step = _step(story, one, waiting.execution_id)
        if not step.node_id:
            step.node_id, step.kind, step.who = waiting.node_id, "task", "a person"
            step.asked_ms, step.began_ms, step.status = one.when_ms, one.when_ms, "running"
    if view.parent_execution_id:
        _opened_below(story, one, view)


def _opened_below(story: Story, one: Happening, view: LifetimeView) -> None:
    """The task that started a sub-graph is dispatched to nobody: the sub-graph's view tells of it."""
    above = story.lives.get(view.parent_lifetime_id)
    if above is None:
        return
    fresh = Step(view.parent_execution_id, above.lifetime_id, one.order, kind="task")
    step = story.steps.setdefault(view.parent_execution_id, fresh)
    step.asked_ms = step.asked_ms or millis(view.started_at)
    step.began_ms = step.began_ms or step.asked_ms
    step.who = f"sub-graph {view.graph_id}"
    if status_word(view.status) in TERMINAL and step.ended_ms is None:
        step.status, step.ended_ms = status_word(view.status), one.when_ms
    elif step.ended_ms is None:
        step.status = "running"


def _dispatched(story: Story, one: Happening, given: TaskInput | PlanInput) -> None:
    step = _step(story, one, given.headers.execution_id)
    _identify(step, given.headers, "plan" if isinstance(given, PlanInput) else "task")
    if step.asked_ms is None:
        step.asked_ms = one.when_ms
        step.status = "pending" if step.status == HELD_BACK else step.status
    before = story.steps.get(step.previous)
    if before is not None and before.is_open:
        before.status, before.ended_ms = "failed", one.when_ms
        before.outcome = before.outcome or "no result in time"
    if isinstance(given, PlanInput):
        for delivered in given.upstream_task_executions:
            _delivered(story, one, delivered)


def _delivered(story: Story, one: Happening, delivered: TaskExecution) -> None:
    """What a plan is handed says how a step ended that no worker has reported on."""
    step = _step(story, one, delivered.headers.execution_id)
    _identify(step, delivered.headers, "task")
    if step.status != REPEATED and (step.ended_ms is None or not step.outcome):
        step.ended_ms = step.ended_ms or one.when_ms
        step.status = execution_word(delivered.headers.status)
        step.outcome = _error_words(delivered.result.error)


def _started(story: Story, one: Happening, started: ExecutionStarted) -> None:
    step = _step(story, one, started.execution_id)
    step.node_id = step.node_id or started.node_id
    step.iteration, step.attempt = step.iteration or started.iteration, step.attempt or started.attempt
    step.who, step.began_ms = started.worker, step.began_ms or one.when_ms
    step.status = "running" if step.is_open else step.status


def _reported(story: Story, one: Happening, done: TaskExecution | PlanExecution) -> None:
    step = _step(story, one, done.headers.execution_id)
    if step.ended_ms is not None:
        return  # the first result counts; a later one is a row of the table alone
    _identify(step, done.headers, "plan" if isinstance(done, PlanExecution) else "task")
    step.told_at = one.order[0]
    step.status, step.ended_ms, step.usage = (
        execution_word(done.headers.status),
        one.when_ms,
        done.resource_usage,
    )
    if step.began_ms is None:
        begun = one.when_ms - int(done.resource_usage.latency_ms)
        step.began_ms = max(begun, step.asked_ms or begun)
    step.outcome = outcome_words(done)


def outcome_words(done: TaskExecution | PlanExecution) -> str:
    """Return the error, or what a plan chose; empty for a task that went well."""
    if done.result.error.code:
        return _error_words(done.result.error)
    chosen = done.result.next_task_ids if isinstance(done, PlanExecution) else ()
    return "→ " + ", ".join(chosen) if chosen else ""


def _error_words(error: ExecutionError) -> str:
    return f"{error.code}: {error.message}" if error.code else ""


def _controlled(story: Story, one: Happening, event: ExecutionEvent) -> None:
    kind = control_word(event.type)
    broken = [violation_line(rule) for rule in event.violations]
    text = "; ".join(broken) or event_words(event)
    shown = f"shadow {kind}" if event.shadow else kind
    tone = "warn" if event.shadow else TONES.get(kind, "stop")
    where = one.lifetime_id
    story.notes.append(Note(one.when_ms, one.order, where, event.execution_id, shown, "gate", text, tone))
    if not event.execution_id or not where:
        return
    step = _step(story, one, event.execution_id)
    step.node_id = step.node_id or event.node_id
    step.rules += [f"{shown}: {line}" for line in broken if f"{shown}: {line}" not in step.rules]
    if event.shadow or kind == "WARN":
        return
    if kind == "REJECT_EXECUTION" and step.ended_ms is None:
        step.status, step.ended_ms = "rejected", one.when_ms
        step.outcome = step.outcome or ("" if broken else event.reason)
    elif step.asked_ms is None and step.ended_ms is None:
        step.status, step.held_ms = HELD_BACK, step.held_ms or one.when_ms
        # No input says where it comes from: it follows from what the gate was reading.
        above = (led.execution_id for led in story.steps_of(where) if led.told_at == one.order[0])
        step.upstream = step.upstream or tuple(above)


def _ordered(story: Story, one: Happening, command: OperatorCommand) -> None:
    kind = str(command.WhichOneof("command"))
    execution_id = command.complete.execution_id if kind == "complete" else ""
    step = story.steps.get(execution_id)
    if step is not None:
        step.who = command.issued_by or step.who
        step.ended_ms = step.ended_ms or one.when_ms
        step.status = "completed" if step.is_open else step.status
    shown = kind.replace("_", "-")
    text = order_words(command)
    who = command.issued_by or "an operator"
    story.notes.append(Note(one.when_ms, one.order, one.lifetime_id, execution_id, shown, who, text, "order"))


def order_words(command: OperatorCommand) -> str:
    """Return what an order says, beside its kind."""
    match command.WhichOneof("command"):
        case "pause":
            return command.pause.reason
        case "abort":
            return command.abort.reason
        case "raise_budget":
            order = command.raise_budget
            return f"policy {order.policy}, rule {order.rule}: {order.metric} = {order.value:,}"
        case "complete":
            return command.complete.json_answer
    return ""


def _close(story: Story) -> None:
    """What is open when its lifetime has ended was let go."""
    for step in story.steps.values():
        life = story.lives.get(step.lifetime_id)
        if life is not None and life.ended_ms is not None and (step.is_open or step.status == HELD_BACK):
            if step.is_open:
                step.status = "aborted"
                step.outcome = step.outcome or f"its lifetime had {life.status}"
            step.ended_ms = step.ended_ms or life.ended_ms
