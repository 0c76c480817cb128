"""Runs handlers: one event loop in one thread, synchronous handlers in threads of their own.

`Runner` is called by the consumer's thread and by the control follower; the rest happens on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from headgate_graphs.model import NodeKind
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.blobs import BlobStore
from headgate_streams.settings import StreamSettings
from headgate_workers.brakes import Halt
from headgate_workers.handlers import Handler, HandlerRegistry
from headgate_workers.outcome import Outcome, failed, failure_of
from headgate_workers.packing import Packer
from headgate_workers.run import Cause, Run
from headgate_workers.settings import WorkerSettings
from headgate_workers.shared import SharedClients
from headgate_workers.threads import HandlerThreads
from headgate_workers.work import Work

_LOGGER = logging.getLogger(__name__)
_CLOSE_S = 5.0
_HELD_BACK_S = 0.005
"""How long what has ended may wait for company while handlers keep the loop busy."""

Finished = tuple[Work, Outcome | None]
"""A run that ended; no outcome means that it was abandoned and nothing is to be reported."""


class Runner:
    """The handlers' loop. Every submitted work comes back through `finished` exactly once."""

    def __init__(
        self,
        kind: NodeKind,
        registry: HandlerRegistry,
        blobs: BlobStore,
        settings: WorkerSettings,
        streams: StreamSettings,
        halt_of: Callable[[TaskInput | PlanInput], Halt | None],
    ) -> None:
        self._kind = kind
        self._registry = registry
        self.halt_of = halt_of
        """Asked right before a handler is called."""
        self._runs: dict[str, Run] = {}
        self._blobs = blobs
        self._streams = streams
        self.finished: queue.SimpleQueue[list[Finished]] = queue.SimpleQueue()
        """What has ended, as much at once as there is: each wakes the consumer's thread."""
        self._ended: list[Finished] = []
        self._first_ended_s = 0.0
        self._handlers: dict[str, Handler] = {}
        self.settings = settings
        self._asked_s: float | None = None
        self.shared = SharedClients()

    def start(self) -> None:
        """Begin to serve."""
        self.loop = asyncio.new_event_loop()
        self.threads = HandlerThreads(self.loop)
        self.packer = Packer(self._blobs, self._streams, self.settings.blob_attempts, self.threads)
        self._thread = threading.Thread(target=self._serve, name="headgate-handlers", daemon=True)
        self._thread.start()

    def submit(self, works: Sequence[Work]) -> None:
        """Run these as soon as the loop comes to it."""
        self.loop.call_soon_threadsafe(self._begin, works)

    def silent_s(self) -> float:
        """Return for how many seconds the loop has not answered: an async handler that blocks holds it up.

        Asked now and then by the consumer's thread; the first call only asks the loop.
        """
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            self.loop.call_soon_threadsafe(self._answer)
            return 0.0
        return time.monotonic() - self._asked_s

    def _answer(self) -> None:
        self._asked_s = None

    def abort_lifetime(self, tenant: str, lifetime: str) -> None:
        """Cancel every run of a lifetime that has been aborted."""
        self.loop.call_soon_threadsafe(
            self._cancel,
            Cause.ABORTED,
            lambda w: _is_of(w, tenant, lifetime) and self.halt_of(w.received) is Halt.ABORTED,
        )

    def reject_execution(self, tenant: str, execution: str) -> None:
        """Cancel the runs of one execution."""
        self.loop.call_soon_threadsafe(
            self._cancel, Cause.REJECTED, lambda w: w.execution_id == execution and w.tenant_id == tenant
        )

    def cancel(self, works: Sequence[Work], cause: Cause) -> None:
        """Cancel these runs; those that have ended already are left alone."""
        run_ids = {work.run_id for work in works}
        self.loop.call_soon_threadsafe(self._cancel, cause, lambda w: w.run_id in run_ids)

    def leave(self) -> None:
        """Give up a loop that a handler holds; its thread ends when the handler lets go, if ever."""
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._finish()))

    def close(self) -> None:
        """Close shared clients and end the loop; a handler that hangs it is left behind with its thread."""
        self.leave()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _LOGGER.warning("a handler blocks the event loop; its thread is left behind")

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        await self.shared.close()
        self.loop.stop()

    def _begin(self, works: Sequence[Work]) -> None:
        begun = []
        for work in works:
            try:
                if (run := self._begin_one(work)) is not None:
                    begun.append(run)
            except Exception as error:  # whatever it is, the work must come back
                _LOGGER.exception("execution %s could not begin", work.execution_id)
                self.ended(work, failure_of(error))
        # The loop calls in order, so this comes when each of them has made its first step.
        self.loop.call_soon(self._watch, begun, self.loop.time())

    def _watch(self, begun: Sequence[Run], begun_s: float) -> None:
        for run in begun:
            run.watch(begun_s)

    def _begin_one(self, work: Work) -> Run | None:
        handler = self._handlers.get(work.node_type) or self._find_handler(work.node_type)
        if handler is None:
            self.ended(work, self._no_handler(work.node_type))
            return None
        self._runs[work.run_id] = run = Run(work, handler, self)
        run.start(self.loop)
        return run

    def _find_handler(self, node_type: str) -> Handler | None:
        handler = self._registry.get(self._kind, node_type)
        if handler is not None:
            self._handlers[node_type] = handler
        return handler

    def ended(self, work: Work, outcome: Outcome | None) -> None:
        """Take what came of a work; it is handed over with all that ends in this turn of the loop."""
        self._runs.pop(work.run_id, None)
        now_s = self.loop.time()
        if not self._ended:
            self._first_ended_s = now_s
            self.loop.call_soon(self._hand_over)
        self._ended.append((work, outcome))
        if now_s - self._first_ended_s > _HELD_BACK_S:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._ended:
            ended, self._ended = self._ended, []
            self.finished.put(ended)

    def held_back(self) -> list[Finished]:
        """Return what has ended and was not handed over; for who takes it from a stuck loop."""
        return list(self._ended)

    def _cancel(self, cause: Cause, concerns: Callable[[Work], bool]) -> None:
        for run in [run for run in self._runs.values() if concerns(run.work)]:
            run.cancel(cause)

    def _no_handler(self, node_type: str) -> Outcome:
        known = ", ".join(self._registry.types(self._kind))
        return failed(
            "NO_HANDLER",
            f"no handler for {self._kind.value} type {node_type[:64]!a}; this worker has {known}",
            retryable=False,
        )


def _is_of(work: Work, tenant: str, lifetime: str) -> bool:
    return work.lifetime_id == lifetime and work.tenant_id == tenant
