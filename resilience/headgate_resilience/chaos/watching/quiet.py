"""Whether all is done that was asked for: lag of gates and workers, and lifetimes that have not ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from headgate_graphs.errors import HeadgateError
from headgate_resilience.chaos.watching.timeline import Timeline
from headgate_resilience.chaos.workload.driver import Driver, Started
from headgate_streams.port import Log, TopicPartition
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

LOOK_S = 0.5
STALE_S = 1.5
"""What was appended so long ago is done, when nothing is wrong."""


class Quiet:
    """Compares what the groups have committed with what the timeline has read."""

    def __init__(self, log: Log, topics: Topics, timeline: Timeline, driver: Driver) -> None:
        self._log, self._timeline, self._driver = log, timeline, driver
        self._groups = {
            topics.gate_group: topics.executions,
            topics.workers_group("task"): topics.task_inputs(),
            topics.workers_group("plan"): topics.plan_inputs(),
        }

    def open(self) -> list[Started]:
        """Return the acknowledged lifetimes that have not ended."""
        ended = self._timeline.ended
        return [one for one in list(self._driver.acknowledged) if (one.tenant, one.lifetime_id) not in ended]

    def lag(self, positions: Mapping[TopicPartition, int]) -> dict[str, int] | None:
        """Return how far each group is behind these positions, in records; None when the log does not say."""
        try:
            return {group: self._behind(group, topic, positions) for group, topic in self._groups.items()}
        except HeadgateError as error:
            logger.info("the lag cannot be read for now: %s", error)
            return None

    def _behind(self, group: str, topic: str, positions: Mapping[TopicPartition, int]) -> int:
        wanted = {place: end for place, end in positions.items() if place.topic == topic and end > 0}
        asking = self._log.consumer(group)
        try:
            known = asking.committed(wanted)
        finally:
            asking.close()
        offsets = {place: committed.offset if committed else 0 for place, committed in known.items()}
        return sum(max(0, end - offsets.get(place, 0)) for place, end in wanted.items())

    def wait_steady(self, timeout_s: float, is_over: Callable[[], bool] = lambda: False) -> str:
        """Return once the groups have come so far as the log was a moment ago.

        The text is empty then; it says what lags still when the time is over.
        """
        deadline = time.monotonic() + timeout_s
        lag: dict[str, int] | None = None
        while time.monotonic() < deadline and not is_over():
            positions = dict(self._timeline.seen)
            time.sleep(STALE_S)
            lag = self.lag(positions)
            if lag is not None and not any(lag.values()):
                return ""
        return f"lag {_text(lag)}"

    def wait_quiet(self, timeout_s: float, tell: Callable[[str], None]) -> bool:
        """Return whether every acknowledged lifetime has ended and nothing lags, within the time."""
        deadline = time.monotonic() + timeout_s
        told = 0.0
        while True:
            left, lag = self.open(), self.lag(dict(self._timeline.seen))
            if not left and lag is not None and not any(lag.values()):
                return True
            if time.monotonic() > deadline:
                return False
            if time.monotonic() - told > 5.0:
                told = time.monotonic()
                tell(f"waiting for quiet: {len(left)} lifetimes have not ended, lag {_text(lag)}")
            time.sleep(LOOK_S)


def _text(lag: Mapping[str, int] | None) -> str:
    if lag is None:
        return "unknown"
    return ", ".join(f"{group.rpartition('.')[2]} {records}" for group, records in lag.items())


def names(lifetimes: Iterable[Started], most: int = 10) -> str:
    """Return the first of some lifetimes, for a line that people read."""
    some = list(lifetimes)
    shown = ", ".join(f"{one.tenant}/{one.lifetime_id}" for one in some[:most])
    return shown + (f" and {len(some) - most} more" if len(some) > most else "")
