"""The polling example: a job that advances may be polled, one that is stuck is stopped, and all at a pace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate import Headgate
from tests.e2e.embedded import EXAMPLES, control_events, history, settled_per_second
from tests.e2e.running import Place

EXAMPLE = EXAMPLES / "polling_agent"
POLICY = EXAMPLE / "policy.yaml"
PACE = 12
"""Executions of the tenant in a second, by the policy."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def headgate(tmp_path: Path) -> Iterator[Headgate]:
    with Headgate(tmp_path / "log") as embedded:
        yield embedded


def job(directory: Path, lifetime: str) -> dict[str, Any]:
    """Return what the job of a run says of itself."""
    found: dict[str, Any] = json.loads((directory / "default" / lifetime / "job.json").read_text())
    return found


def test_a_job_that_advances_is_polled_to_its_end(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", place.input(), "--json")
    assert answer.code == 0, answer.err
    outcome = answer.json["outcome"]
    assert outcome["days"] == 10
    assert outcome["warmest"] == {"day": "2025-06-10", "low": 15.0, "high": 24.1, "mean": 19.6}
    assert outcome["polls"] == answer.json["nodes"]["poll"]["runs"] >= 2


def test_a_job_that_is_stuck_is_stopped_with_the_reason_and_cancelled(place: Place) -> None:
    answer = place.headgate(
        "run", EXAMPLE, "--input", place.input(hang_after=3), "--lifetime", "stuck", "--json"
    )
    assert answer.code == 3, answer.err
    (broken,) = answer.json["violations"]
    assert broken["rule"] == "stuck"
    assert broken["expression"] == "node poll made the same step 4 times"
    left = job(place.work / "copies", "stuck")
    assert (left["status"], left["done"]) == ("cancelled", 3)


def test_people_are_told_which_node_repeats_itself(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", place.input(hang_after=0))
    assert answer.code == 3
    assert "stopped by rule stuck of policy polling-agent v1" in answer.out
    assert "node poll made the same step 4 times" in answer.out


def test_a_job_that_is_slower_than_a_poll_is_not_stuck(headgate: Headgate, tmp_path: Path) -> None:
    (tmp_path / "slow.csv").write_text("day,hour,celsius\nmon,0,1\ntue,0,7\nwed,0,3\n")
    start = {"readings": str(tmp_path / "slow.csv"), "day_s": 0.4, "workdir": str(tmp_path)}
    outcome = headgate.run(EXAMPLE, start, policy=POLICY).completed()
    assert (outcome["days"], outcome["warmest"]["day"]) == (3, "tue")
    assert outcome["polls"] > 3


def test_all_runs_of_a_tenant_together_keep_to_its_pace(headgate: Headgate, tmp_path: Path) -> None:
    start = {"day_s": 0.02, "workdir": str(tmp_path)}
    runs = [headgate.begin(EXAMPLE, start, policy=POLICY) for _ in range(3)]
    for run in runs:
        assert headgate.wait(run).completed()["days"] == 10
    happenings = history(headgate.client, *(run.lifetime_id for run in runs))
    assert "THROTTLE_EXECUTION" in {kind for kind, _ in control_events(happenings)}
    assert max(settled_per_second(happenings).values()) <= PACE


def test_readings_that_are_not_there_fail_the_run_and_are_named(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", place.input(readings="nowhere.csv"), "--json")
    assert answer.code == 5, answer.err
    assert "nowhere.csv" in answer.json["reason"]
