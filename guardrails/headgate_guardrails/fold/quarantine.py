"""A bug of the fold hurts one tenant: its records wait in the log until it is released.

The fold raises `TenantFault` and its state is thrown away; whoever drives it folds again from the last
checkpoint with the tenant held from that record on, and appends a `TenantQuarantined` record, so that a later
binary, in which the bug may be mended, folds the same history.
"""

from __future__ import annotations

from typing import NamedTuple

from headgate_graphs.errors import BadRecord, HeadgateError
from headgate_guardrails.fold.state import PartitionState, Quarantine
from headgate_guardrails.fold.turn import CONTROL_EVENTS, Turn, stamp, wakes
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_streams.signing import is_ticket

MAX_ERROR_CHARS = 500
"""What is kept of an exception's text."""


class Hold(NamedTuple):
    """One tenant whose records wait from one record on."""

    tenant_id: str
    offset: int
    error: str


class TenantFault(HeadgateError):
    """The fold raised while it served one tenant; the state it was folding into is torn."""

    def __init__(self, tenant_id: str, offset: int, error: Exception) -> None:
        said = _in_one_line(f"{type(error).__name__}: {error}")
        self.hold = Hold(tenant_id, offset, said)
        super().__init__(f"the fold failed for tenant {tenant_id} at offset {offset}: {said}")


class HoldNeeded(HeadgateError):
    """The log says that a tenant was held at a record that this fold has already taken: fold again."""

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        super().__init__(f"tenant {hold.tenant_id} is held from offset {hold.offset} on: {hold.error}")


def hold_tenant(state: PartitionState, hold: Hold) -> None:
    """Let the tenant's records wait from here on; one that waits already keeps its place."""
    state.quarantined.setdefault(hold.tenant_id, Quarantine(hold.offset, hold.error))


def quarantine_said(note: execution_pb2.ExecutionEnvelope) -> Hold:
    """Return what a `TenantQuarantined` record says."""
    said = note.tenant_quarantined
    return Hold(note.tenant_id, said.from_offset, _in_one_line(said.error))


def _in_one_line(text: str) -> str:
    text = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return text[:MAX_ERROR_CHARS]


def check_note(turn: Turn, note: execution_pb2.ExecutionEnvelope) -> None:
    """Raise BadRecord unless a gate wrote the note about a record before it."""
    said, state = note.tenant_quarantined, turn.state
    if not 0 <= said.from_offset < turn.offset:
        raise BadRecord("BAD_COMMAND", f"record {said.from_offset} is not before the one that names it")
    if state.ticket_key:
        secret = turn.secrets[state.ticket_key]
        if not is_ticket(said.ticket, secret, "quarantine", note.tenant_id, str(said.from_offset)):
            raise BadRecord("TICKET", "only a gate says that a tenant is quarantined")


def announce(turn: Turn, tenant_id: str) -> None:
    """Publish, once, that the tenant waits and why."""
    mark = turn.state.quarantined[tenant_id]
    if mark.announced:
        return
    mark.announced = True
    place = f"from offset {mark.from_offset} on its records wait"
    _event(turn, tenant_id, control_pb2.CONTROL_TYPE_QUARANTINE_TENANT, f"{mark.error}: {place}")


def released(turn: Turn, tenant_id: str, command_id: str) -> None:
    """Arm the tenant's timers again and publish that it goes on."""
    turn.state.heap, turn.state.stale = wakes(turn.state), 0
    _event(
        turn, tenant_id, control_pb2.CONTROL_TYPE_RELEASE_TENANT, "what it missed has been folded", command_id
    )


def _event(
    turn: Turn, tenant_id: str, type_: control_pb2.ControlType, reason: str, command_id: str = ""
) -> None:
    event = control_pb2.ExecutionEvent(
        event_id=f"{turn.state.partition}-{turn.offset}-{len(turn.outputs)}",
        tenant_id=tenant_id,
        type=type_,
        reason=reason,
        command_id=command_id,
    )
    stamp(event.decided_at, turn.clock)
    turn.emit(CONTROL_EVENTS, tenant_id, tenant_id, event)
