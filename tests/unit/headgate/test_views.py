from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from headgate.command.faults import ExitCode
from headgate.command.logs import OneLine, Seldom
from headgate.command.place import Place
from headgate.command.views.advice import ending_lines, frozen_lines, pause_lines, waiting_lines
from headgate.command.views.ending import Ending, outcome_lines, say_ending
from headgate.command.views.live import LiveScreen
from headgate.command.views.screens import PlainScreen, happening_line
from headgate.command.views.state import LifetimeState
from headgate.command.views.tables import attempt_rows, below_rows, spend_rows
from headgate.running import Run
from headgate_catalog.happening import Happening
from headgate_protos.v1.control_pb2 import ExecutionEvent
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


def test_warnings_delays_and_freezes_are_lines_of_their_own() -> None:
    warning = event("CONTROL_TYPE_WARN")
    warning.node_id, warning.reason = "write", "LATE_ARRIVAL: branch a came to join after it had gone on"
    del warning.violations[:]
    assert happening_line(happened(warning)).startswith("WARN write LATE_ARRIVAL")
    delayed = event("CONTROL_TYPE_THROTTLE_EXECUTION")
    assert happening_line(happened(delayed)).startswith("THROTTLE_EXECUTION rule run-dollars")
    freeze = ExecutionEvent(type="CONTROL_TYPE_PAUSE_LIFETIME", graph_id="demo", reason="odd")
    assert happening_line(happened(freeze)) == "PAUSE_LIFETIME graph demo: odd"


def test_what_happens_below_is_indented_and_names_its_sub_graph() -> None:
    begun = view(RUNNING, lifetime_id="sub-0123456789", parent_lifetime_id="life", graph_id="shard")
    line = happening_line(Happening(0, (0, 0, 0), begun, "sub-0123456789", 1))
    assert line == "  sub-graph shard 1.0.0 sub-0123456789 RUNNING"
    done = Happening(0, (0, 0, 0), task_done(), "sub-0123456789", 2)
    assert happening_line(done).startswith("    sub-012345 write #1 completed")


def test_spend_is_shown_per_node_and_in_total() -> None:
    rows = spend_rows(state_after(task_done(), task_done(iteration=2), plan_done()))
    assert [row[:5] for row in rows] == [
        ("write", "2", "2", "20", "$0.02"),
        ("review", "1", "1", "0", "$0.00"),
        ("total", "3", "3", "20", "$0.02"),
    ]


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
    state.apply(below(view(RUNNING, lifetime_id="sub-a", graph_id="shard")))
    state.apply(below(task_input("count")))
    state.frozen[""] = "odd"
    with LiveScreen(Place(), graph(), RUN, state) as live:
        live.show(happened(event()))
        live.warn("no gate has answered")
    shown = written.getvalue()
    for part in (
        "RUNNING",
        "write",
        "review",
        "run-dollars",
        "$0.05",
        "PAUSE_LIFETIME",
        "no gate",
        "shard sub-a",
        "count",
        "--everything",
    ):
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


def below(message: Any, name: str = "sub-a", depth: int = 1) -> Happening:
    return Happening(1000, (0, 0, 0), message, name, depth)


def test_a_sub_graphs_spend_attempts_and_people_belong_to_the_run() -> None:
    state = state_after(view(RUNNING), task_done())
    waiting = [WaitingView(execution_id="e9", node_id="ask")]
    state.apply(below(view(RUNNING, lifetime_id="sub-a", graph_id="shard", waiting=waiting)))
    state.apply(below(task_done("count", tokens=30)))
    state.apply(below(task_input("count", 2)))
    assert [row[:4] for row in spend_rows(state)] == [
        ("write", "1", "1", "10"),
        ("sub-graph shard", "1", "1", "30"),
        ("total", "1", "2", "40"),
    ]
    assert [one.execution_id for one in state.in_flight] == ["count-2"]
    assert [row[1] for row in attempt_rows(state)] == ["write", "  sub-a/count", "  sub-a/count"]
    assert [row[0] for row in below_rows(state)] == ["sub-a"]
    [line] = waiting_lines(Place(), "life", state)
    assert "headgate control complete sub-a e9 --approve" in line


def test_a_paused_sub_graph_halts_the_run_and_says_how_to_go_on() -> None:
    state = state_after(view(RUNNING))
    state.apply(below(view(PAUSED, lifetime_id="sub-a", violations=[violation()])))
    assert (state.status, state.halted) == ("running", True)
    assert pause_lines(Place(), "life", "again", state)[1].startswith(
        "  headgate control raise-budget sub-a --policy tight"
    )
    assert ending_lines(state)[0].startswith("sub-graph sub-a: stopped by rule run-dollars")
    state.apply(happened(task_input()))
    assert not state.halted


def test_a_freeze_is_shown_until_it_is_lifted() -> None:
    state = state_after(ExecutionEvent(event_id="1", type="CONTROL_TYPE_PAUSE_LIFETIME", reason="odd"))
    [line] = frozen_lines(Place(), state.frozen)
    assert line.endswith("headgate control resume --everything")
    state.apply(happened(ExecutionEvent(event_id="2", type="CONTROL_TYPE_RESUME_LIFETIME")))
    assert state.frozen == {}


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
