"""One run of one handler: its context, its time limit, its cancellation, and what came out."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headgate_protos.v1.common_pb2 import ExecutionStatus, Payload
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.payloads import key_of
from headgate_workers.brakes import Halt
from headgate_workers.context import Context, LazyValue, PlanContext, TaskContext
from headgate_workers.conversion import ResultInvalid, metadata_json
from headgate_workers.handlers import Handler
from headgate_workers.outcome import Outcome, aborted, failed, failure_of, not_begun
from headgate_workers.results import Cancelled, Decision, Result
from headgate_workers.work import Work

if TYPE_CHECKING:
    from headgate_workers.runner import Runner

_LOGGER = logging.getLogger("headgate.handler")
MAX_NEXT = 10_000
"""The largest `max_fan_out` of a graph."""
_COMPLETED = ExecutionStatus.EXECUTION_STATUS_COMPLETED


class Cause(enum.Enum):
    """Why a run is cancelled."""

    TIMEOUT = "it ran longer than allowed"
    ABORTED = "the lifetime was aborted"
    REJECTED = "the execution was rejected"
    STOPPED = "the worker stopped"
    ABANDONED = "another worker owns the work now"


class Halted(Exception):
    """The gate has stopped the work since it was received; its handler is not called."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(halt.value)
        self.halt = halt


class Run:
    """Calls the handler and reports once, whatever the handler does. Lives on the loop.

    A handler that returns without ever waiting costs one step of one task: its result is reported from there,
    and it needs no timer.
    """

    __slots__ = (
        "_cause",
        "_context",
        "_handler",
        "_is_reported",
        "_runner",
        "_task",
        "_timeout_s",
        "_timer",
        "work",
    )

    def __init__(self, work: Work, handler: Handler, runner: Runner) -> None:
        self.work = work
        self._handler = handler
        self._runner = runner
        self._cause: Cause | None = None
        self._is_reported = False
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_s = _timeout_s(work, handler, runner.settings.default_timeout_s)
        kind = TaskContext if isinstance(work.received, TaskInput) else PlanContext
        self._context: Context = kind(
            work.received,
            work.run_id,
            work.usage,
            runner.packer.fetch_for(work.tenant_id),
            runner.shared,
            self._timeout_s,
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin in the loop's next turn; call `watch` after that turn."""
        self._task = asyncio.Task(self._serve(), loop=loop, name="headgate-run")

    def watch(self, begun_s: float) -> None:
        """Bound a run that has begun (at this time of the loop) and waits for something."""
        if self._is_reported:
            return
        self._task.add_done_callback(self._ended)
        if self._cause is None:
            self._timer = self._runner.loop.call_at(begun_s + self._timeout_s, self.cancel, Cause.TIMEOUT)

    def cancel(self, cause: Cause) -> None:
        """Tell the handler to stop, and report without it when it has not within the grace period.

        An async handler gets CancelledError; a synchronous one sees `ctx.cancelled`. The first cause counts.
        """
        if self._cause is not None or self._is_reported:
            return
        self._cause = cause
        self._context.cancelled.set()
        self._stop_timer()
        self._timer = self._runner.loop.call_later(self._runner.settings.cancel_grace_s, self._leave)
        if self._handler.call.is_async or not self.work.has_begun:
            self._task.cancel()

    def _leave(self) -> None:
        """Report although the handler goes on; its thread or task is left to itself."""
        _LOGGER.warning(
            "handler %s ignores its cancellation (%s)", self._handler.type, self._cause and self._cause.value
        )
        self._task.cancel()
        self._conclude(None)

    async def _serve(self) -> None:
        self._conclude(await self._handle())

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Report what has not come to its own report: a run that was cancelled, maybe before it began."""
        error = None if task.cancelled() else task.exception()
        self._conclude(failure_of(error) if error is not None else None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _conclude(self, outcome: Outcome | None) -> None:
        if self._is_reported:
            return
        self._is_reported = True
        self._stop_timer()
        if self._cause is not None:
            outcome = self._cancelled_outcome(self._cause)
        elif outcome is None:
            outcome = failed("HANDLER_ERROR", "the handler cancelled itself", retryable=True)
        self._runner.ended(self.work, outcome)

    def _cancelled_outcome(self, cause: Cause) -> Outcome | None:
        match cause:
            case Cause.TIMEOUT:
                return failed("TIMEOUT", f"the handler ran longer than {self._timeout_s:g} s", retryable=True)
            case Cause.STOPPED if self.work.received.leased:
                return failed(
                    "WORKER_STOPPED", "the worker was stopped while the handler ran", retryable=True
                )
            case Cause.ABANDONED:
                return None
        return aborted(cause.value) if self.work.has_begun else not_begun(Halt.ABORTED)

    async def _handle(self) -> Outcome:
        try:
            if self._handler.call.is_async:
                if self._handler.reads_values and _may_be_large(self.work.received):
                    await self._prefetch()
                arguments = self._arguments()
                self._begin()
                value = await self._handler.function(*arguments)
            else:
                value = await self._runner.threads.run(self._call_in_thread)
            if isinstance(self._context, PlanContext):
                return await self._decision(value)
            return await self._result(value)
        except asyncio.CancelledError:
            raise
        except Halted as stop:
            return not_begun(stop.halt)
        except BaseException as error:  # SystemExit of a handler must not end the worker
            if not isinstance(error, Exception) or _LOGGER.isEnabledFor(logging.DEBUG):
                _LOGGER.debug("handler %s failed", self._handler.type, exc_info=True)
            return failure_of(error)

    def _call_in_thread(self) -> Any:
        arguments = self._arguments()
        # In this order, so that either this thread sees the cancellation or `cancel` sees that it began.
        self._begin()
        if self._context.cancelled.is_set():
            self.work.has_begun = False
            raise Cancelled
        return self._handler.function(*arguments)

    def _begin(self) -> None:
        """Ask at the last moment, for much may have taken a while: from here on it may spend."""
        self._refuse_stopped()
        self.work.begin()

    def _refuse_stopped(self) -> None:
        halt = self._runner.halt_of(self.work.received)
        if halt is not None:
            raise Halted(halt)

    def _arguments(self) -> tuple[Any, ...]:
        call, context = self._handler.call, self._context
        if call.takes_input and isinstance(context, TaskContext):
            return context, call.convert(context.merged_input())
        return (context,)

    async def _prefetch(self) -> None:
        """Fetch large values in a thread: an async handler must not block the loop when it looks at them."""
        self._refuse_stopped()
        room = self._runner.settings.prefetch_bytes
        for lazy in _large(self._context):
            room -= lazy.payload.blob.size_bytes
            if room < 0:
                return
            await self._runner.threads.run(getattr, lazy, "text")

    async def _result(self, value: Any) -> Outcome:
        metadata: Mapping[str, Any] = {}
        if isinstance(value, Result):
            value, metadata = value.value, value.metadata
        told = metadata_json(metadata)
        return Outcome(_COMPLETED, await self._packed(value, self._runner.packer.inline_budget_bytes), told)

    async def _packed(self, value: Any, room_bytes: int) -> Payload:
        """Return a value as it travels, sealed with the key that the lifetime's start input has."""
        packer, key_id = self._runner.packer, key_of(self.work.received.start_input)
        made = packer.inline(value, room_bytes, key_id)
        if isinstance(made, str):
            return await packer.pack(self.work.tenant_id, made, room_bytes, key_id)
        return made

    async def _decision(self, value: Any) -> Outcome:
        decision = _checked(value)
        allowed = len(self.work.received.allowed_next_ids) if isinstance(self.work.received, PlanInput) else 0
        if len(decision.next) > max(allowed, MAX_NEXT):
            # The gate says so too; this many would not even travel.
            return failed("FANOUT", f"the plan named {len(decision.next)} tasks", retryable=True)
        room = self._runner.packer.inline_budget_bytes
        output = await self._packed(decision.output, room)
        room -= len(output.json) or output.ByteSize()
        inputs = {}
        for task_id, given in decision.inputs.items():
            inputs[task_id] = await self._packed(given, room)
            room = max(0, room - inputs[task_id].ByteSize())
        metadata = metadata_json(decision.metadata)
        return Outcome(_COMPLETED, output, metadata, next_ids=tuple(decision.next), next_inputs=inputs)


def _checked(value: Any) -> Decision:
    if not isinstance(value, Decision):
        raise ResultInvalid(f"a plan returns a Decision, not {type(value).__name__}")
    if not isinstance(value.next, list | tuple) or not all(isinstance(target, str) for target in value.next):
        raise ResultInvalid("Decision.next is a list of task ids")
    if not isinstance(value.inputs, dict) or not all(isinstance(task_id, str) for task_id in value.inputs):
        raise ResultInvalid("Decision.inputs maps task ids to inputs")
    return value


def _may_be_large(received: TaskInput | PlanInput) -> bool:
    if isinstance(received, TaskInput):
        return received.input_data.HasField("blob")
    return any(execution.result.HasField("blob_reference") for execution in received.upstream_task_executions)


def _large(context: Context) -> list[LazyValue]:
    if isinstance(context, TaskContext):
        values = [context.lazy_input]
    elif isinstance(context, PlanContext):
        values = [upstream.lazy for upstream in context.upstream]
    else:
        values = []
    return [value for value in values if value.is_large]


def _timeout_s(work: Work, handler: Handler, default_s: float) -> float:
    told = work.received.headers.timeout
    node_s = told.seconds + told.nanos / 1e9
    if handler.timeout_ms is None:
        return node_s or default_s
    own_s = handler.timeout_ms / 1000
    return min(node_s or own_s, own_s or node_s) or default_s
