"""The scenario of many runs that are alive at once: they arrive over a while and outlast the arrivals."""

from __future__ import annotations

from typing import Any

from headgate_loadtest.scenario import Scenario, altered

RAMP_S = 20.0
"""Over how long the runs arrive, at most a thousand a second."""
_STEP_MS = 5_000.0


def alive_at_once(scenario: Scenario, runs: int) -> Scenario:
    """Return the scenario in which `runs` runs are alive at once for at least two of their steps.

    A step, a task's or a plan's, takes 5 s unless the scenario says something else.
    """
    ramp_s = max(RAMP_S, runs / 1_000)
    step: dict[str, Any] = scenario.work.step_time.model_dump()
    if step["kind"] == "none":
        step = {"kind": "fixed", "ms": _STEP_MS}
    thinking: dict[str, Any] = scenario.work.plan_time.model_dump()
    if scenario.work.step_time.kind == "none" and thinking["kind"] == "none":
        thinking = step
    round_ms = step["ms"] + (thinking["ms"] if thinking["kind"] != "none" else 0)
    rounds = int(ramp_s * 1000 / round_ms) + 2
    return altered(
        scenario,
        rate=runs / ramp_s,
        duration=f"{round(ramp_s * 1000)}ms",
        arrivals="constant",
        work={"rounds": rounds, "step_time": step, "plan_time": thinking},
    )
