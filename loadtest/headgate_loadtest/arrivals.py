"""When runs are asked for, and for whom: fixed before the first one, so that no reply slows the load down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headgate_loadtest.scenario import MAX_LIFETIMES, Scenario, Tenants

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrivals:
    """The whole plan of a load: one entry for each run, in order of time."""

    at_ns: Times
    """Intended moments, in nanoseconds after the begin."""
    tenant: npt.NDArray[np.int32]
    """Number of the tenant of each, from 0."""

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self.at_ns)


def plan_arrivals(scenario: Scenario) -> Arrivals:
    """Return the arrivals of a scenario; the same scenario, the same arrivals."""
    random = np.random.default_rng(scenario.seed)
    at_ns = _recorded(scenario) if scenario.at_ms else _drawn(scenario, random)
    share = shares(scenario.tenants)
    tenant = random.choice(len(share), size=len(at_ns), p=share).astype(np.int32)
    return Arrivals(at_ns, tenant)


def shares(tenants: Tenants) -> npt.NDArray[np.float64]:
    """Return each tenant's share of the runs; they sum up to 1."""
    rank = np.arange(1, tenants.count + 1, dtype=np.float64)
    weight = rank**-tenants.exponent if tenants.spread == "zipf" else np.ones_like(rank)
    weight[0] *= tenants.noisy_factor
    return np.asarray(weight / weight.sum())


def _recorded(scenario: Scenario) -> Times:
    return np.sort(np.asarray(scenario.at_ms, dtype=np.int64)) * 1_000_000


def _drawn(scenario: Scenario, random: np.random.Generator) -> Times:
    rate, end_s = scenario.offered_rate, scenario.duration_ms / 1000
    if scenario.arrivals == "constant":
        return (np.arange(max(1, int(rate * end_s)), dtype=np.float64) / rate * 1e9).astype(np.int64)
    # Given how many come in a Poisson process, when they come is uniform.
    count = min(max(1, int(random.poisson(rate * end_s))), MAX_LIFETIMES)
    return np.sort(random.uniform(0, end_s * 1e9, count)).astype(np.int64)
