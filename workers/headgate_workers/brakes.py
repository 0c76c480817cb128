"""What the gate has stopped, as far as it has been read; asked before a handler begins.

An input and a control event both carry their source, the place in the tenant's partition of the log that
they were made from. So an event concerns exactly the inputs that were made before it: what is dispatched
anew after a resume has a later source, and nobody has to know of the resume, or of how topics overtake
each other.
"""

from __future__ import annotations

import enum
import threading

from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput

MAX_REMEMBERED = 200_000
"""Lifetimes that are kept in memory as aborted, and as paused (about 50 MB each); the oldest go first."""

Place = tuple[int, int]
"""(offset, index) of a source; a tenant's sources are all of one partition."""
_START: Place = (-1, -1)
_EVERY_GRAPH = ""


class Halt(enum.Enum):
    """Why an input that has been received is not begun."""

    ABORTED = "the lifetime was aborted before this execution began"
    PAUSED = "its lifetime, graph or tenant was paused before this execution began"


class _Marks:
    """The newest place by (tenant, id); what was marked longest ago is forgotten first."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], Place] = {}

    def mark(self, tenant: str, name: str, place: Place) -> None:
        place = max(place, self._places.pop((tenant, name), _START))
        self._places[tenant, name] = place
        if len(self._places) > MAX_REMEMBERED:
            del self._places[next(iter(self._places))]

    def is_after(self, tenant: str, name: str, place: Place) -> bool:
        return place < self._places.get((tenant, name), _START)


class Brakes:
    """Aborted lifetimes; paused lifetimes, graphs and tenants. Thread-safe; memory is bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aborted = _Marks()
        self._paused = _Marks()
        self._frozen = _Marks()
        self._is_clear = True

    def apply(self, event: ExecutionEvent) -> None:
        """Remember an abort or a pause; anything else, and what is only a shadow of one, changes nothing."""
        if event.shadow:
            return
        place = _place(event.source)
        with self._lock:
            self._is_clear = False
            if event.type == ControlType.CONTROL_TYPE_ABORT_LIFETIME:
                self._aborted.mark(event.tenant_id, event.lifetime_id, place)
            elif event.type != ControlType.CONTROL_TYPE_PAUSE_LIFETIME:
                return
            elif event.lifetime_id:
                self._paused.mark(event.tenant_id, event.lifetime_id, place)
            else:
                self._frozen.mark(event.tenant_id, event.graph_id, place)

    def on(self, received: TaskInput | PlanInput) -> Halt | None:
        """Return why the input must not be begun; None when it may be."""
        if self._is_clear:
            return None
        tenant, headers, place = received.tenant_id, received.headers, _place(received.source)
        with self._lock:
            if self._aborted.is_after(tenant, headers.lifetime_id, place):
                return Halt.ABORTED
            if (
                self._paused.is_after(tenant, headers.lifetime_id, place)
                or self._frozen.is_after(tenant, headers.graph_id, place)
                or self._frozen.is_after(tenant, _EVERY_GRAPH, place)
            ):
                return Halt.PAUSED
        return None


def _place(source: Source) -> Place:
    return source.offset, source.index
