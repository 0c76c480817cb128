"""Arrivals are fixed by the seed, at the planned rate, and shared out as the scenario says."""

from __future__ import annotations

import numpy as np
import pytest

from headgate_loadtest.arrivals import plan_arrivals, shares
from headgate_loadtest.scenario import Scenario, Tenants, altered

BASE = altered(Scenario(), rate=200.0, duration="50s")


@pytest.mark.parametrize("kind", ["poisson", "constant"])
def test_the_same_seed_gives_the_same_arrivals_and_another_one_others(kind: str) -> None:
    scenario = altered(BASE, arrivals=kind)
    first, again = plan_arrivals(scenario), plan_arrivals(scenario)
    assert np.array_equal(first.at_ns, again.at_ns)
    assert np.array_equal(first.tenant, again.tenant)
    assert not np.array_equal(first.tenant, plan_arrivals(altered(scenario, seed=2)).tenant[: len(first)])


@pytest.mark.parametrize("kind", ["poisson", "constant"])
def test_arrivals_come_in_order_within_the_duration_at_the_rate(kind: str) -> None:
    at_ns = plan_arrivals(altered(BASE, arrivals=kind)).at_ns
    assert (np.diff(at_ns) >= 0).all()
    assert at_ns[0] >= 0
    assert at_ns[-1] < 50e9
    assert len(at_ns) == pytest.approx(10_000, rel=0.05)


def test_poisson_gaps_vary_as_much_as_they_are_long_and_constant_ones_do_not_vary() -> None:
    gaps = np.diff(plan_arrivals(BASE).at_ns) / 1e9
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    even = np.diff(plan_arrivals(altered(BASE, arrivals="constant")).at_ns)
    assert even.max() - even.min() <= 2


def test_zipf_gives_the_first_tenant_twice_the_second() -> None:
    share = shares(Tenants(count=10, spread="zipf"))
    assert share.sum() == pytest.approx(1)
    assert share[0] == pytest.approx(2 * share[1])
    drawn = np.bincount(plan_arrivals(altered(BASE, tenants={"count": 10, "spread": "zipf"})).tenant)
    assert drawn[0] == pytest.approx(share[0] * drawn.sum(), rel=0.1)


def test_a_noisy_tenant_comes_on_top_of_what_the_others_ask_for() -> None:
    calm = np.bincount(plan_arrivals(altered(BASE, tenants={"count": 4})).tenant)
    noisy = np.bincount(plan_arrivals(altered(BASE, tenants={"count": 4, "noisy_factor": 20.0})).tenant)
    assert noisy[0] == pytest.approx(20 * calm[0], rel=0.1)
    assert noisy[1:].sum() == pytest.approx(calm[1:].sum(), rel=0.1)


def test_recorded_arrivals_are_taken_as_they_are() -> None:
    recorded = altered(Scenario(), at=["1s", "0s", "250ms"])
    assert plan_arrivals(recorded).at_ns.tolist() == [0, 250_000_000, 1_000_000_000]
