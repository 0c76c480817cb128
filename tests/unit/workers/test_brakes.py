from __future__ import annotations

from typing import Any

import pytest

from headgate_protos.v1.common_pb2 import ExecutionHeaders, Source
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_workers import brakes
from headgate_workers.brakes import Brakes, Halt

ABORT = ControlType.CONTROL_TYPE_ABORT_LIFETIME
PAUSE = ControlType.CONTROL_TYPE_PAUSE_LIFETIME
RESUME = ControlType.CONTROL_TYPE_RESUME_LIFETIME


def event(
    type: ControlType, at: tuple[int, int] = (10, 1), tenant: str = "acme", shadow: bool = False, **whom: Any
) -> ExecutionEvent:
    source = Source(partition=3, offset=at[0], index=at[1])
    return ExecutionEvent(tenant_id=tenant, type=type, shadow=shadow, source=source, **whom)


def given(
    at: tuple[int, int] = (9, 0), tenant: str = "acme", lifetime: str = "l1", graph: str = "g"
) -> TaskInput:
    headers = ExecutionHeaders(lifetime_id=lifetime, graph_id=graph)
    return TaskInput(tenant_id=tenant, headers=headers, source=Source(partition=3, offset=at[0], index=at[1]))


@pytest.mark.parametrize(
    ("whom", "stopped"),
    [
        ({"lifetime_id": "l1"}, {"l1"}),
        ({"graph_id": "g"}, {"l1", "l2"}),
        ({}, {"l1", "l2", "l3"}),
    ],
)
def test_a_pause_is_of_a_lifetime_a_graph_or_a_tenant(whom: dict[str, Any], stopped: set[str]) -> None:
    known = Brakes()
    known.apply(event(PAUSE, **whom))
    graphs = {"l1": "g", "l2": "g", "l3": "h"}
    found = {life for life, g in graphs.items() if known.on(given(lifetime=life, graph=g)) is Halt.PAUSED}
    assert found == stopped
    assert known.on(given(tenant="globex")) is None


@pytest.mark.parametrize("kind", [PAUSE, ABORT])
def test_only_what_was_made_before_is_concerned(kind: ControlType) -> None:
    known = Brakes()
    known.apply(event(kind, (10, 1), lifetime_id="l1"))
    assert known.on(given((9, 7))) is not None
    assert known.on(given((10, 0))) is not None
    assert known.on(given((10, 2))) is None
    assert known.on(given((11, 0))) is None


def test_reading_older_events_once_more_takes_nothing_back() -> None:
    known = Brakes()
    for place in ((20, 0), (10, 0)):
        known.apply(event(PAUSE, place))
    assert known.on(given((15, 0))) is Halt.PAUSED


def test_an_abort_is_stronger_and_shadows_and_resumes_are_nothing() -> None:
    known = Brakes()
    known.apply(event(PAUSE, shadow=True))
    known.apply(event(ABORT, shadow=True, lifetime_id="l1"))
    known.apply(event(RESUME))
    assert known.on(given()) is None
    known.apply(event(PAUSE))
    known.apply(event(ABORT, lifetime_id="l1"))
    assert known.on(given()) is Halt.ABORTED


def test_memory_is_bounded_and_forgets_what_was_said_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brakes, "MAX_REMEMBERED", 3)
    known = Brakes()
    known.apply(event(PAUSE))
    for name in ("l1", "l2", "l3", "l1", "l4"):
        known.apply(event(ABORT, lifetime_id=name))
    found = {name: known.on(given(lifetime=name)) for name in ("l1", "l2", "l3", "l4")}
    assert [name for name, halt in found.items() if halt is Halt.ABORTED] == ["l1", "l3", "l4"]
    assert found["l2"] is Halt.PAUSED, "lifetimes do not push out the freeze of a tenant"
