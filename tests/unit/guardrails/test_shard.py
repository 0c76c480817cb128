"""What is done for a partition between batches: in slices, of the state that is there."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import digest, seal
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.folding import PartitionFold
from headgate_guardrails.shard import LOOK_S, Shard
from tests.unit.guardrails.graphs_for_tests import LOOP
from tests.unit.guardrails.test_lifetimes_at_rest import whole
from tests.unit.guardrails.world import World, fold_all

AT_ONCE = 0.0
"""A slice that is over after one step."""
IN_THE_END = float("inf")


class Fold:
    """As much of a partition's fold as a shard looks at."""

    def __init__(self, world: World) -> None:
        self.state = world.engine.state
        self.known: Any = {}


@pytest.fixture
def world() -> World:
    made = World(LOOP)
    for number in range(4):
        made.start("g", f"run-{number}")
    return made


@pytest.fixture
def shard(world: World) -> Shard:
    return Shard(cast("PartitionFold", Fold(world)), world.engine.state.next_offset)


def test_a_capture_goes_on_between_batches_and_is_of_the_offset_at_which_it_began(
    world: World, shard: Shard
) -> None:
    before = digest(world.engine.state)
    shard.last = last = world.records[-1]
    shard.begin_capture()
    slices = 0
    while (captured := shard.go_on(AT_ONCE)) is None:
        slices += 1
        assert shard.is_capturing
        world.start("g", f"more-{slices}")
        shard.last = world.records[-1]
    assert slices == 5  # the tenant, then each lifetime that was there
    assert not shard.is_capturing
    assert seal(captured[0]).digest == before
    assert captured[1] is last


def test_a_capture_of_a_state_that_was_thrown_away_is_not_under_way(world: World, shard: Shard) -> None:
    shard.begin_capture()
    assert shard.go_on(AT_ONCE) is None
    engine = GuardrailEngine(PartitionState(0, 1))
    fold_all(engine, world.records)
    cast("Any", shard.fold).state = engine.state
    assert not shard.is_capturing
    shard.begin_capture()
    assert shard.go_on(IN_THE_END) is not None


def test_lifetimes_are_laid_to_rest_slice_by_slice(world: World, shard: Shard) -> None:
    now = time.monotonic()
    shard.tidy(now, IN_THE_END)
    assert len(whole(world)) == 4  # it is not due
    shard.tidy(now + LOOK_S, IN_THE_END)
    counts = []
    for _ in range(6):
        shard.tidy(now + 2 * LOOK_S, AT_ONCE)
        counts.append(len(whole(world)))
    assert counts == [3, 2, 1, 0, 0, 0]


def test_the_state_that_took_the_place_of_another_is_looked_through(world: World, shard: Shard) -> None:
    now = time.monotonic()
    shard.tidy(now + LOOK_S, AT_ONCE)
    world.engine = world.refold()
    cast("Any", shard.fold).state = world.engine.state
    for turn in (2, 3, 4):
        shard.tidy(now + turn * LOOK_S, IN_THE_END)
    assert whole(world) == set()
