"""A world that notes every change of state of its lifetimes and executions, by the names of `fold.states`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headgate_graphs.ids import execution_id
from headgate_guardrails.fold import admission, ending, engine, routing, states
from headgate_guardrails.fold.lifetime import InFlight, Lifetime
from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, Output
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2
from tests.unit.guardrails.world import World

Change = tuple[str, str]
NOTHING = states.NOTHING
REJECT = control_pb2.CONTROL_TYPE_REJECT_EXECUTION
ABORT = control_pb2.CONTROL_TYPE_ABORT_LIFETIME


class Dispatched(dict[str, InFlight]):
    """What is in flight; remembers who came and who left in this turn, and whether runs were out then."""

    def __init__(self) -> None:
        super().__init__()
        self.came: set[str] = set()
        self.left: dict[str, tuple[InFlight, bool]] = {}

    def __setitem__(self, key: str, flight: InFlight) -> None:
        self.came.add(key)
        super().__setitem__(key, flight)

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self.left[key] = self[key], bool(self[key].runs)
        return super().pop(key, *default)


class Noted(Lifetime):
    """A lifetime whose executions can be watched."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.flights = Dispatched()
        self.inflight = self.flights


class Watch:
    """Every change that was seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lifetimes: set[Change] = set()
        self.executions: set[Change] = set()
        for maker in (engine, admission):
            monkeypatch.setattr(maker, "Lifetime", Noted)
        for mover in (ending, routing):
            monkeypatch.setattr(mover, "move", self._move)

    def world(self, *given: Any) -> Watched:
        return Watched(self, *given)

    def _move(self, lifetime: Lifetime, status: int) -> None:
        self.lifetimes.add((word(lifetime.status), word(status)))
        states.move(lifetime, status)


def word(status: int) -> str:
    return pb.LifetimeStatus.Name(status).removeprefix("LIFETIME_STATUS_") if status else NOTHING


class Watched(World):
    """A world whose lifetimes are looked at before and after each record."""

    def __init__(self, watch: Watch, *given: Any) -> None:
        self.watch = watch
        super().__init__(*given)

    def append(self, envelope: execution_pb2.ExecutionEnvelope) -> list[Output]:
        before = self.states()
        for lifetime in self.all():
            lifetime.flights.came, lifetime.flights.left = set(), {}
        made = super().append(envelope)
        turn = Seen(self, envelope, made)
        for one in {*before, *self.states(), *turn.named, *turn.came, *turn.left}:
            self.watch.executions |= set(turn.way(one, before.get(one, NOTHING)))
        for output in made:
            if output.topic == LIFETIMES and word(output.message.status) == "REJECTED":
                self.watch.lifetimes.add((NOTHING, "REJECTED"))
        return made

    def all(self) -> Iterator[Noted]:
        for tenant in self.engine.state.tenants.values():
            for lifetime in tenant.lifetimes.values():
                assert isinstance(lifetime, Noted)
                yield lifetime

    def states(self) -> dict[str, str]:
        """Return what each execution is that is not over."""
        found = {}
        for tenant in self.engine.state.tenants.values():
            for one in tenant.lifetimes.values():
                for work in (*one.parked, *one.queued):
                    place = (tenant.tenant_id, one.lifetime_id, work.node_id, work.iteration, work.attempt)
                    found[execution_id(*place)] = "held"
                found |= dict.fromkeys(one.delayed, "held")
                for key, flight in one.inflight.items():
                    found[key] = "RUNNING" if flight.runs else "PENDING"
        return found


class Seen:
    """What one turn did and said."""

    def __init__(self, world: Watched, envelope: execution_pb2.ExecutionEnvelope, made: list[Output]) -> None:
        self.clock = world.engine.state.clock_ms
        self.now = world.states()
        self.came = {one for lifetime in world.all() for one in lifetime.flights.came}
        self.left = {
            one: (lifetime, *how) for lifetime in world.all() for one, how in lifetime.flights.left.items()
        }
        events = [o.message for o in made if o.topic == CONTROL_EVENTS]
        self.named = {e.execution_id: e for e in events if e.execution_id and not e.shadow}
        views = [o.message for o in made if o.topic == LIFETIMES]
        self.children = {v.parent_execution_id: word(v.status) for v in views if v.parent_execution_id}
        kind = envelope.WhichOneof("payload") or ""
        payload: Any = getattr(envelope, kind)
        self.reported = payload.headers if kind in ("task_execution", "plan_execution") else None
        self.answered = payload.complete.execution_id if kind == "command" else ""

    def way(self, one: str, state: str) -> Iterator[Change]:
        """Yield the changes of an execution that was in `state` before the turn."""
        if one in self.came:
            yield state, "PENDING"
            state = "PENDING"
        if one in self.left:
            yield state, self._end(one)
        elif one in self.now:
            if self.now[one] != state:
                yield state, self.now[one]
        elif one in self.named and self.named[one].type == REJECT:
            yield state, "REJECTED"
        elif not self._is_reported(one) and (state != NOTHING or self.named[one].type == ABORT):
            yield state, "dropped"

    def _is_reported(self, one: str) -> bool:
        return self.reported is not None and self.reported.execution_id == one

    def _end(self, one: str) -> str:
        """Tell what became of an execution that is no longer waited for."""
        lifetime, flight, was_out = self.left[one]
        said = self.named[one].reason if one in self.named and self.named[one].type == REJECT else ""
        kind = lifetime.graphs.nodes[flight.work.node_id].type
        if said:
            words = {"TIMEOUT": "FAILED", "CANCELLED": "ABORTED"}
            return words.get(said.partition(":")[0], "REJECTED")
        if self.reported is not None and self._is_reported(one):
            name = pb.ExecutionStatus.Name(self.reported.status).removeprefix("EXECUTION_STATUS_")
            return "lost" if name == "ABORTED" else name
        if one == self.answered:
            return "COMPLETED"
        if kind == "graph" and lifetime.is_live:
            return "COMPLETED" if self.children.get(one) == "COMPLETED" else "FAILED"
        if not was_out and (flight.due <= self.clock or lifetime.is_live):
            return "FAILED" if kind == "human" else "lost"
        return "ABORTED"
