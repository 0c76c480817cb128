"""What the page of a long run says, and that a run goes on for its time and for its kills."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from headgate_resilience.chaos import run
from headgate_resilience.chaos.conductor import Mark
from headgate_resilience.chaos.faults.catalogue import named
from headgate_resilience.chaos.report import ChaosReport
from headgate_resilience.chaos.run import Wanted
from headgate_resilience.chaos.settings import ChaosSettings
from headgate_streams.settings import StreamSettings
from tests.resilience.long import text


def test_the_page_says_what_was_run_where_what_was_killed_and_how_long_it_took_to_get_over_it() -> None:
    report = ChaosReport("make chaos-long SEED=7", 7, {}, "2026-01-02T03:04:05+00:00", kills=3)
    report.killed = {"gate, SIGKILL": 2, "task, crash point": 1}
    report.marks = [Mark("F2-kill", 0.0, recovery_s=recovery_s) for recovery_s in (4.0, 2.0, 1.0)]
    page = text("chaos-7", report)
    for words in (
        "| command | `make chaos-long SEED=7` |",
        "| seed | 7 |",
        "| machine | cores ",
        "| versions | python ",
        "| verdict | every invariant held |",
        "(chaos-7.svg)",
        "| gate, SIGKILL | 2 |",
        "| task, crash point | 1 |",
        "| F2-kill | 3 | 2.0 s | 4.0 s |",
    ):
        assert words in page
    report.broken.append("something")
    assert "| verdict | a promise was broken |" in text("chaos-7", report)


def enough(monkeypatch: pytest.MonkeyPatch, passed_s: float, kills: int) -> tuple[bool, list[str]]:
    """Return whether a run of 100 s and 5 kills is over then, and what it says was broken."""
    now_s = [0.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    fleet = SimpleNamespace(kills=kills, killed=Counter())
    stage: Any = SimpleNamespace(fleet=fleet, broken=[])
    wanted = Wanted(ChaosSettings(duration_s=100, kills=5), StreamSettings(kafka="h:1"), named(["mix"]))
    is_enough = run._enough(stage, wanted)
    now_s[0] = passed_s
    return is_enough(), stage.broken


def test_a_run_goes_on_for_its_time_and_for_its_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    assert enough(monkeypatch, 99, 50) == (False, [])
    assert enough(monkeypatch, 101, 4) == (False, [])
    assert enough(monkeypatch, 101, 5) == (True, [])


def test_a_run_that_cannot_kill_so_many_ends_and_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert enough(monkeypatch, 100 + 5 * run.A_KILL_S + 1, 4) == (
        True,
        ["4 kills in 401 s, not the 5 wanted"],
    )


def test_when_the_time_is_over_only_what_kills_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    wanted = Wanted(ChaosSettings(duration_s=100, kills=5), StreamSettings(kafka="h:1"), named(["mix"]))
    rounds = iter(run._rounds(wanted, lambda line: None))
    mixed = {fault.id for _ in range(30) for fault in next(rounds)}
    assert mixed - run.KILLERS
    now_s[0] = 101.0
    assert {fault.id for _ in range(30) for fault in next(rounds)} <= run.KILLERS
