"""What a handler gets: who it works for, what led here, and where it says what it used."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from pydantic import TypeAdapter

from headgate_protos.v1.common_pb2 import ExecutionError, ExecutionHeaders, Payload, ResourceUsage
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.payloads import payload_of
from headgate_workers.metering import UsageMeter
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

    @cached_property
    def text(self) -> str:
        """The JSON text; "null" when there is none. Raises BlobMissing, BlobIntegrity, BlobUnavailable."""
        return self._fetch(self.payload)

    @property
    def is_large(self) -> bool:
        """Whether the value is in the blob store and not here yet."""
        return self.payload.WhichOneof("content") == "blob" and "text" not in self.__dict__

    def get(self) -> Any:
        """Return the value, parsed anew each time, so that nobody sees another's changes."""
        return json.loads(self.text)


class UpstreamResult:
    """One result that led to a plan."""

    def __init__(self, execution: TaskExecution, fetch: Fetch) -> None:
        self._execution = execution
        self.lazy = LazyValue(payload_of(execution.result), fetch)
        self.node_id: str = execution.headers.node_id
        self.execution_id: str = execution.headers.execution_id
        self.iteration: int = execution.headers.iteration
        self.success: bool = execution.result.success

    @cached_property
    def value(self) -> Any:
        """What the task returned (None when it failed); fetched from the blob store when it is large."""
        return self.lazy.get()

    def value_as(self, kind: type[T]) -> T:
        """Return the value as a pydantic model, a dataclass or any annotated type; raises ValidationError."""
        return TypeAdapter(kind).validate_python(self.value)

    @cached_property
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
        headers: ExecutionHeaders = received.headers
        self._received = received
        self._fetch = fetch
        self.tenant_id: str = received.tenant_id
        self.lifetime_id: str = headers.lifetime_id
        self.graph_id: str = headers.graph_id
        self.graph_version: str = headers.graph_version
        self.node_id: str = headers.node_id
        self.execution_id: str = headers.execution_id
        self.iteration: int = headers.iteration
        """Which visit of this lifetime to this node, from 1."""
        self.attempt: int = headers.attempt
        """Which try at this visit, from 1."""
        self.run_id = run_id
        """New for each time a worker really runs the handler."""
        self.timeout_s = timeout_s
        """Seconds this run may take."""
        self.usage = usage
        """Where the handler says what it used, as it goes."""
        self.shared = shared
        """Clients that live as long as the worker."""
        self.cancelled = threading.Event()
        """Set when the run must stop; a synchronous handler looks at it, an async one is cancelled."""
        self._began = datetime.now(UTC)

    @property
    def idempotency_key(self) -> str:
        """The execution id: the same for every run of this attempt, so that effects outside happen once."""
        return self.execution_id

    @property
    def deadline(self) -> datetime:
        """When this run will have been cancelled at the latest, by this worker's clock."""
        return self._began + timedelta(seconds=self.timeout_s)

    @property
    def params_json(self) -> str:
        """The parameters as they travelled; "" for none."""
        return self._received.params_json

    @cached_property
    def params(self) -> dict[str, Any]:
        """The node's static parameters from the graph."""
        return _object(self._received.params_json)

    @cached_property
    def start_input(self) -> Any:
        """What the lifetime was started with; fetched from the blob store when it is large."""
        return LazyValue(self._received.start_input, self._fetch).get()

    @cached_property
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

    def check_cancelled(self) -> None:
        """Raise Cancelled when the run must stop; for loops in synchronous handlers."""
        if self.cancelled.is_set():
            raise Cancelled


class TaskContext(Context):
    """What a task handler gets."""

    _received: TaskInput

    @cached_property
    def lazy_input(self) -> LazyValue:
        """The input as it travelled."""
        return LazyValue(self._received.input_data, self._fetch)

    @cached_property
    def input(self) -> Any:
        """What the plan handed to this task, without the parameters; None when it handed nothing."""
        return self.lazy_input.get()

    def merged_input(self) -> Any:
        """Return parameters and input as one object (the input's keys win), or an input that is no object."""
        given = self.input
        if given is None:
            return dict(self.params)
        return {**self.params, **given} if isinstance(given, dict) else given


class PlanContext(Context):
    """What a plan handler gets."""

    _received: PlanInput

    @cached_property
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
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
