"""Whether a tenant is quarantined, since when and why: read from the gate's own control events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headgate.words import millis
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent

_KINDS = (ControlType.CONTROL_TYPE_QUARANTINE_TENANT, ControlType.CONTROL_TYPE_RELEASE_TENANT)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A tenant whose records wait in the log because the fold failed on one of them."""

    reason: str
    """What was raised, and the offset from which on its records wait."""
    since_ms: int
    """Log time, Unix milliseconds."""


def quarantine_in(events: Iterable[ExecutionEvent]) -> Quarantine | None:
    """Return the quarantine in force after a tenant's control events, repeats and any order allowed."""
    said = [event for event in events if event.type in _KINDS]
    newest = max(said, key=lambda event: (event.source.offset, event.source.index), default=None)
    if newest is None or newest.type == ControlType.CONTROL_TYPE_RELEASE_TENANT:
        return None
    return Quarantine(newest.reason, millis(newest.decided_at))
