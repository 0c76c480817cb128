"""Follows the control events, so that what the gate has stopped is neither begun nor carried on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from headgate_graphs.errors import BadRecord, HeadgateError, LogUnavailable
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_streams.codec import decode
from headgate_streams.port import Log, LogReader, LogRecord, TopicPartition
from headgate_workers.brakes import Brakes

_LOGGER = logging.getLogger(__name__)
_POLL_S = 0.02
_FIRST_POLL_S = 0.01
"""While inputs wait for this thread to notice how far back it must read, and to read it."""
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 1.0
_EARLIER_MS = 60_000
"""How far before an input is read: of what the gate sends at once, one topic may take longer than another."""


class ControlFollower:
    """Reads control events in a thread of its own, from where it is told to, to the end, and on.

    `on_abort(tenant, lifetime)` and `on_reject(tenant, execution)` are called on that thread, after
    `brakes` knows of it.
    """

    def __init__(
        self,
        log: Log,
        partitions: list[TopicPartition],
        on_abort: Callable[[str, str], None],
        on_reject: Callable[[str, str], None],
    ) -> None:
        self.brakes = Brakes()
        self.failure: HeadgateError | None = None
        """What ended the thread; the worker raises it."""
        self._log = log
        self._partitions = partitions
        self._on_abort = on_abort
        self._on_reject = on_reject
        self._lock = threading.Lock()
        self._wanted_ms: int | None = None
        self._covered_ms: int | None = None
        self._caught_up = threading.Event()
        self._stop = threading.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._targets: dict[TopicPartition, int] = {}
        self._thread = threading.Thread(target=self._serve, name="headgate-control", daemon=True)

    def start(self) -> None:
        """Begin to follow, from the end until `cover` asks for more."""
        self._thread.start()

    def covers(self, timestamp_ms: int) -> bool:
        """Whether everything since `timestamp_ms` (log time) has been read; if not, reading it begins.

        An input is older than the abort or the pause that concerns it, so what was appended since the oldest
        input (and a little before) is enough.
        """
        timestamp_ms = max(0, timestamp_ms - _EARLIER_MS)
        with self._lock:
            if self._covered_ms is not None and self._covered_ms <= timestamp_ms:
                return self._caught_up.is_set()
            self._covered_ms = self._wanted_ms = timestamp_ms
            self._caught_up.clear()
        return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until what `covers` began has been read."""
        return self._caught_up.wait(timeout_s)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _serve(self) -> None:
        try:
            reader = self._log.reader()
            try:
                self._follow(reader)
            finally:
                reader.close()
        except HeadgateError as error:
            self.failure = error
        except Exception as error:  # not ours: the worker must not go on without its brake
            _LOGGER.exception("following control events failed")
            self.failure = HeadgateError(f"following control events failed: {error}")

    def _follow(self, reader: LogReader) -> None:
        is_assigned = False
        retry_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                is_assigned = self._assign(reader, is_assigned)
                self._check_caught_up()
                for record in reader.poll(_POLL_S if self._caught_up.is_set() else _FIRST_POLL_S):
                    self._take(record)
                retry_s = _FIRST_RETRY_S
            except LogUnavailable as error:
                _LOGGER.warning("control events cannot be read for now: %s", error)
                self._stop.wait(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)

    def _assign(self, reader: LogReader, is_assigned: bool) -> bool:
        with self._lock:
            wanted = self._wanted_ms
        if wanted is None and is_assigned:
            return True
        ends = {partition: end for partition, (_, end) in self._log.offsets(self._partitions).items()}
        starts = ends if wanted is None else {p: self._log.offset_at(p, wanted) for p in self._partitions}
        reader.assign(starts)
        self._positions, self._targets = dict(starts), dict(ends)
        with self._lock:
            if self._wanted_ms == wanted:
                self._wanted_ms = None
        return True

    def _check_caught_up(self) -> None:
        if self._caught_up.is_set():
            return
        with self._lock:
            if self._wanted_ms is None and all(
                self._positions.get(partition, 0) >= end for partition, end in self._targets.items()
            ):
                self._caught_up.set()

    def _take(self, record: LogRecord) -> None:
        self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        try:
            event = decode(record, ExecutionEvent)
        except BadRecord as error:  # the gate's topic: whoever wrote this is not the gate
            _LOGGER.warning(
                "control event %s-%d@%d: %s", record.topic, record.partition, record.offset, error
            )
            return
        if event.shadow:
            return
        self.brakes.apply(event)
        if event.type == ControlType.CONTROL_TYPE_ABORT_LIFETIME:
            self._on_abort(event.tenant_id, event.lifetime_id)
        elif event.type == ControlType.CONTROL_TYPE_REJECT_EXECUTION and event.execution_id:
            self._on_reject(event.tenant_id, event.execution_id)
