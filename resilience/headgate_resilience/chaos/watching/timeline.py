"""Follows the log and all that is written because of it, while it happens; what the report is made of.

A *step* is one executed node. It lasts from the append of the record that led to its input until that of
its result, by the log's clock. What the gate says again after a crash is recognised by its source, as any
consumer does, and counts once.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.control_pb2 import (
    CONTROL_TYPE_QUARANTINE_TENANT,
    CONTROL_TYPE_RELEASE_TENANT,
    ControlType,
    ExecutionEvent,
)
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.offsets import SourceCursor
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

TERMINAL = frozenset({3, 4, 5, 6})
RETRY_S = 0.5


class Lag(NamedTuple):
    """How long one thing waited for the other: from when, until when, in which partition."""

    from_ms: int
    until_ms: int
    place: TopicPartition


class _Asked(NamedTuple):
    """An input that has no result yet."""

    source_ms: int
    input_ms: int
    place: TopicPartition


class Timeline(threading.Thread):
    """What has happened so far. Lists only grow, so other threads may look at any time."""

    def __init__(self, log: Log, topics: Topics, partitions: int) -> None:
        super().__init__(name="chaos-timeline", daemon=True)
        self.steps: list[tuple[int, int]] = []
        """(append time of the result, how long the step took), both in ms."""
        self.gate_lags: list[Lag] = []
        """From a record to each output that the gate made from it."""
        self.worker_lags: list[Lag] = []
        """From an input to its first result."""
        self.ended: dict[tuple[str, str], int] = {}
        """(tenant, lifetime) -> terminal status, of lifetimes that a client started."""
        self.letters: Counter[str] = Counter()
        """Dead letters by reason."""
        self.events: Counter[str] = Counter()
        """Control events by type."""
        self.kinds: Counter[str] = Counter()
        """Records of the log by what they carry."""
        self.logic = 1
        """The newest logic version that the log was activated for."""
        self.quarantined: Counter[str] = Counter()
        """How often each tenant was quarantined."""
        self.released: Counter[str] = Counter()
        """How often each was released again."""
        self.seen: dict[TopicPartition, int] = {}
        """Next offset to read."""
        self.error: BaseException | None = None
        self._log, self._topics = log, topics
        self._over = threading.Event()
        self._appended: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        """Partition of the log -> append time by offset."""
        self._asked: dict[str, _Asked] = {}
        self._said: defaultdict[TopicPartition, SourceCursor] = defaultdict(SourceCursor)
        self._readers: dict[str, Callable[[LogRecord], None]] = {
            topics.executions: self._execution,
            topics.task_inputs(): lambda record: self._input(record, TaskInput),
            topics.plan_inputs(): lambda record: self._input(record, PlanInput),
            topics.lifetimes: self._view,
            topics.control_events: self._event,
            topics.dead_letters: self._letter,
        }
        self._places = [TopicPartition(name, n) for name in self._readers for n in range(partitions)]

    def run(self) -> None:
        """Follow until `close`; a log that is away is tried again."""
        try:
            while not self._over.is_set():
                try:
                    self._follow()
                except HeadgateError as error:
                    logger.debug("the log cannot be followed for now: %s", error)
                    self._over.wait(RETRY_S)
        except BaseException as error:  # raised again by whoever asks for the report
            self.error = error
            logger.exception("the timeline ended")

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self.join(15.0)

    def _follow(self) -> None:
        reader = self._log.reader()
        try:
            reader.assign({place: self.seen.get(place, 0) for place in self._places})
            while not self._over.is_set():
                for record in reader.poll(0.2, 2_000):
                    self._take(record)
        finally:
            reader.close()

    def _take(self, record: LogRecord) -> None:
        place = TopicPartition(record.topic, record.partition)
        if record.offset < self.seen.get(place, 0):
            return
        self.seen[place] = record.offset + 1
        try:
            self._readers[record.topic](record)
        except (DecodeError, UnicodeDecodeError):
            self.kinds["poison"] += 1

    # What each topic says --------------------------------------------------------------------------------

    def _execution(self, record: LogRecord) -> None:
        times = self._appended[record.partition]
        while len(times) <= record.offset:
            times.append(record.timestamp_ms)
        envelope = ExecutionEnvelope.FromString(record.value or b"")
        kind = envelope.WhichOneof("payload") or "poison"
        self.kinds[kind] += 1
        if kind == "logic_version":
            self.logic = max(self.logic, envelope.logic_version.version)
        if kind in ("task_execution", "plan_execution"):
            self._result(getattr(envelope, kind).headers.execution_id, record.timestamp_ms)

    def _result(self, execution_id: str, at_ms: int) -> None:
        asked = self._asked.pop(execution_id, None)
        if asked is not None:
            self.steps.append((at_ms, at_ms - asked.source_ms))
            self.worker_lags.append(Lag(asked.input_ms, at_ms, asked.place))

    def _input(self, record: LogRecord, kind: type[TaskInput] | type[PlanInput]) -> None:
        message: Any = kind.FromString(record.value or b"")
        source_ms = self._output(record, message.source)
        if source_ms is not None:
            place = TopicPartition(record.topic, record.partition)
            self._asked[message.headers.execution_id] = _Asked(source_ms, record.timestamp_ms, place)

    def _output(self, record: LogRecord, source: Source) -> int | None:
        """Return when the source of an output was appended; None for a repeat, and for what has no source."""
        if not self._is_fresh(record, source):
            return None
        times = self._appended[source.partition]
        if source.offset >= len(times):
            return record.timestamp_ms  # the log is read a moment later than its consequence
        source_ms = times[source.offset]
        place = TopicPartition(self._topics.executions, source.partition)
        self.gate_lags.append(Lag(source_ms, record.timestamp_ms, place))
        return source_ms

    def _is_fresh(self, record: LogRecord, source: Source) -> bool:
        """Tell an output from what a gate has said before."""
        said = self._said[TopicPartition(record.topic, record.partition)]
        if not said.is_new(source):
            return False
        said.advance(source)
        return True

    def _view(self, record: LogRecord) -> None:
        view = LifetimeView.FromString(record.value or b"")
        self._output(record, view.source)
        if view.status in TERMINAL and not view.parent_lifetime_id:
            self.ended.setdefault((view.tenant_id, view.lifetime_id), view.status)

    def _event(self, record: LogRecord) -> None:
        event = ExecutionEvent.FromString(record.value or b"")
        if not self._is_fresh(record, event.source):
            return
        self.events[ControlType.Name(event.type).removeprefix("CONTROL_TYPE_")] += 1
        self.quarantined[event.tenant_id] += event.type == CONTROL_TYPE_QUARANTINE_TENANT
        self.released[event.tenant_id] += event.type == CONTROL_TYPE_RELEASE_TENANT

    def _letter(self, record: LogRecord) -> None:
        self.letters[DeadLetter.FromString(record.value or b"").reason] += 1
