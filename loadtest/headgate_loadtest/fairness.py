"""One tenant asks for twenty times its share: what the others notice of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headgate_graphs.errors import UserError
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import percentile, unpacked
from headgate_loadtest.scenario import Scenario, altered

FACTOR = 20.0
REPEATS = 3


@dataclass
class Fairness:
    """The same load without and with the noisy tenant, in turn, as often as it was repeated."""

    calm: list[LoadResult] = field(default_factory=list)
    noisy: list[LoadResult] = field(default_factory=list)

    @property
    def results(self) -> list[LoadResult]:
        """All loads, in the order in which they were run."""
        return [one for pair in zip(self.calm, self.noisy, strict=True) for one in pair]

    @property
    def ratio(self) -> float:
        """The others' p99 beside the noisy tenant, over the same without it; medians of the repeats.

        Of all runs of all others together: one tenant in a hundred that is harmed shows, and so few runs as
        one tenant has in a short load would only show their maximum.
        """
        return others_p99_ms(self.noisy) / max(1e-9, others_p99_ms(self.calm))


def others_p99_ms(results: Sequence[LoadResult]) -> float:
    """Return the p99 of everybody but the first tenant, in ms; the median of the results."""
    return statistics.median(percentile(unpacked(one.samples["others"]), 99) / 1e6 for one in results)


def measure_fairness(
    scenario: Scenario, run: Callable[[Scenario], LoadResult], factor: float, repeats: int = REPEATS
) -> Fairness:
    """Return how a load goes without and with a first tenant that asks for `factor` times its share.

    Raises UserError when there is nobody beside that tenant.
    """
    if scenario.tenants.count < 2:
        raise UserError("fairness is between tenants: ask for two or more with --tenants")
    found = Fairness()
    for number in range(repeats):
        for into, name, times in ((found.calm, "calm", 1.0), (found.noisy, "noisy", factor)):
            named = f"{scenario.name}-{name}-{number + 1}"
            seed = scenario.seed + number
            into.append(run(altered(scenario, name=named, seed=seed, tenants={"noisy_factor": times})))
    return found
