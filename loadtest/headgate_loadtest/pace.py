"""How fast a loop goes whose runs never end: steps a second from offsets, and the time of one step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from headgate_graphs.errors import HeadgateError
from headgate_loadtest.samples import as_nanos, percentile
from headgate_streams.port import Log, TopicPartition

_BEGIN_S = 30.0
_WARM_S = 1.0
_PROBED = 4
"""With so many lifetimes or fewer, every result is read, and the time between two of them is a step."""


class NoProgress(HeadgateError):
    """The loop did not begin to turn."""


@dataclass(frozen=True)
class Pace:
    """What was measured."""

    in_flight: int
    steps_per_s: float
    p50_ms: float
    """Of one step; -1 when it was not measured."""


class Pacer:
    """Measures the loop whose results land in a topic."""

    def __init__(self, log: Log, topic: str, partitions: int) -> None:
        self._log = log
        self._where = [TopicPartition(topic, number) for number in range(partitions)]
        self._first = self._end()

    def _end(self) -> int:
        return sum(end for _, end in self._log.offsets(self._where).values())

    def measure(self, in_flight: int, seconds: float, check: Callable[[], None]) -> Pace:
        """Return the pace over `seconds`, once each lifetime has made three steps and the loop is warm."""
        self._wait_for(self._first + 3 * in_flight, check)
        time.sleep(_WARM_S)
        check()
        if in_flight <= _PROBED:
            return self._probe(in_flight, seconds, check)
        steps, begin = self._end(), time.perf_counter()
        time.sleep(seconds)
        steps, took = self._end() - steps, time.perf_counter() - begin
        check()
        return Pace(in_flight, round(steps / took, 1), -1.0)

    def _wait_for(self, end: int, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + _BEGIN_S
        while self._end() < end:
            check()
            if time.monotonic() > deadline:
                raise NoProgress(
                    f"{self._where[0].topic}: no three steps of each lifetime within {_BEGIN_S:.0f} s"
                )
            time.sleep(0.05)

    def _probe(self, in_flight: int, seconds: float, check: Callable[[], None]) -> Pace:
        """Read every result: the time between two results of one partition's one lifetime is a step."""
        reader = self._log.reader()
        last: dict[int, int] = {}
        gaps: list[int] = []
        begin = time.monotonic()
        count = 0
        try:
            reader.assign({where: end for where, (_, end) in self._log.offsets(self._where).items()})
            while time.monotonic() - begin < seconds:
                for record in reader.poll(0.05):
                    now, count = time.monotonic_ns(), count + 1
                    if record.partition in last:
                        gaps.append(now - last[record.partition])
                    last[record.partition] = now
        finally:
            reader.close()
        check()
        p50_ms = percentile(as_nanos(gaps), 50) / 1e6
        return Pace(in_flight, round(count / (time.monotonic() - begin), 1), round(p50_ms, 3))
