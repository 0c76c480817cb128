"""A load measures what a client would have seen, and fails when something was lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headgate_loadtest.load import Bounds, run_load
from headgate_loadtest.result import LoadResult, faults_of, read_result
from headgate_loadtest.samples import unpacked
from headgate_loadtest.scenario import Scenario, altered
from tests.unit.loadtest.serving import answering

SHORT = altered(Scenario(), rate=100.0, duration="1500ms", arrivals="constant", tenants={"count": 2})


def load(scenario: Scenario = SHORT, drain_s: float = 10.0, **planted: object) -> LoadResult:
    with answering(**planted) as (installation, serving):  # type: ignore[arg-type]
        return run_load(installation, serving, scenario, Bounds(drain_s))[0]


@pytest.fixture(scope="module")
def measured() -> LoadResult:
    return load()


def test_everything_that_was_asked_for_is_counted(measured: LoadResult) -> None:
    result = measured
    assert (result.asked, result.acknowledged, result.ended, result.lost_count) == (150, 150, 150, 0)
    assert result.statuses == {"completed": 150}
    assert len(unpacked(result.samples["response"])) == 150
    assert sum(result.series["ended"]) == 150


def test_a_stall_of_200_ms_shows_up_in_the_p99_of_runs_that_were_due_in_it() -> None:
    result = load(stall_s=0.2, after=60)
    response = unpacked(result.samples["response"])
    assert result.response.p99_ms >= 180
    # Twenty runs were due while nothing was answered: a loop that waits for replies would have seen one.
    assert (response >= 50_000_000).sum() >= 14


def test_a_run_that_is_lost_makes_the_load_fail() -> None:
    result = load(drain_s=0.5, lose=1)
    assert result.lost_count == 1
    assert result.lost[0].endswith("-0")
    assert "1 of 150 acknowledged runs were lost" in result.faults[0]


def test_an_end_that_is_said_again_is_no_second_end() -> None:
    result = load(twice=True)
    assert (result.ended, result.conflicts) == (150, 0)


def test_a_sender_that_cannot_keep_to_its_plan_is_refused(measured: LoadResult) -> None:
    late = replace(measured, lag=measured.response, faults=[])
    assert "the load was not as planned" in faults_of(late)[0]


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path, measured: LoadResult) -> None:
    measured.write(tmp_path / "result.json")
    again = read_result(tmp_path / "result.json")
    assert again.response == measured.response
    assert again.samples == measured.samples


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(Exception, match="not the result of a load"):
        read_result(tmp_path / "odd.json")
