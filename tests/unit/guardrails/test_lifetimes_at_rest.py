"""Lifetimes to which nothing happens are kept as bytes, and nobody can tell."""

from __future__ import annotations

import pytest

from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.snapshot import Capturing, digest, seal
from headgate_guardrails.shard import look
from headgate_protos.v1 import control_pb2
from tests.unit.guardrails.graphs_for_tests import LOOP, graph
from tests.unit.guardrails.world import TENANT, World

PARENT = graph(
    [("t1", "p1"), ("p1", "end", "final")], entry="t1", t1={"type": "graph", "params": {"graph": "below"}}
)
BELOW = LOOP.model_copy(update={"metadata": LOOP.metadata.model_copy(update={"id": "below"})})


def lay_to_rest(world: World) -> None:
    """Look so often that all of them rest: a parent rests when those below it do."""
    for _ in range(4):
        for _ in look(world.engine.state):
            pass


def whole(world: World) -> set[str]:
    """Return the lifetimes that do not rest, asking for none of them."""
    table = world.engine.state.tenants[TENANT].lifetimes
    return {lifetime_id for lifetime_id, kept in table._kept.items() if isinstance(kept, Lifetime)}


@pytest.fixture
def world() -> World:
    made = World(LOOP)
    for number in range(3):
        made.start("g", f"run-{number}")
    return made


def test_a_lifetime_rests_when_nobody_asks_for_it_from_one_look_to_the_next(world: World) -> None:
    before = digest(world.engine.state)
    for _ in look(world.engine.state):
        pass
    assert whole(world) == {"run-0", "run-1", "run-2"}
    world.lifetime("run-1")
    for _ in look(world.engine.state):
        pass
    assert whole(world) == {"run-1"}
    assert digest(world.engine.state) == before


def test_a_lifetime_that_is_asked_for_is_whole_again_and_the_same(world: World) -> None:
    before = digest(world.engine.state)
    lay_to_rest(world)
    again = world.lifetime("run-1")
    assert world.lifetime("run-1") is again
    assert whole(world) == {"run-1"}
    assert digest(world.engine.state) == before


def test_a_timer_fires_for_a_lifetime_that_rests(world: World) -> None:
    lay_to_rest(world)
    world.tick(world.lifetime("run-1").deadline - world.clock)
    assert {world.status(f"run-{number}") for number in range(3)} == {"ABORTED"}
    world.refold()


def test_what_a_freeze_held_back_goes_on_although_it_rests(world: World) -> None:
    world.command("", pause=control_pb2.PauseLifetime())
    for _ in range(2):
        world.answer("p1", next=["t1"])
    lay_to_rest(world)
    world.command("", resume=control_pb2.ResumeLifetime())
    assert whole(world) == {"run-0", "run-1"}  # of the third nothing was held back
    assert world.waiting() == ["p1", "t1", "t1"]
    world.refold()


def test_parent_and_child_find_one_another_after_a_rest() -> None:
    world = World(PARENT)
    world.register(BELOW)
    world.start("g")
    (child,) = (one for one in world.engine.state.tenants[TENANT].lifetimes if one != "run-1")
    lay_to_rest(world)
    assert whole(world) == set()
    assert world.lifetime(child).parent is world.lifetime("run-1")
    for _ in range(2):
        world.lifetime(child)
        for _ in look(world.engine.state):
            pass
    assert whole(world) == {child, "run-1"}  # above one that is whole
    lay_to_rest(world)
    world.answer("p1", next=["end"])
    assert world.waiting() == ["p1"]
    assert world.lifetime().spend.executions == 1
    world.refold()


def test_a_state_is_captured_once_at_a_time(world: World) -> None:
    steps = Capturing(world.engine.state).steps()
    next(steps)
    with pytest.raises(RuntimeError, match="being captured already"):
        Capturing(world.engine.state)
    for _ in steps:
        pass
    assert digest(world.engine.state)


def test_a_lifetime_that_comes_or_goes_during_a_capture_is_not_in_it_or_is(world: World) -> None:
    before = digest(world.engine.state)
    capturing = Capturing(world.engine.state)
    steps = capturing.steps()
    next(steps)
    world.start("g", "run-3")
    for _ in range(2):
        world.tick(LOOP.limits.deadline_ms + 600_000)  # ended, then forgotten
    assert not len(world.engine.state.tenants[TENANT].lifetimes)
    for _ in steps:
        pass
    assert seal(capturing.taken).digest == before
