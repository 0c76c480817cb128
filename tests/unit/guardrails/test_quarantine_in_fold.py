"""A fold that raises for one tenant holds that tenant alone, and folds what it missed when it is released."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from headgate_guardrails.fold import engine as engine_module
from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings, UnknownLogic
from headgate_guardrails.fold.quarantine import Hold, HoldNeeded, TenantFault
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import CONTROL_EVENTS, DEAD_LETTERS, LIFETIMES
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_streams.port import LogRecord
from tests.unit.guardrails.graphs_for_tests import graph
from tests.unit.guardrails.world import World, fold_all

TASK_FIRST = graph([("t1", "p1"), ("p1", "t1"), ("p1", "end", "final")], entry="t1")
QUARANTINED = control_pb2.CONTROL_TYPE_QUARANTINE_TENANT
RELEASED = control_pb2.CONTROL_TYPE_RELEASE_TENANT


class Held(World):
    """A world whose gate holds tenants as the real one does: fold again, note it, go on."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        super().__init__(TASK_FIRST)
        self.register(TASK_FIRST, tenant="other")
        self.envelope(tenant="*", logic_version=execution_pb2.LogicVersionActivated(version=2))

    def missed(self, _partition: int, first: int, end: int) -> Iterable[LogRecord]:
        return self.records[first:end]

    def anew(self, heeded: range = range(0)) -> GuardrailEngine:
        return GuardrailEngine(PartitionState(0, 1), Surroundings(self.missed), self.holds, heeded)

    def append_raw(self, value: bytes | None, headers: Any, key: bytes | None) -> list[Any]:
        if not self.records:
            self.engine = self.anew()
        try:
            return super().append_raw(value, headers, key)
        except TenantFault as fault:
            self.holds.append(fault.hold)
        record = self.records[-1]
        self.engine = self.anew()
        for before in self.records[:-1]:
            self.engine.apply(before)
        made = self.engine.apply(record)
        self.outputs += made
        self.inputs += [o.message for o in made if o.topic.endswith("inputs")]
        self.note(self.holds[-1])
        return made

    def note(self, hold: Hold) -> None:
        said = execution_pb2.TenantQuarantined(from_offset=hold.offset, error=hold.error)
        self.envelope(tenant=hold.tenant_id, tenant_quarantined=said)

    def ended(self, tenant: str) -> list[int]:
        views = [view for view in self.said(LIFETIMES) if view.tenant_id == tenant]
        return [view.status for view in views if view.HasField("ended_at")]

    def events(self, tenant: str) -> list[int]:
        return [event.type for event in self.said(CONTROL_EVENTS) if event.tenant_id == tenant]


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Iterable[pytest.MonkeyPatch]:
    """Results of tenant acme raise, after they have changed the state."""
    before = engine_module._TAKERS["task_execution"]

    def broken(turn: Any, tenant: Any, envelope: Any, record: Any) -> None:
        before(turn, tenant, envelope, record)
        if tenant.tenant_id == "acme":
            raise KeyError("a bug\n")

    with monkeypatch.context() as patch:
        patch.setitem(engine_module._TAKERS, "task_execution", broken)
        yield patch


def step(world: World, tenant: str, value: Any = None, **more: Any) -> Any:
    message = next(m for m in world.inputs if m.tenant_id == tenant)
    world.inputs.remove(message)
    world.report(message, value, **more)
    return message


def test_a_tenant_is_held_and_the_others_do_not_notice(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    world.start("g", "run-1", tenant="other")
    step(world, "acme", 1)
    step(world, "other", 1)
    step(world, "other", next=["end"])
    assert world.ended("other") == [pb.LIFETIME_STATUS_COMPLETED]
    assert world.ended("acme") == []
    assert world.events("acme") == [QUARANTINED]
    assert [m for m in world.inputs if m.tenant_id == "acme"] == []
    assert "KeyError: 'a bug\\n'" in world.said(CONTROL_EVENTS)[0].reason


def test_what_was_missed_is_folded_at_the_release_with_its_source(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    step(world, "acme", 1)
    world.start("g", "run-2")
    bug.undo()
    at = len(world.records)
    world.command("", release=control_pb2.ReleaseTenant())
    made = [m for m in world.inputs if m.tenant_id == "acme"]
    assert [m.headers.lifetime_id for m in made] == ["run-1", "run-2"]
    assert {m.source.offset for m in made} == {at}
    assert world.events("acme") == [QUARANTINED, RELEASED]
    step(world, "acme", next=["end"])
    assert pb.LIFETIME_STATUS_COMPLETED in world.ended("acme")


def test_a_release_that_fails_again_leaves_the_tenant_held_where_it_was(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    step(world, "acme", 1)
    world.command("", release=control_pb2.ReleaseTenant())
    world.start("g", "run-2")
    assert world.events("acme") == [QUARANTINED]
    bug.undo()
    world.command("", release=control_pb2.ReleaseTenant())
    assert [m.headers.lifetime_id for m in world.inputs] == ["run-1", "run-2"]


def test_a_release_can_leave_out_the_record_that_failed(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    failed = len(world.records)
    step(world, "acme", 1)
    world.command("", release=control_pb2.ReleaseTenant(skip_failed=True))
    assert [(letter.reason, letter.offset) for letter in world.said(DEAD_LETTERS)] == [
        ("FOLD_FAILED", failed)
    ]
    assert world.events("acme") == [QUARANTINED, RELEASED]


def test_a_fixed_binary_folds_the_same_history(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    step(world, "acme", 1)
    world.start("g", "run-2")
    bug.undo()
    world.command("", release=control_pb2.ReleaseTenant())
    holds, world.holds = world.holds, []
    again = world.anew(heeded=range(10_000))
    with pytest.raises(HoldNeeded) as needed:
        fold_all(again, world.records)
    assert needed.value.hold == holds[0]
    world.holds = [needed.value.hold]
    again = world.anew(heeded=range(10_000))
    said = fold_all(again, world.records)
    assert [o.message.SerializeToString(deterministic=True) for o in said] == [
        o.message.SerializeToString(deterministic=True) for o in world.outputs
    ]
    assert digest(again.state) == digest(world.engine.state)


def test_timers_of_a_held_tenant_wait_and_ring_after_the_release(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    step(world, "acme", 1)
    world.tick(100 * 86_400_000)
    assert world.ended("acme") == []
    bug.undo()
    world.command("", release=control_pb2.ReleaseTenant())
    world.tick()
    assert world.ended("acme") == [pb.LIFETIME_STATUS_ABORTED]


def test_a_held_tenant_survives_a_checkpoint(bug: pytest.MonkeyPatch) -> None:
    world = Held()
    world.start("g", "run-1")
    step(world, "acme", 1)
    world.start("g", "run-2")
    bug.undo()
    world.kept.keep(world.engine.state)
    world.engine = GuardrailEngine(world.kept.again(), Surroundings(world.missed))
    world.command("", release=control_pb2.ReleaseTenant())
    assert [m.headers.lifetime_id for m in world.inputs] == ["run-1", "run-2"]


def test_a_note_that_came_too_late_changes_nothing() -> None:
    world = Held()
    world.start("g", "run-1")
    world.note(Hold("acme", 1, "said by a zombie"))
    assert world.engine.state.quarantined == {}
    assert world.letters() == []


def test_before_logic_2_a_note_is_a_kind_that_is_not_known() -> None:
    world = World(TASK_FIRST)
    said = execution_pb2.TenantQuarantined(from_offset=0)
    world.envelope(tenant_quarantined=said)
    world.command("", release=control_pb2.ReleaseTenant())
    assert world.letters() == ["TYPE_MISMATCH", "BAD_COMMAND"]


def test_a_process_that_does_not_know_the_active_logic_refuses_the_partition() -> None:
    world = Held()
    older = GuardrailEngine(PartitionState(0, 1), Surroundings(world.missed, newest_logic=1))
    with pytest.raises(UnknownLogic, match="logic version 2, this process has 1: install a newer headgate"):
        fold_all(older, world.records)
    world.kept.keep(world.engine.state)
    with pytest.raises(UnknownLogic):
        GuardrailEngine(world.kept.again(), Surroundings(world.missed, newest_logic=1))
