"""Nothing that is promised is broken, whatever is broken: judged by the checker from the raw topics."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headgate_resilience.chaos.report import ChaosReport
from tests.resilience import scenarios
from tests.resilience.conftest import SEED

pytestmark = [pytest.mark.kafka, pytest.mark.minio, pytest.mark.timeout(1500)]

RECOVERS_S = 12.0
LIFETIMES = 5_000


def shown(report: ChaosReport) -> str:
    return "\n".join((f"seed {SEED}", *report.lines()))


def test_no_promise_is_broken_in_the_long_run(over_http: ChaosReport, say: Callable[[str], None]) -> None:
    for line in report_lines(over_http):
        say(line)
    assert over_http.is_quiet, shown(over_http)
    assert not over_http.violated, shown(over_http)


def test_no_promise_is_broken_with_a_store_of_files(
    in_files: ChaosReport, say: Callable[[str], None]
) -> None:
    for line in report_lines(in_files):
        say(line)
    assert in_files.is_quiet, shown(in_files)
    assert not in_files.violated, shown(in_files)


def report_lines(report: ChaosReport) -> list[str]:
    return shown(report).splitlines()


def test_every_fault_was_injected_as_often_as_planned(over_http: ChaosReport, in_files: ChaosReport) -> None:
    planned = scenarios.count([*scenarios.deaths(), *scenarios.everything_else()])
    assert over_http.injected() == planned, shown(over_http)
    assert in_files.injected() == scenarios.count(list(scenarios.in_files())), shown(in_files)


def test_the_plan_is_what_was_promised() -> None:
    planned = scenarios.count(
        [*scenarios.deaths(), *scenarios.everything_else(), *scenarios.in_files()],
    )
    by_id: dict[str, int] = {}
    for name, times in planned.items():
        by_id[name.partition("-")[0]] = by_id.get(name.partition("-")[0], 0) + times
    assert by_id["F1"] >= 20
    assert by_id["F3"] >= 3
    assert by_id["F5"] >= 2
    assert {"F4", "F6", "F7", "F9", "F10", "F11", "F12", "F13", "F19", "F20", "F21"} <= by_id.keys()
    steps = ("fold", "produce", "flush", "commit")
    for point in (*(f"after-{step}" for step in steps), "during-checkpoint", "during-restore"):
        assert planned[f"F2-{point}"] == 5


def test_the_runs_were_large_enough(over_http: ChaosReport, in_files: ChaosReport) -> None:
    assert over_http.acknowledged + in_files.acknowledged >= LIFETIMES
    assert {"completed", "aborted"} <= over_http.ended.keys()


@pytest.mark.parametrize(("fault", "who"), [("F1", "worker"), ("F2", "gate")])
def test_who_dies_is_made_up_for_in_time(
    over_http: ChaosReport, say: Callable[[str], None], fault: str, who: str
) -> None:
    times = sorted(over_http.recoveries(fault))
    say(f"recovery of a {who}, seconds: {', '.join(f'{one:.1f}' for one in times)}")
    assert times[-1] <= RECOVERS_S, shown(over_http)
