"""The search for the knee ends within 5 % of it, and other comparisons are by medians."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headgate_loadtest.comparing import compare, in_turn
from headgate_loadtest.knee import Search, find_knee, holds
from headgate_loadtest.load import silent
from headgate_loadtest.report.page import page
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import packed
from headgate_loadtest.scenario import Scenario, altered
from tests.unit.loadtest.test_load import load


@pytest.fixture(scope="module")
def measured() -> LoadResult:
    return load()


def served_up_to(limit: float, measured: LoadResult, tried: list[float]) -> object:
    def run(scenario: Scenario) -> LoadResult:
        tried.append(scenario.rate)
        p99_ms = 20.0 if scenario.rate <= limit else 5_000.0
        return replace(measured, faults=[], response=replace(measured.response, p99_ms=p99_ms))

    return run


@pytest.mark.parametrize("limit", [3.0, 70.0, 1_234.0])
def test_the_knee_is_found_to_five_percent(limit: float, measured: LoadResult) -> None:
    tried: list[float] = []
    scenario = altered(Scenario(), rate=20.0)
    knee = find_knee(scenario, Search(repeats=1), served_up_to(limit, measured, tried), silent)  # type: ignore[arg-type]
    assert limit / 1.06 <= knee.rate <= limit
    assert len(tried) < 20


def test_a_load_with_a_fault_does_not_hold(measured: LoadResult) -> None:
    good = replace(measured, faults=[], response=replace(measured.response, p99_ms=5.0))
    assert holds(good, Search())
    assert not holds(replace(good, faults=["lost"]), Search())


def test_a_rate_at_which_runs_wait_ever_longer_does_not_hold_however_short_the_trial(
    measured: LoadResult,
) -> None:
    # 4 s at a fifth more than is served: at the end runs wait for two thirds of a second.
    waits_ms = np.linspace(20, 667, 400)
    samples = {**measured.samples, "response": packed((waits_ms * 1e6).astype(np.int64))}
    late = replace(measured, faults=[], samples=samples, response=replace(measured.response, p99_ms=661.0))
    assert not holds(replace(late, asked=400, offered_rate=100.0), Search())
    steady = {**measured.samples, "response": packed(np.full(400, 600_000_000, dtype=np.int64))}
    assert holds(replace(late, asked=400, offered_rate=100.0, samples=steady), Search())


def test_two_loads_take_turns_and_are_compared_by_medians(measured: LoadResult) -> None:
    order: list[str] = []

    def run(name: str, steps: float) -> LoadResult:
        order.append(name)
        return replace(measured, steps_per_s=steps)

    a, b = in_turn(lambda: run("a", 100.0), lambda: run("b", 150.0), 3)
    assert order == ["a", "b"] * 3
    assert compare(a, b)[0] == ("steps/s", 100.0, 150.0, 1.5)


def test_the_page_needs_nothing_beside_it(measured: LoadResult) -> None:
    knee = find_knee(Scenario(), Search(repeats=1), served_up_to(50, measured, []), silent)  # type: ignore[arg-type]
    text = page("Load <1>", [measured], knee=knee)
    assert "Load &lt;1&gt;" in text
    assert text.count("<svg") >= 6
    assert "src=" not in text
    assert "href=" not in text.replace("xlink:href", "")
    assert measured.machine["commit"] in text
