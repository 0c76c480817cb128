from __future__ import annotations

from pathlib import Path

from headgate.command.place import Place
from headgate.command.views.advice import ending_lines, pause_lines, waiting_lines
from headgate_protos.v1.control_pb2 import POLICY_SCOPE_TENANT, GuardrailViolation
from headgate_protos.v1.execution_pb2 import WaitingView
from tests.unit.headgate.records import COMPLETED, PAUSED, RUNNING, view, violation
from tests.unit.headgate.test_state import state_after


def test_a_paused_run_is_told_how_to_raise_and_go_on() -> None:
    state = state_after(view(PAUSED, violations=[violation()]))
    place = Place(local=Path("here"), tenant="acme")
    assert pause_lines(place, "life", "headgate run demo --lifetime life", state)[1:] == [
        "  headgate control raise-budget life --policy tight --rule run-dollars --metric cost_usd --value 1.2"
        " --local here --tenant acme",
        "  headgate run demo --lifetime life",
    ]


def test_a_tenants_cap_is_raised_without_a_lifetime() -> None:
    broken = violation()
    broken.scope = POLICY_SCOPE_TENANT
    line = pause_lines(Place(), "life", "", state_after(view(PAUSED, violations=[broken])))[1]
    assert line.startswith("  headgate control raise-budget --policy tight")


def test_what_no_budget_has_paused_is_resumed() -> None:
    condition = GuardrailViolation(policy="p", version=1, rule="r", expression="true", metric="tokens_used")
    for broken in ([], [condition]):
        lines = pause_lines(Place(), "life", "again", state_after(view(PAUSED, violations=broken)))
        assert lines[1:] == ["  headgate control resume life", "  again"]


def test_what_stopped_a_run_is_one_line_for_each_rule() -> None:
    [line] = ending_lines(state_after(view(PAUSED, violations=[violation()])))
    assert line.startswith("stopped by rule run-dollars")
    assert ending_lines(state_after(view(PAUSED, reason="operator"))) == ["paused: operator"]
    assert ending_lines(state_after(view(COMPLETED))) == []
    assert ending_lines(state_after()) == []


def test_a_waiting_person_is_told_what_to_type() -> None:
    waiting = WaitingView(execution_id="e1", node_id="approve", json_input='"ship it?"')
    [line] = waiting_lines(Place(), "life", state_after(view(RUNNING, waiting=[waiting])))
    assert "headgate control complete life e1 --approve" in line
    assert "ship it?" in line
