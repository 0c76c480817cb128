"""The worker process: consumes inputs, lets the runner run them, appends what came out, commits.

The order of effects, once. Every step is done by the consumer's thread, which never waits for a handler.

*Plain work* (the handler is short and unpaid, so running it again is harmless):

1. the input is read, checked and tracked; a repeat (its source is not above the partition's cursor) ends
   here;
2. the handler runs; large values go to the blob store before anything refers to them;
3. the result is appended and its delivery confirmed (acks=all);
4. the offset becomes committable, gap-safe, with the source cursor in the commit's metadata; it is
   committed in batches. A crash before this runs the handler again; the gate drops the second result by its
   execution_id.

*Leased work* (spend or long runs, which must not be repeated unseen):

1. as above;
2. ExecutionStarted{run_id} is appended and confirmed. Past the input's `start_by`, by the log's append time,
   the input is dropped: the gate judges by the same time and has given the work up;
3. the offset is committed. Older plain work of the partition may hold it back; of inputs that
   were there at the assignment the announcement waits for that work, so that a handler which ends the process
   is not begun again and again by each next owner: it is a lost run, as any other;
4. the handler runs, and a heartbeat carries its partial usage every third of the lease, and at once when it
   has used more than the gate holds for it, so that a cap stops it while it runs. A crash from here on means
   a lease that expires: the gate charges the run and dispatches the next attempt;
5. the result is appended and confirmed.

What is stopped before it began is reported as ABORTED with no usage, so that its hold is closed: with the
code NOT_BEGUN when its lifetime was aborted, and with PAUSED when it was paused, or its graph or tenant
frozen. The gate keeps what is given back so, and dispatches it anew after the resume. What runs already is
cancelled by an abort, and goes on in a pause.

When a partition is taken away, its plain work may end within `drain_s`; the rest is cancelled, not reported
and not committed. A run that was announced and may no more begin is reported as WITHDRAWN. On stop, leased
runs that outlast the drain are reported as WORKER_STOPPED, so that the gate need not wait for the lease.

A plain handler that ends its process is met in the same way. Whoever takes a partition over says so in a
commit before he begins anything of it, and whoever gives it up says so, too; so it is seen when owners die
one after the other and commit nothing. From the second such death on the first inputs of the partition are
*suspects* (`share.py`): they are held as leased work is, whatever their node says, and run one at a time.

A handler that blocks the event loop of all is left behind with the loop; what ran on it is reported as
LOOP_BLOCKED. A failed delivery ends the process: replay is the recovery.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from headgate_graphs.errors import BadRecord, HeadgateError, LogUnavailable
from headgate_graphs.model import NodeKind
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.blobs import BlobStore
from headgate_streams.crash import crash_point
from headgate_streams.port import Delivery, Log, LogRecord, TopicDescription, TopicPartition
from headgate_streams.settings import StreamSettings
from headgate_workers.control import ControlFollower
from headgate_workers.crew import Crew
from headgate_workers.execution import announcement, heartbeat, report
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.intake import Intake
from headgate_workers.outbox import GATHER_MS, Outbox
from headgate_workers.outcome import Outcome, withdrawn
from headgate_workers.run import Cause
from headgate_workers.runner import Finished, Runner
from headgate_workers.settings import WorkerSettings
from headgate_workers.share import Share
from headgate_workers.work import Work

_LOGGER = logging.getLogger(__name__)
_SHORT_WAIT_S = 0.001
_LONGEST_BUSY_WAIT_S = 0.005
_CONFIRMATION_WAIT_S = 0.002
"""How often deliveries are asked for while nothing runs; nothing but the next commit depends on them."""
_PAUSE_AFTER_S = 0.2
"""How long the bound must be reached before partitions are paused: pausing throws away what was fetched."""
_RETRY_S = 0.5
_MOST_UNCONFIRMED = 10_000
"""Results that may wait for the log before intake stops."""
_RECORD_OVERHEAD_BYTES = 1024
"""What key, headers and framing add to a record's value, generously."""


class Worker:
    """Serves the inputs of one kind of node. `run` belongs to one thread; `ready` may be asked from any."""

    def __init__(
        self,
        log: Log,
        blobs: BlobStore,
        kind: NodeKind,
        registry: HandlerRegistry,
        settings: WorkerSettings | None = None,
        stream_settings: StreamSettings | None = None,
    ) -> None:
        self.ready = threading.Event()
        """Set from the first turn of the loop to the last."""
        self._log = log
        self._kind = kind
        self._registry = registry
        self._settings = settings or WorkerSettings()
        self._streams = stream_settings or StreamSettings.read()
        self._topics = self._streams.topics()
        self._crew = Crew(
            lambda: Runner(kind, registry, blobs, self._settings, self._streams, self._control.brakes.on),
            self._settings.loop_patience_s,
        )
        self._control = ControlFollower(
            log,
            [TopicPartition(self._topics.control_events, n) for n in range(self._streams.partitions)],
            self._crew.abort_lifetime,
            self._crew.reject_execution,
        )
        self._intakes: list[Intake] = []
        self._starting: set[Work] = set()
        """What is being announced."""
        self._held: list[Work] = []
        """Leased work that waits to be announced."""
        self._announced: list[Work] = []
        self._is_stopping = False
        self._is_closing = False
        self._has_stopped = False
        self._last_commit_s = 0.0
        self._full_since_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set, then drain, commit and leave.

        Raises:
            UserError: A handler's annotations do not resolve, or a topic has another partition count.
            DeliveryFailed: An append was refused; nothing of it is committed.
            LogUnavailable: The log could not be reached at the start, or control events could not be read.
        """
        self._registry.check()
        self._log.create_topics(self._needed_topics())
        self._outbox = Outbox(self._log.producer(gather_ms=GATHER_MS), self._topics, self._streams.partitions)
        self._crew.start()
        self._control.start()
        try:
            for queue_name in self._settings.queues:
                self._join(queue_name)
            while not stop.is_set():
                self._turn()
                self.ready.set()
            self._stop()
        finally:
            self.ready.clear()
            self._close()

    def _needed_topics(self) -> list[TopicDescription]:
        named = [name for name in self._settings.queues if name]
        shared = {self._topics.executions, self._topics.control_events, self._topics.dead_letters}
        needed = shared | {self._inputs(name) for name in self._settings.queues}
        every = self._topics.descriptions(self._streams.partitions, named)
        return [topic for topic in every if topic.name in needed]

    def _inputs(self, queue_name: str) -> str:
        of_kind = self._topics.task_inputs if self._kind is NodeKind.TASK else self._topics.plan_inputs
        return of_kind(queue_name)

    def _join(self, queue_name: str) -> None:
        consumer = self._log.consumer(self._topics.workers_group(self._kind.value, queue_name))
        expected = TaskInput if self._kind is NodeKind.TASK else PlanInput
        topic = self._inputs(queue_name)
        self._intakes.append(
            Intake(self._log, consumer, topic, expected, self._on_bad, self._drain_shares, self._settings)
        )

    # One turn ------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        wait_s = self._wait() / len(self._intakes)
        for intake in self._intakes:
            self._take_in(intake, wait_s)
        self._serve()
        self._report(self._crew.replace_blocked())

    def _serve(self) -> None:
        """Do everything but take in: append what ended, begin what was announced, renew leases, commit."""
        self._collect()
        self._renew()
        self._announce_held()
        self._outbox.send()
        self._begin_announced()
        self._commit()
        if self._control.failure is not None:
            raise self._control.failure

    def _wait(self) -> float:
        """Wait where the next event is likeliest; return how long intake may wait in addition."""
        if self._starting:
            self._outbox.send(_SHORT_WAIT_S)
            return 0.0
        if self._crew:
            # Never more than a tenth of what the runs have taken already.
            idle_s = time.monotonic() - self._crew.last_event_s
            self._collect(min(_LONGEST_BUSY_WAIT_S, max(_SHORT_WAIT_S, idle_s / 10)))
            return 0.0
        return _CONFIRMATION_WAIT_S if self._outbox.unconfirmed else self._settings.idle_wait_s

    def _take_in(self, intake: Intake, wait_s: float) -> None:
        room = self._room()
        if room <= 0 and time.monotonic() - self._full_since_s < _PAUSE_AFTER_S:
            return
        try:
            works = intake.take(wait_s, room)
        except LogUnavailable as error:
            _LOGGER.warning("inputs cannot be read for now: %s", error)
            time.sleep(_RETRY_S)
            return
        if works:
            self._wait_for_control(intake.oldest_ms)
            self._begin(works)

    def _room(self) -> int:
        """Return how many more handlers may run: none from the bound on until half of it is free again."""
        # Suspects wait for one another; nothing else should wait for them.
        held = sum(not work.is_suspect for work in self._held)
        busy = len(self._crew) + len(self._starting) + len(self._announced) + held
        if busy >= self._settings.concurrency:
            self._full_since_s = self._full_since_s or time.monotonic()
        elif busy <= self._settings.concurrency // 2:
            self._full_since_s = 0.0
        if self._outbox.unconfirmed > _MOST_UNCONFIRMED:
            return 0
        return 0 if self._full_since_s else self._settings.concurrency - busy

    def _wait_for_control(self, oldest_ms: int) -> None:
        """Return when the control events since the oldest input have been read."""
        deadline_s = time.monotonic() + self._settings.control_timeout_s
        while not self._control.covers(oldest_ms):
            if self._control.wait(0.02):
                continue
            self._serve()
            if time.monotonic() > deadline_s:
                raise LogUnavailable(
                    f"control events could not be read within {self._settings.control_timeout_s:g} s"
                )

    # Beginning -----------------------------------------------------------------------------------------

    def _begin(self, works: Sequence[Work]) -> None:
        at_once = []
        for work in works:
            # What has been stopped is reported by the runner at once; there is nothing to announce.
            if work.is_leased and self._control.brakes.on(work.received) is None:
                self._held.append(work)
            else:
                at_once.append(work)
        crash_point("worker-before-run")
        self._crew.submit(at_once)
        self._announce_held()

    def _announce_held(self) -> None:
        held, self._held = self._held, []
        for work in held:
            if work.share.is_lost or self._is_stopping:
                continue  # not announced and not committed: whoever reads it next begins it
            if self._control.brakes.on(work.received) is not None:
                self._crew.submit([work])
            elif work.share.must_wait(work) or (work.is_suspect and self._is_trying_another()):
                self._held.append(work)
            else:
                self._announce(work)

    def _is_trying_another(self) -> bool:
        under_way = (*self._starting, *self._announced, *self._crew.works())
        return any(work.is_suspect for work in under_way)

    def _announce(self, work: Work) -> None:
        self._starting.add(work)
        self._outbox.publish(announcement(work, self._settings.name), partial(self._on_announced, work))

    def _on_announced(self, work: Work, delivery: Delivery) -> None:
        self._starting.discard(work)
        crash_point("worker-after-started")
        if work.share.is_lost or self._is_stopping:
            # Not committed: whoever reads it next announces a run of its own; this one has spent nothing.
            self._outbox.publish(self._reported(work, withdrawn()))
            return
        work.share.settle(work.offset)
        start_by = work.received.start_by.ToMilliseconds() if work.received.HasField("start_by") else None
        if start_by is not None and delivery.timestamp_ms > start_by:
            _LOGGER.info("execution %s was announced too late, the gate has given it up", work.execution_id)
            return
        self._announced.append(work)

    def _begin_announced(self) -> None:
        if not self._announced:
            return
        announced, self._announced = self._announced, []
        self._commit(at_once=True)
        crash_point("worker-before-run")
        self._crew.submit([work for work in announced if _may_begin(work)], leased=True)
        for work in [work for work in announced if not _may_begin(work)]:
            if work.share.is_lost or self._is_stopping:
                self._outbox.publish(self._reported(work, withdrawn()))
            else:
                self._announced.append(work)

    def _renew(self) -> None:
        for tenant, works in self._crew.renewals():
            self._outbox.publish(heartbeat(tenant, works, self._settings.name))

    # What came out -------------------------------------------------------------------------------------

    def _collect(self, wait_s: float = 0.0) -> None:
        self._report(self._crew.collect(wait_s))

    def _report(self, ended: Sequence[Finished]) -> None:
        for work, outcome in ended:
            if outcome is not None:
                crash_point("worker-before-result")
                self._outbox.publish(self._reported(work, outcome), partial(_settle, work))

    def _reported(self, work: Work, outcome: Outcome) -> ExecutionEnvelope:
        return report(work, outcome, self._streams.max_record_bytes - _RECORD_OVERHEAD_BYTES)

    def _on_bad(self, record: LogRecord, error: BadRecord, share: Share) -> None:
        self._outbox.bury(record, error, lambda: share.settle(record.offset))

    def _commit(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        if not at_once and now_s - self._last_commit_s < self._settings.commit_interval_s:
            return
        self._last_commit_s = now_s
        for intake in self._intakes:
            try:
                intake.commit()
            except LogUnavailable as error:
                _LOGGER.warning("offsets cannot be committed for now: %s", error)
                self._last_commit_s = now_s + _RETRY_S

    # Leaving -------------------------------------------------------------------------------------------

    def _drain_shares(self, shares: Sequence[Share]) -> None:
        """Let the work of shares that are taken away end, for a while; cancel the rest without a report."""
        if self._is_closing:
            return
        self._serve_until(lambda: not any(share.open for share in shares), self._settings.drain_s)
        left = [work for share in shares for work in share.open.values()]
        if left:
            _LOGGER.warning("%d runs are abandoned: their partition is taken away", len(left))
            self._crew.cancel(left, Cause.ABANDONED)

    def _stop(self) -> None:
        self._is_stopping = True
        self._serve_until(self._is_idle, self._settings.drain_s)
        left = self._crew.works()
        if left:
            _LOGGER.warning(
                "%d runs did not end within %g s and are cancelled", len(left), self._settings.drain_s
            )
            self._crew.cancel([work for work in left if work.is_leased], Cause.STOPPED)
            self._crew.cancel([work for work in left if not work.is_leased], Cause.ABANDONED)
            self._serve_until(self._is_idle, self._settings.cancel_grace_s + 1.0)
        self._commit(at_once=True)
        self._has_stopped = True

    def _is_idle(self) -> bool:
        return not (self._crew or self._starting or self._announced or self._outbox.unconfirmed)

    def _serve_until(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        self._serve()
        while not is_done() and time.monotonic() < deadline_s:
            if self._crew:
                self._collect(_LONGEST_BUSY_WAIT_S)
            else:
                self._outbox.send(_SHORT_WAIT_S)
                time.sleep(0 if is_done() else _SHORT_WAIT_S)
            self._serve()

    def _close(self) -> None:
        self._is_closing = True
        self._control.close()
        self._crew.close()
        leave = (partial(intake.close, in_order=self._has_stopped) for intake in self._intakes)
        closing: list[Callable[[], None]] = [*leave, self._outbox.close]
        for close in closing:
            with contextlib.suppress(HeadgateError):  # the error that ended the worker is the one to see
                close()


def _settle(work: Work, _delivery: Delivery) -> None:
    crash_point("worker-after-result")
    work.share.settle(work.offset)


def _may_begin(work: Work) -> bool:
    """Whether nobody reads the input of announced work again."""
    return not work.is_early or work.offset < work.share.tracker.committed
