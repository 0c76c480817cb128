"""A scenario that was made from a log asks for runs as that log did, and loads like one written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headgate_graphs.errors import UserError
from headgate_loadtest.arrivals import plan_arrivals
from headgate_loadtest.load import Bounds, run_load
from headgate_loadtest.recording import record
from headgate_loadtest.scenario import load_scenario
from tests.unit.loadtest.serving import answering
from tests.unit.loadtest.test_load import SHORT


def test_a_recorded_load_has_the_arrivals_of_the_log_ten_times_as_fast(tmp_path: Path) -> None:
    with answering() as (installation, serving):
        run_load(installation, serving, SHORT, Bounds(10))
        made = record(installation, speed=10.0)
    (tmp_path / "recorded.yaml").write_text(yaml.safe_dump(made))
    scenario = load_scenario(tmp_path / "recorded.yaml")
    arrivals = plan_arrivals(scenario)
    assert len(arrivals) == 150
    assert scenario.tenants.count == 2
    # The log has seen them over 1.5 s or more; ten times as fast they take a tenth.
    assert 0.1 <= arrivals.at_ns[-1] / 1e9 <= 1.0


def test_a_log_without_runs_makes_no_scenario() -> None:
    with answering() as (installation, _), pytest.raises(UserError, match="no run was ever asked for"):
        record(installation, speed=1.0)
