"""The fold under random graphs, policies, traffic and restarts, watched by an oracle of its own.

A world is drawn from one seed: a failure names the seed, and `run_world(random.Random(seed), …)` repeats it.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headgate_guardrails.fold.definitions import orchestrate
from tests.support import needs_source
from tests.unit.guardrails.properties.lives import Violation
from tests.unit.guardrails.properties.mutations import MUTATIONS, TORN_CAPTURES, Mutation
from tests.unit.guardrails.properties.traffic import Traffic, run_world
from tests.unit.guardrails.properties.workers import Temper

TEMPERS = (
    Temper(),
    Temper(capped=True),
    Temper(wild=True),
    Temper(hurry=4.0),
    Temper(capped=True, humans=False, lifetimes=4),
    Temper(subgraphs=False, lifetimes=3),
)
STEPS = 700
"""Records of a long world before it is brought to rest."""
WORLDS = 140
MOST_WORLDS = 60
"""Worlds in which a deliberate bug must have been seen."""


def world_of(seed: int, steps: int) -> Traffic:
    """Run the world of a seed; whatever goes wrong names it."""
    temper = TEMPERS[seed % len(TEMPERS)]
    try:
        return run_world(random.Random(seed), temper, steps)
    except Exception as error:
        error.add_note(f"seed {seed}, {steps} steps, {temper}")
        raise


@pytest.mark.timeout(900)
def test_invariants_hold_over_a_hundred_thousand_steps() -> None:
    seeds: list[int] = []
    steps = 0
    seen: Counter[str] = Counter()

    @settings(
        max_examples=WORLDS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32 - 1))
    def worlds(seed: int) -> None:
        nonlocal steps
        world = world_of(seed, STEPS)
        seeds.append(seed)
        steps += world.oracle.steps
        seen.update(world.oracle.checks)

    worlds()
    print(f"{steps} steps in {len(seeds)} worlds, seeds {seeds[:4]}…: {dict(seen)}")
    assert steps >= 100_000
    few = {what: count for what in EVERYTHING if (count := seen[what]) < 100}
    assert not few, f"the traffic hardly tries {few}"


EVERYTHING = (
    *("dispatched", "accepted", "late", "repeat", "conflict", "joins", "children"),
    *("COMPLETED", "FAILED", "ABORTED"),
)
"""What the worlds must have done often enough for their word to count."""


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(rng=st.randoms(use_true_random=False), temper=st.sampled_from(TEMPERS))
def test_invariants_hold_in_small_worlds_that_can_be_shrunk(rng: random.Random, temper: Temper) -> None:
    run_world(rng, temper, 40)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_capture_in_slices_while_records_are_folded_is_the_state_at_which_it_was_begun(seed: int) -> None:
    world = Traffic(random.Random(seed), TEMPERS[seed % len(TEMPERS)])
    world.between.often = 1.0
    while len(world.records) < 200:
        world.step()
    world.refold()
    assert world.between.slices >= 5


@needs_source
@pytest.mark.parametrize("mutation", [*MUTATIONS, *TORN_CAPTURES], ids=lambda mutation: mutation.__name__)
def test_the_oracle_sees_a_deliberate_bug(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    try:
        for seed in range(MOST_WORLDS):
            try:
                world_of(seed, 250)
            except (Violation, KeyError) as seen:
                print(f"{mutation.__name__}: seed {seed}: {seen}")
                return
    finally:
        orchestrate.cache_clear()
    pytest.fail(f"{mutation.__name__} went unseen in {MOST_WORLDS} worlds")


def test_a_world_is_the_same_again_for_the_same_seed() -> None:
    first, again = world_of(7, 200), world_of(7, 200)
    assert [record.value for record in first.records] == [record.value for record in again.records]
    assert first.said == again.said
