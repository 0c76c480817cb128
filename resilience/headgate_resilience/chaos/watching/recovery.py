"""How long the longest stall was in a stretch of time, and what the steps were like; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from headgate_resilience.chaos.watching.timeline import Lag

_DISORDER_MS: Final = 60_000
"""Partitions are read independently of each other: how much newer lags may stand before older ones."""


@dataclass(frozen=True)
class Stall:
    """The longest wait of anything in a stretch of time."""

    seconds: float
    where: str


def longest_stall(lags: Sequence[Lag], from_ms: float, until_ms: float) -> Stall:
    """Return how long, from `from_ms` on, the slowest in each partition waited, and where that was.

    What was asked before `from_ms` is counted from then on: with a kill as the beginning it is the time from
    the kill until the affected partition's last waiting record went on.
    """
    recent = takewhile(lambda lag: lag.until_ms > from_ms - _DISORDER_MS, reversed(lags))
    waits = (
        (lag.until_ms - max(from_ms, lag.from_ms), lag.place)
        for lag in recent
        if from_ms <= lag.until_ms <= until_ms
    )
    longest = max(waits, default=None)
    if longest is None:
        return Stall(0.0, "nothing happened")
    return Stall(longest[0] / 1000, f"{longest[1].topic}[{longest[1].partition}]")


@dataclass(frozen=True)
class Second:
    """The steps of one second."""

    at_s: float
    steps: int
    p50_ms: float
    p99_ms: float


def seconds(steps: Iterable[tuple[int, int]], began_ms: float, width_s: float = 1.0) -> list[Second]:
    """Return the steps of each second since `began_ms`, those without any too."""
    buckets: dict[int, list[int]] = {}
    for at_ms, took_ms in steps:
        buckets.setdefault(int((at_ms - began_ms) / 1000 / width_s), []).append(took_ms)
    if not buckets:
        return []
    return [_second(n * width_s, buckets.get(n, []), width_s) for n in range(max(buckets) + 1)]


def _second(at_s: float, took_ms: list[int], width_s: float) -> Second:
    took_ms.sort()
    return Second(at_s, round(len(took_ms) / width_s), quantile(took_ms, 0.5), quantile(took_ms, 0.99))


def quantile(ordered: Sequence[int], share: float) -> float:
    """Return the value below which this share of an ordered sequence lies; 0 for an empty one."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))]) if ordered else 0.0
