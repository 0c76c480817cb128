"""What a handler gets: who it works for, what led here, and where it says what it used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter

from headgate_protos.v1.common_pb2 import ExecutionError, ExecutionHeaders, Payload, ResourceUsage
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.payloads import payload_of
from headgate_workers.conversion import from_json
from headgate_workers.metering import UsageMeter
from headgate_workers.once import once
from headgate_workers.results import Cancelled
from headgate_workers.shared import SharedClients

T = TypeVar("T")
Fetch = Callable[[Payload], str]
"""Returns a payload's JSON text, from the blob store when it is kept there; may block."""

_LOGGER = logging.getLogger("headgate.handler")


class LazyValue:
    """A JSON value that is fetched and parsed when it is first looked at."""

    def __init__(self, payload: Payload, fetch: Fetch) -> None:
        self.payload = payload
        self._fetch = fetch

    @once
    def text(self) -> str:
        """The JSON text; "null" when there is none. Raises BlobMissing, BlobIntegrity, BlobUnavailable."""
        return self.payload.json or self._fetch(self.payload)

    @property
    def is_large(self) -> bool:
        """Whether the value is in the blob store and not here yet."""
        return self.payload.WhichOneof("content") == "blob" and "text" not in self.__dict__

    def get(self) -> Any:
        """Return the value, parsed anew each time, so that nobody sees another's changes."""
        return from_json(self.text)


class UpstreamResult:
    """One result that led to a plan."""

    def __init__(self, execution: TaskExecution, fetch: Fetch) -> None:
        self._execution = execution
        self._fetch = fetch
        self.node_id: str = execution.headers.node_id
        self.execution_id: str = execution.headers.execution_id
        self.iteration: int = execution.headers.iteration
        self.success: bool = execution.result.success

    @once
    def lazy(self) -> LazyValue:
        """The value as it travelled."""
        return LazyValue(payload_of(self._execution.result), self._fetch)

    @once
    def value(self) -> Any:
        """What the task returned (None when it failed); fetched from the blob store when it is large."""
        return self.lazy.get()

    def value_as(self, kind: type[T]) -> T:
        """Return the value as a pydantic model, a dataclass or any annotated type; raises ValidationError."""
        return TypeAdapter(kind).validate_python(self.value)

    @once
    def metadata(self) -> dict[str, Any]:
        """What the task put beside its value."""
        return _object(self._execution.result.metadata_json)

    @property
    def error(self) -> ExecutionError | None:
        """Why the task failed; None when it succeeded."""
        return self._execution.result.error if self._execution.result.HasField("error") else None

    @property
    def usage(self) -> ResourceUsage:
        """What the task's run used."""
        return self._execution.resource_usage


class Context:
    """What task and plan handlers have in common."""

    def __init__(
        self,
        received: TaskInput | PlanInput,
        run_id: str,
        usage: UsageMeter,
        fetch: Fetch,
        shared: SharedClients,
        timeout_s: float,
    ) -> None:
        self._received = received
        self._headers: ExecutionHeaders = received.headers
        self._fetch = fetch
        self.run_id = run_id
        """New for each time a worker really runs the handler."""
        self.timeout_s = timeout_s
        """Seconds this run may take."""
        self.usage = usage
        """Where the handler says what it used, as it goes."""
        self.shared = shared
        """Clients that live as long as the worker."""
        self._began_s = time.time()

    @property
    def tenant_id(self) -> str:
        """Who pays."""
        return self._received.tenant_id

    @property
    def lifetime_id(self) -> str:
        """The run of the graph."""
        return self._headers.lifetime_id

    @property
    def graph_id(self) -> str:
        """The graph."""
        return self._headers.graph_id

    @property
    def graph_version(self) -> str:
        """Its version."""
        return self._headers.graph_version

    @property
    def node_id(self) -> str:
        """The node."""
        return self._headers.node_id

    @property
    def execution_id(self) -> str:
        """This attempt at this visit."""
        return self._headers.execution_id

    @property
    def iteration(self) -> int:
        """Which visit of this lifetime to this node, from 1."""
        return self._headers.iteration

    @property
    def attempt(self) -> int:
        """Which try at this visit, from 1."""
        return self._headers.attempt

    @property
    def idempotency_key(self) -> str:
        """The execution id: the same for every run of this attempt, so that effects outside happen once."""
        return self.execution_id

    @property
    def deadline(self) -> datetime:
        """When this run will have been cancelled at the latest, by this worker's clock."""
        return datetime.fromtimestamp(self._began_s + self.timeout_s, UTC)

    @property
    def params_json(self) -> str:
        """The parameters as they travelled; "" for none."""
        return self._received.params_json

    @once
    def params(self) -> dict[str, Any]:
        """The node's static parameters from the graph."""
        return _object(self._received.params_json)

    @once
    def start_input(self) -> Any:
        """What the lifetime was started with; fetched from the blob store when it is large."""
        return LazyValue(self._received.start_input, self._fetch).get()

    @once
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry tenant, lifetime, node and execution."""
        return logging.LoggerAdapter(
            _LOGGER,
            {
                "tenant_id": self.tenant_id,
                "lifetime_id": self.lifetime_id,
                "node_id": self.node_id,
                "execution_id": self.execution_id,
            },
        )

    @once
    def cancelled(self) -> threading.Event:
        """Set when the run must stop; a synchronous handler looks at it, an async one is cancelled."""
        return threading.Event()

    def check_cancelled(self) -> None:
        """Raise Cancelled when the run must stop; for loops in synchronous handlers."""
        if self.cancelled.is_set():
            raise Cancelled


class TaskContext(Context):
    """What a task handler gets."""

    _received: TaskInput

    @once
    def lazy_input(self) -> LazyValue:
        """The input as it travelled."""
        return LazyValue(self._received.input_data, self._fetch)

    @once
    def input(self) -> Any:
        """What the plan handed to this task, without the parameters; None when it handed nothing."""
        text = self._received.input_data.json
        return from_json(text) if text else self.lazy_input.get()

    def merged_input(self) -> Any:
        """Return parameters and input as one object (the input's keys win), or an input that is no object."""
        given = self.input
        if given is None:
            return dict(self.params)
        return self.params | given if isinstance(given, dict) else given


class PlanContext(Context):
    """What a plan handler gets."""

    _received: PlanInput

    @once
    def upstream(self) -> list[UpstreamResult]:
        """The results that led here, in branch order; empty for an entry plan."""
        return [UpstreamResult(e, self._fetch) for e in self._received.upstream_task_executions]

    @property
    def upstream_one(self) -> UpstreamResult:
        """The one result that led here; raises ValueError when there is none or several."""
        if len(self.upstream) != 1:
            raise ValueError(f"{len(self.upstream)} results led to plan {self.node_id}, not one")
        return self.upstream[0]

    @property
    def allowed_next(self) -> list[str]:
        """Targets the plan may name, "end" among them when it has a FINAL edge."""
        return list(self._received.allowed_next_ids)


def _object(text: str) -> dict[str, Any]:
    found = from_json(text) if text else {}
    return found if isinstance(found, dict) else {}
