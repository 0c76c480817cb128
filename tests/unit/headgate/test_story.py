"""What a timeline says: causes, outcomes, the tree, and the rows of its table."""

from __future__ import annotations

from typing import Any

from headgate.command.views.timeline import (
    TIMELINE_COLUMNS,
    timeline_cells,
    timeline_row,
    timeline_rows,
    tree_data,
    tree_rows,
)
from headgate.story.model import Story
from headgate.story.telling import tell
from headgate.story.tree import tree_of
from headgate_catalog.happening import Happening
from headgate_graphs.loading import graph_from_json
from headgate_graphs.model import AgentGraph
from headgate_protos.v1.common_pb2 import ExecutionHeaders, ResourceUsage
from headgate_protos.v1.control_pb2 import CompleteExecution, ExecutionEvent, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeStart, WaitingView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput, PlanResult
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput, TaskResult
from tests.unit.headgate import records
from tests.unit.headgate.records import COMPLETED, PAUSED, RUNNING, event, task_done, view, violation

FORK = AgentGraph.model_validate({
    "metadata": {"id": "demo", "version": "1.0.0"}, "entry": "split",
    "plans": [{"id": "split", "type": "s"}, {"id": "gather", "type": "g"}],
    "tasks": [{"id": "left", "type": "l"}, {"id": "right", "type": "r"}, {"id": "last", "type": "x"}],
    "edges": [
        {"from": "split", "to": "left", "type": "parallel"},
        {"from": "split", "to": "right", "type": "parallel"},
        {"from": "left", "to": "gather", "type": "join"}, {"from": "right", "to": "gather", "type": "join"},
        {"from": "gather", "to": "last"}, {"from": "last", "to": "end", "type": "final"},
    ],
})  # fmt: skip
GRAPHS = {("demo", "1.0.0"): FORK}


class Log:
    """Happenings in order, a second apart."""

    def __init__(self) -> None:
        self.told: list[Happening] = []

    def add(self, message: Any, whose: str = "life", depth: int = 0) -> None:
        number = len(self.told)
        self.told.append(Happening(1000 * number, (number, 0, 0), message, whose, depth))

    def story(self) -> Story:
        return tell("life", "default", self.told, GRAPHS)


def headers(node: str, *upstream: str, attempt: int = 1, **more: Any) -> ExecutionHeaders:
    return ExecutionHeaders(
        execution_id=f"{node}-{attempt}", lifetime_id="life", node_id=node, iteration=1, attempt=attempt,
        upstream_execution_ids=upstream, **more,
    )  # fmt: skip


def run(log: Log, node: str, *upstream: str, chosen: tuple[str, ...] | None = None) -> None:
    """Dispatch and complete one execution; a plan when it chose something."""
    known = headers(node, *upstream)
    done = ExecutionHeaders()
    done.CopyFrom(known)
    done.status = COMPLETED  # type: ignore[assignment]
    if chosen is None:
        log.add(TaskInput(headers=known))
        log.add(TaskExecution(headers=done, result=TaskResult(success=True)))
    else:
        log.add(PlanInput(headers=known))
        log.add(PlanExecution(headers=done, result=PlanResult(success=True, next_task_ids=chosen)))


def forked() -> Log:
    log = Log()
    log.add(LifetimeStart(graph_id="demo", issued_by="ann"))
    log.add(view(RUNNING))
    run(log, "split", chosen=("left", "right"))
    run(log, "left", "split-1")
    run(log, "right", "split-1")
    run(log, "gather", "left-1", "right-1", chosen=("last",))
    run(log, "last", "gather-1")
    log.add(view(COMPLETED))
    return log


def test_each_execution_says_which_edge_or_decision_led_to_it_and_what_came_of_it() -> None:
    steps = forked().story().steps
    assert {step.node_id: (step.cause, step.outcome) for step in steps.values()} == {
        "split": ("entry of graph demo", "→ left, right"),
        "left": ("chosen by split #1 over a parallel edge", ""),
        "right": ("chosen by split #1 over a parallel edge", ""),
        "gather": ("joined (all) from left #1, right #1", "→ last"),
        "last": ("chosen by gather #1", ""),
    }


def test_a_fork_goes_a_level_deeper_and_its_join_comes_back() -> None:
    story = forked().story()
    assert [row[0] for row in tree_rows(tree_of(story, GRAPHS))] == [
        "life", "├─ split #1", "│  ├─ left #1", "│  └─ right #1", "├─ gather #1", "└─ last #1",
    ]  # fmt: skip


def test_a_long_chain_stays_on_one_level() -> None:
    log = Log()
    log.add(view(RUNNING))
    run(log, "n0")
    for number in range(1, 2000):
        run(log, f"n{number}", f"n{number - 1}-1")
    [life] = tree_of(log.story(), GRAPHS)
    assert len(life.below) == 2000


def test_a_sub_graph_stands_below_the_task_that_started_it() -> None:
    log = Log()
    log.add(view(RUNNING))
    log.add(
        view(RUNNING, lifetime_id="sub-a", parent_lifetime_id="life", parent_execution_id="map-1"), "sub-a", 1
    )
    log.add(task_done("count"), "sub-a", 1)
    log.add(
        view(COMPLETED, lifetime_id="sub-a", parent_lifetime_id="life", parent_execution_id="map-1"),
        "sub-a",
        1,
    )
    log.add(PlanInput(headers=headers("gather", "map-1"), upstream_task_executions=[
        TaskExecution(headers=headers("map", status=COMPLETED))]))  # fmt: skip
    [life] = tree_data(tree_of(log.story(), GRAPHS))
    [started, gathered] = life["below"]
    assert (started["what"], started["status"], started["who"]) == ("map #1", "completed", "sub-graph demo")
    assert [one["what"] for one in started["below"]] == ["sub-a"]
    assert [one["what"] for one in started["below"][0]["below"]] == ["count #1"]
    assert gathered["why"] == "after map #1"


def test_a_try_after_a_timeout_says_what_it_is_tried_after() -> None:
    log = Log()
    log.add(view(RUNNING))
    log.add(TaskInput(headers=headers("write")))
    log.add(TaskInput(headers=headers("write", attempt=2, parent_execution_id="write-1")))
    first, second = log.story().steps.values()
    assert (first.status, first.outcome, first.ended_ms) == ("failed", "no result in time", 2000)
    assert (second.label, second.cause) == ("write #1 try 2", "tried again after no result in time")


def test_what_a_rule_held_back_shows_since_when_and_by_which_numbers() -> None:
    log = Log()
    log.add(view(RUNNING))
    paused = event()
    paused.execution_id, paused.node_id = "write-1", "write"
    log.add(paused)
    [step] = log.story().steps.values()
    assert (step.status, step.held_ms, step.node_id) == ("held back", 1000, "write")
    assert "run-dollars of policy tight v2" in step.rules[0]
    log.add(TaskInput(headers=headers("write")))
    log.add(ExecutionStarted(execution_id="write-1", worker="w1"))
    [step] = log.story().steps.values()
    assert (step.status, step.held_ms, step.asked_ms, step.who) == ("running", 1000, 2000, "w1")


def test_what_was_held_back_and_never_dispatched_says_what_would_have_led_to_it() -> None:
    log = Log()
    log.add(view(RUNNING))
    run(log, "gather", chosen=("last",))
    held = event()
    held.execution_id, held.node_id = "last-1", "last"
    order = (log.told[-1].order[0], 1, 0)
    log.told.append(Happening(5000, order, held, "life", 0))
    step = log.story().steps["last-1"]
    assert (step.status, step.cause) == ("held back", "chosen by gather #1")


def test_a_refused_execution_is_told_though_it_was_never_dispatched() -> None:
    log = Log()
    log.add(view(RUNNING))
    refused = ExecutionEvent(
        event_id="1", lifetime_id="life", type="CONTROL_TYPE_REJECT_EXECUTION", execution_id="write-1",
        node_id="write", violations=[violation()],
    )  # fmt: skip
    log.add(refused)
    [life] = tree_data(tree_of(log.story(), GRAPHS))
    [row] = life["below"]
    assert (row["what"], row["status"]) == ("write", "rejected")
    assert [note["what"] for note in row["below"]] == ["◆ REJECT_EXECUTION"]


def test_a_person_is_named_who_answered() -> None:
    log = Log()
    log.add(view(RUNNING, waiting=[WaitingView(execution_id="e9", node_id="approve")]))
    log.add(OperatorCommand(issued_by="ann", complete=CompleteExecution(execution_id="e9", outcome=1)))  # type: ignore[arg-type]
    [step] = log.story().steps.values()
    assert (step.node_id, step.who, step.status, step.ended_ms) == ("approve", "ann", "completed", 1000)


def test_what_had_no_result_when_its_lifetime_ended_was_let_go() -> None:
    log = Log()
    log.add(view(RUNNING))
    log.add(TaskInput(headers=headers("write")))
    ended = view(COMPLETED)
    ended.ended_at.FromMilliseconds(2000)
    log.add(ended)
    [step] = log.story().steps.values()
    assert (step.status, step.ended_ms) == ("aborted", 2000)


def test_who_asks_again_for_what_has_ended_makes_it_no_longer() -> None:
    log = forked()
    assert log.story().span("life") == (0, 12_000)
    late = Happening(99_000, (99, 0, 0), LifetimeStart(graph_id="demo"), "life")
    story = tell("life", "default", [*log.told, late], GRAPHS)
    assert story.span("life") == (0, 12_000)


def test_every_row_of_the_table_says_who() -> None:
    log = forked()
    log.add(OperatorCommand(issued_by="ann"))
    whos = {(row["what"], row["who"]) for row in timeline_rows(log.story())}
    assert whos == {
        ("start", "ann"), ("lifetime", "gate"), ("dispatch", "gate"),
        ("task", ""), ("plan", ""), ("command", "ann"),
    }  # fmt: skip


def test_a_result_whose_dispatch_is_gone_says_what_led_to_it() -> None:
    log = Log()
    log.add(view(RUNNING))
    log.add(TaskExecution(headers=headers("split", status=COMPLETED), result=TaskResult(success=True)))
    assert timeline_rows(log.story())[-1]["why"] == "entry of graph demo"


def test_a_result_after_the_end_says_so() -> None:
    log = Log()
    log.add(task_done())
    log.add(view(COMPLETED))
    log.add(task_done(error="TIMEOUT"))
    assert [row["why"] for row in timeline_rows(log.story())] == ["", "", "after the end; TIMEOUT: no"]


def test_a_long_reason_is_shortened_for_people_and_whole_for_scripts() -> None:
    row = timeline_row(Happening(0, (0, 0, 0), view(PAUSED, reason="x" * 5000)), {})
    assert len(row["why"]) == 5000
    assert len(timeline_cells(row)[-1]) < 300


def test_a_timeline_row_has_every_column() -> None:
    row = timeline_row(Happening(0, (0, 0, 0), task_done(error="TIMEOUT")), {})
    assert set(TIMELINE_COLUMNS) <= set(row)
    assert (row["when"], row["node"], row["status"]) == ("1970-01-01T00:00:00.000Z", "write", "failed")
    assert row["why"] == "TIMEOUT: no"


def test_what_happens_below_is_indented_in_the_table() -> None:
    done = Happening(0, (0, 0, 0), task_done(), "sub-0123456789", 2)
    cells = dict(zip(TIMELINE_COLUMNS, timeline_cells(timeline_row(done, {})), strict=True))
    assert (cells["what"], cells["node"]) == ("    task", "    sub-012345/write")


def test_a_warning_and_a_freeze_have_rows_of_their_own() -> None:
    warning = event("CONTROL_TYPE_WARN")
    assert timeline_row(Happening(0, (0, 0, 0), warning, "life"), {})["what"] == "warning"
    freeze = ExecutionEvent(type="CONTROL_TYPE_PAUSE_LIFETIME", graph_id="demo", reason="odd")
    assert timeline_row(Happening(0, (0, 0, 0), freeze), {})["why"] == "graph demo: odd"


def test_a_graph_that_is_not_known_leaves_causes_vague_and_tells_the_rest() -> None:
    story = tell("life", "default", forked().told, {})
    assert story.steps["gather-1"].cause == "joined from left #1, right #1"
    assert story.steps["split-1"].cause == ""
    assert graph_from_json(FORK.canonical_json()) == FORK


def test_only_what_ran_has_cost() -> None:
    done = task_done()
    story = tell("life", "default", [Happening(0, (0, 0, 0), done, "life")], {})
    assert story.steps["write-1"].usage == done.resource_usage != ResourceUsage()
    assert story.tenant == records.TENANT
