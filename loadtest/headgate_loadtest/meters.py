"""Looks at processes and backlogs about twice a second while a load runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headgate_graphs.errors import HeadgateError
from headgate_loadtest.installation import Installation
from headgate_streams.port import LogConsumer, TopicPartition

EVERY_S = 0.5


@dataclass
class Readings:
    """What was seen; the n-th entry of each list belongs to the n-th moment."""

    at_s: list[float] = field(default_factory=list)
    """Seconds after the begin."""
    in_flight: list[int] = field(default_factory=list)
    """Runs that were asked for and have not been seen to end."""
    cpu_percent: dict[str, list[float]] = field(default_factory=dict)
    """Of one core, per process."""
    rss_mb: dict[str, list[float]] = field(default_factory=dict)
    """Resident memory, per process."""
    backlog: dict[str, list[int]] = field(default_factory=dict)
    """Records that wait, per "topic/partition"."""
    errors: list[str] = field(default_factory=list)
    """Why a look failed."""


class Meters:
    """A thread that looks. `stop` returns the readings."""

    def __init__(
        self, installation: Installation, pids: Mapping[str, int], in_flight: Callable[[], int], begin_ns: int
    ) -> None:
        import psutil

        self._installation = installation
        self._in_flight = in_flight
        self._begin_ns = begin_ns
        self.readings = Readings()
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._groups = _groups(installation)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-meters", daemon=True)
        self._thread.start()

    def stop(self) -> Readings:
        """End the thread and return what it saw."""
        self._stop.set()
        self._thread.join(20)
        for consumer, _ in self._groups:
            consumer.close()
        return self.readings

    def _run(self) -> None:
        for process in self._processes.values():
            process.cpu_percent()
        while not self._stop.wait(EVERY_S):
            found = self.readings
            found.at_s.append((time.monotonic_ns() - self._begin_ns) / 1e9)
            found.in_flight.append(self._in_flight())
            self._look_at_processes()
            try:
                self._look_at_backlog()
            except HeadgateError as error:
                found.errors.append(str(error))

    def _look_at_processes(self) -> None:
        import psutil

        for name, process in self._processes.items():
            try:
                cpu, rss = process.cpu_percent(), process.memory_info().rss / 1e6
            except psutil.Error:
                cpu, rss = 0.0, 0.0
            self.readings.cpu_percent.setdefault(name, []).append(round(cpu, 1))
            self.readings.rss_mb.setdefault(name, []).append(round(rss, 1))

    def _look_at_backlog(self) -> None:
        for consumer, topic in self._groups:
            ends = self._installation.ends(topic)
            committed = consumer.committed(list(ends))
            for where, end in ends.items():
                position = committed[where]
                waiting = end - (position.offset if position is not None else 0)
                self._note_backlog(where, max(0, waiting))

    def _note_backlog(self, where: TopicPartition, waiting: int) -> None:
        name = f"{where.topic.rpartition('.')[2]}/{where.partition}"
        series = self.readings.backlog.setdefault(name, [])
        series += [0] * (len(self.readings.at_s) - 1 - len(series))
        series.append(waiting)


def _groups(installation: Installation) -> list[tuple[LogConsumer, str]]:
    """Return a consumer for each group that works on the load, with its topic; none of them joins."""
    topics, log = installation.topics, installation.log
    return [
        (log.consumer(f"{topics.prefix}.gate"), topics.executions),
        (log.consumer(f"{topics.prefix}.task-workers"), topics.task_inputs()),
        (log.consumer(f"{topics.prefix}.plan-workers"), topics.plan_inputs()),
    ]
