"""The fold goes every way that the state machines show, and no other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from headgate_graphs.progress import GraphOrchestrator
from headgate_guardrails.fold import states
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.terms import LEASE_MS, START_WITHIN_MS
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from tests.support import needs_source
from tests.unit.guardrails.graphs_for_tests import LINE, PAID, graph, policy, rule
from tests.unit.guardrails.watching import Watch, Watched, word
from tests.unit.guardrails.world import usage

RACE = graph(
    [("p1", "ta", "parallel"), ("p1", "tb", "parallel"), ("p1", "tc", "parallel"),
     ("ta", "p2", "join"), ("tb", "p2", "join"), ("tc", "p2", "join"), ("p2", "end", "final")],
    entry="p1", limits={"deadline": "30d", "max_in_flight": 2},
    p2={"join": {"strategy": "any", "cancel_losers": True}},
    ta={"limits": {"tokens_used": 100}}, tb={"limits": {"tokens_used": 100}},
)  # fmt: skip
"""Two of three run at once; the first result wins."""
PERSON = graph([("t1", "p1"), ("p1", "end", "final")], entry="t1", t1={"type": "human", "timeout": "1m"})
PARENT = graph(
    [("t1", "p1"), ("p1", "end", "final")], entry="t1", t1={"type": "graph", "params": {"graph": "sub"}}
)
PAUSE = control_pb2.PauseLifetime()
RESUME = control_pb2.ResumeLifetime()
ABORT = control_pb2.AbortLifetime()


def at_task(watch: Watch, *rules: dict[str, Any], of: Any = PAID) -> Watched:
    """Return a world in which p1 has sent the lifetime on to t1."""
    world = watch.world(of, *([policy(*rules)] if rules else []))
    world.start("g")
    world.answer("p1", next=["t1"])
    return world


def racing(watch: Watch) -> Watched:
    world = watch.world(RACE)
    world.start("g")
    world.answer("p1", next=["ta", "tb", "tc"])
    return world


def a_line_completes(watch: Watch) -> None:
    world = at_task(watch, of=LINE)
    world.answer("t1")
    world.answer("p2", next=["end"])


def a_start_is_refused(watch: Watch) -> None:
    watch.world(LINE).start("unheard-of")


def what_is_held_back_goes_on(watch: Watch) -> None:
    world = at_task(watch)
    world.command(pause=PAUSE)
    world.answer("t1", used=usage(1))
    world.command(resume=RESUME)
    world.answer("p1", next=["end"])


def a_pause_ends_otherwise(watch: Watch) -> None:
    for order, how in ((["end"], {}), ([], {"error": "OUCH"})):
        world = watch.world(PAID)
        world.start("g")
        world.command(pause=PAUSE)
        world.answer("p1", next=order, **how)
    world = at_task(watch)
    world.command(pause=PAUSE)
    world.answer("t1")
    world.command(abort=ABORT)


def a_plan_fails(watch: Watch) -> None:
    world = watch.world(LINE)
    world.start("g")
    world.answer("p1", error="OUCH")


def rules_reject(watch: Watch) -> None:
    at_task(watch, rule("no", "execution", "reject_execution", when="node.id == 't1'"))
    world = at_task(watch, rule("no", "execution", "reject_execution", limit={"tokens_used": 150}))
    world.answer("t1", used=usage(151))
    world = at_task(watch, rule("no", "execution", "reject_execution", limit={"tokens_used": 50}), of=LINE)
    world.answer("t1", used=usage(51))


def a_rule_rejects_what_was_held_back(watch: Watch) -> None:
    world = watch.world(PAID)
    world.start("g")
    world.command(pause=PAUSE)
    world.answer("p1", next=["t1"])
    world.apply_policy(policy(rule("no", "execution", "reject_execution", when="node.id == 't1'")))
    world.command(resume=RESUME)


def a_rule_aborts_before_a_dispatch(watch: Watch) -> None:
    at_task(watch, rule("no", limit={"tokens_used": 50}))


def runs_are_aborted(watch: Watch) -> None:
    for announced in (True, False):
        world = at_task(watch)
        if announced:
            world.begin(world.take("t1"))
        world.command(abort=ABORT)


def runs_fail(watch: Watch) -> None:
    world = at_task(watch)
    world.answer("t1", error="OUCH")
    world = at_task(watch, of=LINE)
    world.answer("t1", error="OUCH")


def runs_are_lost(watch: Watch) -> None:
    world = at_task(watch)
    world.take("t1")
    world.tick(START_WITHIN_MS)
    world.begin(world.take("t1"))
    world.tick(LEASE_MS)


def the_first_of_three_wins(watch: Watch) -> None:
    world = racing(watch)
    world.begin(world.take("tb"))
    world.answer("ta")
    world = racing(watch)
    world.answer("ta")


def people_answer_or_not(watch: Watch) -> None:
    world = watch.world(PERSON)
    world.start("g")
    (asked,) = world.view().waiting
    world.command(
        complete=control_pb2.CompleteExecution(
            execution_id=asked.execution_id, outcome=control_pb2.HUMAN_OUTCOME_APPROVED
        )
    )
    world = watch.world(PERSON)
    world.start("g")
    world.tick(60_000)


def a_sub_graph_cannot_begin(watch: Watch) -> None:
    watch.world(PARENT).start("g")


SCENES = (
    a_line_completes, a_start_is_refused, what_is_held_back_goes_on, a_pause_ends_otherwise, a_plan_fails,
    rules_reject, a_rule_rejects_what_was_held_back, a_rule_aborts_before_a_dispatch, runs_are_aborted,
    runs_fail, runs_are_lost, the_first_of_three_wins, people_answer_or_not, a_sub_graph_cannot_begin,
)  # fmt: skip


def changes(table: tuple[states.Transition, ...]) -> set[tuple[str, str]]:
    return {(one.source, one.target) for one in table}


@needs_source
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_fold_goes_no_way_that_the_tables_do_not_show(
    scene: Callable[[Watch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    scene(watch)
    assert watch.lifetimes | watch.executions
    assert watch.lifetimes <= changes(states.LIFETIME)
    assert watch.executions <= changes(states.EXECUTION)


@needs_source
def test_the_fold_goes_every_way_that_the_tables_show(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    for scene in SCENES:
        scene(watch)
    assert watch.lifetimes == changes(states.LIFETIME)
    assert watch.executions == changes(states.EXECUTION)


STATUSES = list(pb.LifetimeStatus.values())


@pytest.mark.parametrize(("before", "after"), [*itertools.product(STATUSES, STATUSES)])
def test_a_lifetime_is_moved_by_the_table_and_by_nothing_else(before: int, after: int) -> None:
    lifetime = Lifetime("run-1", ("g", "1.0.0"), GraphOrchestrator(LINE))
    lifetime.status = before
    if (word(before), word(after)) in changes(states.LIFETIME):
        states.move(lifetime, after)
        assert lifetime.status == after
    else:
        with pytest.raises(RuntimeError, match="cannot go from"):
            states.move(lifetime, after)
        assert lifetime.status == before


def test_every_change_is_in_its_table_once() -> None:
    for table in (states.LIFETIME, states.EXECUTION):
        assert len(changes(table)) == len(table)
