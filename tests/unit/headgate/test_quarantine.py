"""A held tenant as people see it, from the gate's control events alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.answering import Answer
from headgate.client import Client
from headgate.command.answers import as_data, outlook
from headgate.command.place import Place
from headgate.command.views.screens import happening_line
from headgate.command.views.state import LifetimeState
from headgate.command.views.tenant import overview_data, overview_lines
from headgate.command.views.timeline import timeline_row
from headgate.overview import Overview
from headgate.quarantine import Quarantine, quarantine_in
from headgate_catalog.happening import Happening
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_workers.brakes import Brakes
from tests.unit.headgate import records

REASON = "KeyError: 'a bug': from offset 7 on its records wait"


def event(kind: str, offset: int, **more: Any) -> ExecutionEvent:
    made = ExecutionEvent(tenant_id="default", event_id=f"0-{offset}-0", type=f"CONTROL_TYPE_{kind}", **more)
    made.source.offset = offset
    made.decided_at.FromMilliseconds(1_000 * offset)
    return made


def held(offset: int = 8) -> ExecutionEvent:
    return event("QUARANTINE_TENANT", offset, reason=REASON)


def released(offset: int = 9) -> ExecutionEvent:
    return event("RELEASE_TENANT", offset, reason="what it missed has been folded")


def happened(message: ExecutionEvent) -> Happening:
    return Happening(0, (message.source.offset, 1, 0), message)


def test_the_newest_event_by_its_source_decides() -> None:
    assert quarantine_in([]) is None
    assert quarantine_in([held(), held()]) == Quarantine(REASON, 8_000)
    assert quarantine_in([released(), held()]) is None
    assert quarantine_in([held(), released(), held(12)]) == Quarantine(REASON, 12_000)


def test_a_tenants_own_events_are_read_from_the_log(client: Client) -> None:
    other = held()
    other.tenant_id = "other"
    records.publish(client, other, client.topics.control_events)
    assert client.quarantine("default") is None
    records.publish(client, held(), client.topics.control_events)
    found = client.overview("default").quarantine
    assert found is not None
    assert found.reason == REASON


def test_the_overview_says_since_when_and_what_to_do() -> None:
    made = Overview("default", quarantine=Quarantine(REASON, 8_000))
    lines = list(overview_lines(Place(tenant="default"), made, {}))
    assert lines[1] == (
        f"quarantined: the gate failed on a record of the tenant: {REASON} — after the gates have the fix, "
        "go on with: headgate control release --tenant default (since 1970-01-01T00:00:08.000Z)"
    )
    said = overview_data(made, {})["quarantined"]
    assert said == {"reason": REASON, "since": "1970-01-01T00:00:08.000Z"}
    assert overview_data(Overview("default"), {})["quarantined"] is None


def test_both_events_are_told_in_words() -> None:
    assert happening_line(happened(held())) == (
        f"QUARANTINE_TENANT the gate failed on a record of the tenant: {REASON}"
    )
    row = timeline_row(happened(released()), {})
    assert (row["what"], row["status"]) == ("control", "RELEASE_TENANT")
    assert row["why"] == "the tenant goes on: what it missed has been folded"


def test_a_quarantine_neither_freezes_nor_thaws() -> None:
    state = LifetimeState(frozen={"": "odd"})
    state.apply(happened(held()))
    assert (state.quarantined, state.frozen) == (REASON, {"": "odd"})
    state.apply(happened(released()))
    assert (state.quarantined, state.frozen) == ("", {"": "odd"})


def test_what_waits_is_not_said_to_be_done() -> None:
    answer = Answer(1, is_read=True, held=Quarantine(REASON, 0))
    assert "waits for `headgate control release`" in outlook(answer)
    assert as_data(answer)["quarantined"] == REASON


def test_a_lifetime_that_goes_on_is_told_of_a_quarantine_after_its_last_record(client: Client) -> None:
    start = client.start("demo", tenant="default", lifetime_id="life")
    records.publish(client, records.view(offset=0), client.topics.lifetimes)
    records.publish(client, held(), client.topics.control_events)
    kinds = [one.event.type for one in client.history("default", start.lifetime_id) if one.event]
    assert kinds == [held().type]


@pytest.mark.parametrize("said", [held(), released()])
def test_workers_go_on(said: ExecutionEvent) -> None:
    brakes = Brakes()
    brakes.apply(said)
    assert brakes.on(records.task_input(offset=1)) is None


def test_a_release_without_a_gate_is_kept_in_the_log(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, said, _ = command("control", "release", "--skip-failed", "--json")
    made = json.loads(said)
    assert (code, made["command"], made["answered"]) == (0, "release", False)
    assert "no gate is running" in command("control", "release")[1]
