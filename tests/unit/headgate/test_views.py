from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from headgate.command.faults import ExitCode
from headgate.command.logs import OneLine, Seldom
from headgate.command.place import Place
from headgate.command.views.ending import Ending, outcome_lines, say_ending
from headgate.command.views.live import LiveScreen
from headgate.command.views.screens import PlainScreen, happening_line
from headgate.command.views.state import LifetimeState
from headgate.command.views.tables import spend_rows, timeline_row
from headgate.happening import Happening
from headgate.running import Run
from headgate_protos.v1.execution_pb2 import WaitingView
from tests.unit.headgate.records import (
    COMPLETED,
    PAUSED,
    RUNNING,
    event,
    plan_done,
    task_done,
    task_input,
    view,
    violation,
)
from tests.unit.headgate.test_caps import policy
from tests.unit.headgate.test_client import graph
from tests.unit.headgate.test_state import happened, state_after

RUN = Run("default", "life", 0, {}, (policy(),), False)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (task_input(), "write #1 dispatched"),
        (task_done(), "write #1 completed in 0.05 s 10 tokens $0.01"),
        (task_done(error="TIMEOUT"), "write #1 failed in 0.05 s 10 tokens $0.01 TIMEOUT: no"),
        (plan_done(next_ids=("a", "b")), "review #1 completed in 0.00 s → a, b"),
        (view(PAUSED, reason="because"), "lifetime PAUSED: because"),
    ],
)
def test_each_happening_is_one_line(message: Any, line: str) -> None:
    assert happening_line(happened(message)) == line


def test_a_control_event_names_rule_value_and_limit() -> None:
    line = happening_line(happened(event()))
    assert line.startswith("PAUSE_LIFETIME rule run-dollars")


def test_spend_is_shown_per_node_and_in_total() -> None:
    rows = spend_rows(state_after(task_done(), task_done(iteration=2), plan_done()))
    assert [row[:5] for row in rows] == [
        ("write", "2", "2", "20", "$0.02"),
        ("review", "1", "1", "0", "$0.00"),
        ("total", "3", "3", "20", "$0.02"),
    ]


def test_a_timeline_row_has_every_column() -> None:
    row = timeline_row(Happening(0, (0, 0, 0), task_done(error="TIMEOUT")))
    assert (row["when"], row["node"], row["status"]) == ("1970-01-01T00:00:00.000Z", "write", "failed")
    assert row["why"] == "TIMEOUT: no"


def test_plain_lines_tell_of_a_waiting_person_once(capsys: pytest.CaptureFixture[str]) -> None:
    state = LifetimeState()
    screen = PlainScreen(Place(), RUN, state)
    waits = view(RUNNING, waiting=[WaitingView(execution_id="e1", node_id="approve")])
    for _ in range(2):
        state.apply(happened(waits))
        screen.show(happened(waits))
    assert capsys.readouterr().out.count("headgate control complete") == 1


def test_the_live_view_shows_nodes_caps_and_control_events(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=140, color_system=None)
    monkeypatch.setattr("headgate.command.views.live.console", lambda: console)
    state = state_after(task_done(), task_input(iteration=2), event(), view(RUNNING))
    with LiveScreen(Place(), graph(), RUN, state) as live:
        live.show(happened(event()))
        live.warn("no gate has answered")
    shown = written.getvalue()
    for part in ("RUNNING", "write", "review", "run-dollars", "$0.05", "PAUSE_LIFETIME", "no gate"):
        assert part in shown


def test_an_ending_is_told_to_people_and_to_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    state = state_after(task_done(), view(PAUSED, violations=[violation()], reason="cap"))
    say_ending(Ending(Place(), RUN, state, None, ExitCode.PAUSED, "headgate run demo --lifetime life"))
    text = capsys.readouterr().out
    assert "stopped by rule run-dollars" in text
    assert "headgate control raise-budget life" in text
    say_ending(Ending(Place(json=True), RUN, state, {"a": 1}, ExitCode.PAUSED, "again"))
    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["exit_code"], said["outcome"]) == ("paused", 4, {"a": 1})
    assert said["violations"][0]["rule"] == "run-dollars"
    assert said["next"][-1] == "again"


def test_an_outcome_is_shortened_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    state = state_after(view(COMPLETED))
    say_ending(Ending(Place(), RUN, state, "x" * 5000, ExitCode.COMPLETED, ""))
    assert "(5,000 characters)" in capsys.readouterr().out


def test_an_outcome_is_shown_field_by_field() -> None:
    assert outcome_lines({"diff": "- a\n+ b", "rounds": 2}) == [
        "outcome:",
        "  diff:",
        "    - a",
        "    + b",
        "  rounds: 2",
    ]
    assert outcome_lines([1, 2]) == ["outcome: [1, 2]"]
    assert outcome_lines(None) == []


def test_the_same_message_is_logged_seldom_and_on_one_line() -> None:
    seldom = Seldom()
    records = [
        logging.LogRecord("kafka", logging.ERROR, "", 0, text, None, None)
        for text in ("down 1", "down 2", "up", "a\nb\x1b[0m")
    ]
    assert [seldom.filter(record) for record in records] == [True, False, True, True]
    assert OneLine().format(records[3]).endswith("error kafka: a\\nb\\x1b[0m")
