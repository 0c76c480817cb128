"""The table of figures says how each measured number stands beside floor, target and stretch."""

from __future__ import annotations

import pytest

from headgate_loadtest.figures import GOALS, Goal, rows_of, table_lines

FASTER = Goal("steps", "steps", 10, 20, 30)
SHORTER = Goal("pause", "pause", 100, 30, 10, " ms", 1)


@pytest.mark.parametrize(
    ("goal", "measured", "verdict"),
    [
        (FASTER, 9.9, "below the floor"),
        (FASTER, 10, "floor"),
        (FASTER, 25, "target"),
        (FASTER, 31, "stretch"),
        (FASTER, None, "not measured"),
        (SHORTER, 100.1, "below the floor"),
        (SHORTER, 99, "floor"),
        (SHORTER, 30, "target"),
        (SHORTER, 1, "stretch"),
    ],
)
def test_a_verdict_is_the_best_that_holds(goal: Goal, measured: float | None, verdict: str) -> None:
    assert goal.verdict(measured) == verdict


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.key)
def test_floor_target_and_stretch_go_one_way(goal: Goal) -> None:
    steps = [goal.floor, goal.target, goal.stretch]
    assert steps == sorted(steps, reverse=not goal.more_is_better)


def test_the_first_line_is_the_ratio_to_the_bare_loop() -> None:
    lines = table_lines({"ratio": 0.3456, "cold_start_s": 0.4})
    assert lines[0] == "ratio to the bare loop: 0.35"
    assert sum("not measured" in line for line in lines) == len(GOALS) - 2
    assert len(rows_of({})) == len(GOALS)
