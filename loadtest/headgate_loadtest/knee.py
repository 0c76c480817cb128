"""Finds the highest rate that is still served in time: doubles until it is not, then bisects to 5 %."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from headgate_loadtest.load import Progress
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import Nanos, percentile, unpacked
from headgate_loadtest.scenario import Scenario, altered

CLOSE = 1.05
"""The search ends when the rates that held and did not are this close."""
_MOST_TRIALS = 40
_GROWTH = 0.05
"""How much the response time may grow while runs are asked for, as a share of that time: what is asked for
above what is served waits, and whoever comes later waits longer. A short trial of a rate that is a fifth too
high ends before anybody waits for a second, so the p99 alone would let it pass."""


@dataclass(frozen=True)
class Search:
    """How the knee is looked for."""

    p99_ms: float = 1_000.0
    """A rate at which the p99 of the response time is above this does not hold."""
    trial_s: float = 8.0
    """How long each rate is tried."""
    repeats: int = 3
    """The knee is the median of so many searches."""


@dataclass
class Trial:
    """One rate that was tried."""

    rate: float
    held: bool
    result: LoadResult


@dataclass
class Knee:
    """What was found."""

    rates: list[float] = field(default_factory=list)
    """The knee of each search, in runs a second."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median of the searches, in runs a second; 0 when no rate held."""
        return statistics.median(self.rates) if self.rates else 0.0


def find_knee(
    scenario: Scenario, search: Search, try_load: Callable[[Scenario], LoadResult], progress: Progress
) -> Knee:
    """Return the knee; `try_load` runs one load. The scenario's rate is where the doubling begins."""
    knee = Knee()
    for number in range(search.repeats):
        rate = _search(scenario, search, try_load, knee, progress)
        knee.rates.append(round(rate, 2))
        progress(f"knee {number + 1} of {search.repeats}: {rate:,.1f} runs/s")
    return knee


def _search(
    scenario: Scenario,
    search: Search,
    try_load: Callable[[Scenario], LoadResult],
    knee: Knee,
    progress: Progress,
) -> float:
    low, high, rate = 0.0, 0.0, scenario.rate
    for _ in range(_MOST_TRIALS):
        tried = altered(scenario, rate=rate, duration=f"{round(search.trial_s * 1000)}ms", at=())
        result = try_load(tried)
        trial = Trial(rate, holds(result, search), result)
        knee.trials.append(trial)
        said = f"p99 {result.response.p99_ms:,.0f} ms, {'held' if trial.held else 'not held'}"
        progress(f"{rate:,.1f} runs/s ({result.steps_per_s:,.0f} steps/s): {said}")
        low, high = (rate, high) if trial.held else (low, rate)
        if high and low and high / low <= CLOSE:
            break
        if not low and rate < 0.05:
            break
        rate = rate * 2 if not high else (low + high) / 2 if low else rate / 2
    return low


def holds(result: LoadResult, search: Search) -> bool:
    """Whether runs were served as fast as they were asked for, in time, and nothing else was wrong."""
    if result.faults or not result.asked:
        return False
    if result.response.p99_ms > search.p99_ms:
        return False
    planned_s = result.asked / max(result.offered_rate, 1e-9)
    return growth_s(unpacked(result.samples["response"])) <= _GROWTH * planned_s


def growth_s(response: Nanos) -> float:
    """Return how much longer the last fifth of the runs took than the first, in seconds, by medians."""
    fifth = max(1, len(response) // 5)
    first, last = (percentile(part, 50) for part in (response[:fifth], response[-fifth:]))
    return (last - first) / 1e9
