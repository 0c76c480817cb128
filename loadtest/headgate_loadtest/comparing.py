"""Two loads side by side: what was measured before, or both in turn, A B A B, so that drift hits both."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from headgate_loadtest.result import LoadResult

Figure = Callable[[LoadResult], float]
FIGURES: dict[str, Figure] = {
    "steps/s": lambda one: one.steps_per_s,
    "response p50 ms": lambda one: one.response.p50_ms,
    "response p99 ms": lambda one: one.response.p99_ms,
    "planner loop p50 ms": lambda one: one.loop.p50_ms,
    "planner loop p99 ms": lambda one: one.loop.p99_ms,
    "lost": lambda one: float(one.lost_count),
}


def compare(a: Sequence[LoadResult], b: Sequence[LoadResult]) -> list[tuple[str, float, float, float]]:
    """Return (figure, median of A, median of B, B over A) for each figure; the ratio is 0 when A's is."""
    rows = []
    for name, figure in FIGURES.items():
        left, right = (statistics.median(figure(one) for one in results) for results in (a, b))
        rows.append((name, left, right, round(right / left, 3) if left else 0.0))
    return rows


def in_turn(
    run_a: Callable[[], LoadResult], run_b: Callable[[], LoadResult], repeats: int
) -> tuple[list[LoadResult], list[LoadResult]]:
    """Return the results of A and of B, run A B A B."""
    a, b = [], []
    for _ in range(repeats):
        a.append(run_a())
        b.append(run_b())
    return a, b
