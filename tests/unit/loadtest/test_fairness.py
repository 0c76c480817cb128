"""Fairness compares everybody but the noisy tenant, in turns, by medians."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headgate_graphs.errors import UserError
from headgate_loadtest.fairness import measure_fairness
from headgate_loadtest.result import LoadResult
from headgate_loadtest.samples import packed, unpacked
from headgate_loadtest.scenario import Scenario, altered
from tests.unit.loadtest.test_load import load


@pytest.fixture(scope="module")
def measured() -> LoadResult:
    return load()


def test_the_others_are_all_but_the_first_tenant(measured: LoadResult) -> None:
    first = measured.tenants["load-0000"].count
    assert len(unpacked(measured.samples["others"])) == measured.asked - first > 0


def test_calm_and_noisy_take_turns_and_one_disturbed_repeat_decides_nothing(measured: LoadResult) -> None:
    order: list[tuple[str, float]] = []
    others_ms = iter([100, 150, 100, 9_000, 100, 160])

    def run(scenario: Scenario) -> LoadResult:
        order.append((scenario.name, scenario.tenants.noisy_factor))
        others = packed(np.full(50, next(others_ms) * 1_000_000, dtype=np.int64))
        return replace(measured, samples={**measured.samples, "others": others})

    found = measure_fairness(altered(Scenario(), name="f"), run, 20.0)
    assert order == [
        (f"f-{name}-{n}", factor) for n in (1, 2, 3) for name, factor in (("calm", 1.0), ("noisy", 20.0))
    ]
    assert found.ratio == pytest.approx(1.6)
    assert len(found.results) == 6


def test_fairness_without_others_is_refused() -> None:
    with pytest.raises(UserError, match="two or more"):
        measure_fairness(altered(Scenario(), tenants={"count": 1}), pytest.fail, 20.0)  # type: ignore[arg-type]
