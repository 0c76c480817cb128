"""Scenarios are read strictly, are bounded, and become graphs and policies that the gate takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate_graphs.checks import faults
from headgate_loadtest.agent.graph import load_graph, ten_rules
from headgate_loadtest.agent.handlers import step_ms
from headgate_loadtest.alive import alive_at_once
from headgate_loadtest.scenario import Scenario, ScenarioInvalid, altered, load_scenario

GOOD = """\
apiVersion: headgate/v1
kind: LoadScenario
name: evening
rate: 40
duration: 30s
tenants: {count: 3, spread: zipf}
work:
  rounds: 4
  fan_out: 3
  step_time: {kind: lognormal, ms: 20.0}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


def test_a_scenario_is_read_with_its_units(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, GOOD))
    assert (scenario.rate, scenario.duration_ms, scenario.work.rounds) == (40, 30_000, 4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("rate: 40", "rate: -1"),
        ("rate: 40", "rate: quick"),
        ("duration: 30s", "duration: 30 parsecs"),
        ("rounds: 4", "round: 4"),
        ("kind: LoadScenario", "kind: AgentGraph"),
        ("kind: lognormal", "kind: normal"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, changed: str, said: str) -> None:
    with pytest.raises(ScenarioInvalid, match=r"scenario\.yaml:\d+:\d+"):
        load_scenario(written(tmp_path, GOOD.replace(changed, said)))


def test_a_load_is_bounded_in_count() -> None:
    with pytest.raises(ScenarioInvalid, match="the most is"):
        altered(Scenario(), rate=100_000.0, duration="1d")


def test_a_scenario_that_is_altered_keeps_its_units() -> None:
    once = altered(Scenario(), duration="4s")
    assert once.duration_ms == 4_000
    assert altered(once, seed=7).duration_ms == 4_000
    assert altered(once, work={"rounds": 2}).work.payload_bytes == once.work.payload_bytes


@pytest.mark.parametrize("fan_out", [1, 2, 16])
@pytest.mark.parametrize("leased", [False, True])
def test_the_graph_of_a_scenario_is_sound(fan_out: int, leased: bool) -> None:
    graph = load_graph(altered(Scenario(), work={"fan_out": fan_out, "leased": leased}), "acme")
    assert faults(graph) == []


def test_ten_rules_are_ten() -> None:
    assert len(ten_rules().rules) == 10


@pytest.mark.parametrize("kind", ["fixed", "lognormal", "heavy"])
def test_step_times_come_from_the_seed_and_have_the_median(kind: str) -> None:
    data = {"kind": kind, "ms": 40.0, "sigma": 0.5, "alpha": 1.5, "seed": 3}
    drawn = sorted(step_ms(data, f"e{number}") for number in range(2_001))
    assert drawn == sorted(step_ms(data, f"e{number}") for number in range(2_001))
    assert drawn[1_000] == pytest.approx(40, rel=0.1)
    assert drawn[-1] <= 4_000


def test_runs_that_shall_be_alive_at_once_outlast_their_arrivals() -> None:
    scenario = alive_at_once(Scenario(), 10_000)
    assert scenario.rate * scenario.duration_ms / 1000 == pytest.approx(10_000)
    work = scenario.work
    assert (work.step_time.ms, work.plan_time.ms) == (5_000, 5_000)
    assert work.rounds * (work.step_time.ms + work.plan_time.ms) >= scenario.duration_ms + 10_000


def test_a_scenario_that_says_how_long_a_step_takes_is_heard() -> None:
    given = altered(Scenario(), work={"step_time": {"kind": "lognormal", "ms": 2_000.0}})
    work = alive_at_once(given, 100).work
    assert (work.step_time.kind, work.plan_time.kind) == ("lognormal", "none")
    assert work.rounds * 2_000 >= 24_000
