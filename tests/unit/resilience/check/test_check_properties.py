"""The check on the logs of random worlds: no violation in a sound one, and every planted bug is seen.

A world is graphs, policies, clients, workers that die and repeat, operators and rubbish, drawn from one seed;
those of `tests/unit/guardrails/properties`, whose own oracle watches the fold itself.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from headgate_guardrails.fold.definitions import orchestrate
from headgate_resilience.check import Report, Verdict
from tests.unit.guardrails.properties.lives import Violation
from tests.unit.guardrails.properties.mutations import (
    MUTATIONS,
    Mutation,
    order_depends_on_the_process,
    waits_are_let_go,
)
from tests.unit.guardrails.properties.traffic import Traffic
from tests.unit.guardrails.test_fold_properties import TEMPERS
from tests.unit.resilience.check.topics_in_memory import MemoryTopics, checked

WORLDS = 30
STEPS = 400
MOST_WORLDS = 40
"""Worlds in which a planted bug must have been seen."""
ALONE = (order_depends_on_the_process, waits_are_let_go)
"""Bugs that break a promise of no record: only a fold without them tells (I11)."""
OFTEN = ("results accepted", "results late", "results repeat", "lifetimes aborted", "lifetimes completed")


class Deaf:
    """An oracle that is asked and never believed, so that a world goes on whatever its fold does."""

    def __init__(self, oracle: Any) -> None:
        self._oracle = oracle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oracle, name)

    def observe(self, record: Any, outputs: list[Any], *, bad: bool = False) -> None:
        with suppress(Violation, LookupError):
            self._oracle.observe(record, outputs, bad=bad)

    def check_state(self, content: Any) -> None:
        """Nothing."""

    check_moving = check_rest = lambda self: None


class Heard(Traffic):
    """A world whose gate's words are kept."""

    def __init__(self, seed: int) -> None:
        self.heard = MemoryTopics(1)
        super().__init__(random.Random(seed), TEMPERS[seed % len(TEMPERS)])
        self.oracle: Any = Deaf(self.oracle)

    def _hear(self, output: Any) -> None:
        self.heard.say(output)
        super()._hear(output)

    def play(self, steps: int) -> None:
        while len(self.records) < steps:
            self.step()
        self.drain()


def heard(seed: int, steps: int) -> MemoryTopics:
    """Return the topics of a world that has come to rest."""
    world = Heard(seed)
    world.play(steps)
    topics = world.heard
    topics.records[topics.topics.executions][0] = world.records
    return topics


def test_random_worlds_have_no_violation() -> None:
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        report = checked(heard(seed, STEPS))
        assert not report.violated, f"seed {seed}\n" + "\n".join(report.lines())
        seen.update(report.counts)
    assert min(seen[what] for what in OFTEN) >= 50, seen
    print(f"{seen['records']} records in {WORLDS} worlds")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_planted_bug_is_seen(mutation: Mutation) -> None:
    """Not because a fold says it: I11 does not count, but for what nothing else can see."""
    for seed in range(MOST_WORLDS):
        with pytest.MonkeyPatch.context() as patch:
            mutation(patch)
            topics = heard(seed, 200)
        orchestrate.cache_clear()
        found = broken(checked(topics))
        if found - {"I11"} or (found and mutation in ALONE):
            print(f"{mutation.__name__}: seed {seed}: {sorted(found)}")
            return
    pytest.fail(f"{mutation.__name__} went unseen in {MOST_WORLDS} worlds")


def broken(report: Report) -> set[str]:
    return {one.id for one in report.invariants.values() if one.verdict is Verdict.FAIL}
