"""One tenant asks for twenty times its share: what the others notice of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import percentile, unpacked
from headgate_loadtest.scenario import Scenario, altered

FACTOR = 20.0


@dataclass
class Fairness:
    """The same load twice."""

    calm: LoadResult
    noisy: LoadResult

    def others_p99_ms(self, result: LoadResult) -> float:
        """Return the worst p99 of a tenant that is not the noisy one."""
        others = list(result.tenants.values())[1:] or list(result.tenants.values())
        return max((one.p99_ms for one in others), default=-1.0)

    @property
    def ratio(self) -> float:
        """The others' worst p99 beside the noisy tenant, over the same without it."""
        return self.others_p99_ms(self.noisy) / max(1e-9, self.others_p99_ms(self.calm))


def measure_fairness(scenario: Scenario, run: Callable[[Scenario], LoadResult], factor: float) -> Fairness:
    """Return how a load goes without and with a first tenant that asks for `factor` times its share."""
    calm = run(altered(scenario, name=f"{scenario.name}-calm", tenants={"noisy_factor": 1.0}))
    noisy = run(altered(scenario, name=f"{scenario.name}-noisy", tenants={"noisy_factor": factor}))
    return Fairness(calm, noisy)


def p99_of(result: LoadResult, name: str) -> float:
    """Return the exact p99 in ms of the raw samples of a name."""
    return percentile(unpacked(result.samples[name]), 99) / 1e6
