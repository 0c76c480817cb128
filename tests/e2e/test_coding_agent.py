"""The coding agent, run as a newcomer runs it: by the command, on the embedded log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate_streams.settings import StreamSettings
from tests.e2e.ledger import tokens_over_time
from tests.e2e.running import EXAMPLE, POLICIES, ModelServer, Place, model_server, own_tests_pass
from tests.support import eventually

ALL_CALLS = ["plan", "first patch", "second patch"]
CAP = 11_000
"""Tokens that the tight policies allow."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def model(place: Place):
    with model_server() as server:
        place.env["OPENAI_BASE_URL"] = f"{server.url}/v1"
        yield server


def run(place: Place, policy: str, *more: str):
    return place.headgate(
        "run", EXAMPLE, "--policy", POLICIES / f"{policy}.yaml", "--input", place.input(), "--json", *more
    )


def most_reserved(place: Place, lifetime_id: str) -> int:
    """Return the most tokens that were settled and held together at any moment."""
    settings = StreamSettings(local=place.work / "log")
    return max(settled + held for settled, held in tokens_over_time(settings, lifetime_id))


def test_it_repairs_the_shipped_repository_with_a_real_loop(place: Place, model: ModelServer) -> None:
    assert not own_tests_pass(str(EXAMPLE / "repo"))
    answer = run(place, "generous")
    assert answer.code == 0, answer.err
    ended = answer.json
    assert ended["outcome"]["rounds"] == 2
    assert ended["outcome"]["model"] == "recorded/gpt-4.1-mini"
    assert own_tests_pass(ended["outcome"]["directory"])
    assert not own_tests_pass(ended["outcome"]["directory"].replace("round-2", "round-1"))
    assert not own_tests_pass(str(EXAMPLE / "repo"))
    assert model.calls == ALL_CALLS


def test_it_shows_what_each_node_spent(place: Place, model: ModelServer) -> None:
    spent = run(place, "generous").json["nodes"]
    tokens = {node: one["tokens_used"] for node, one in spent.items() if one["tokens_used"]}
    assert tokens == {"plan_work": 356, "propose_patch": 1556 + 2292}
    assert spent["plan_work"]["cost_nano_usd"] == 312 * 400 + 44 * 1600


def test_without_an_endpoint_it_says_that_the_answers_are_recorded(place: Place) -> None:
    answer = run(place, "generous")
    assert answer.code == 0, answer.err
    assert "RECORDED ANSWERS" in answer.err


def test_a_tight_policy_aborts_it_before_the_cap_is_passed(place: Place, model: ModelServer) -> None:
    answer = run(place, "tight")
    assert answer.code == 3, answer.err
    (broken,) = answer.json["violations"]
    assert broken["rule"] == "run-tokens"
    assert int(broken["measured"]) > int(broken["limit"]) == CAP
    assert model.calls == ALL_CALLS[:2]
    assert most_reserved(place, answer.json["lifetime_id"]) <= CAP


def test_people_are_told_the_rule_the_measured_value_and_the_limit(place: Place, model: ModelServer) -> None:
    answer = place.headgate("run", EXAMPLE, "--policy", POLICIES / "tight.yaml", "--input", place.input())
    assert answer.code == 3
    assert "run-tokens" in answer.out
    assert "11,912" in answer.out
    assert "11,000" in answer.out


def test_a_paused_run_goes_on_when_its_budget_is_raised_and_repeats_no_call(
    place: Place, model: ModelServer
) -> None:
    paused = run(place, "tight-pause")
    assert paused.code == 4, paused.err
    lifetime = paused.json["lifetime_id"]
    assert model.calls == ALL_CALLS[:2]
    assert most_reserved(place, lifetime) <= CAP
    raised = place.headgate(
        *("control", "raise-budget", lifetime, "--policy", "coding-agent", "--rule", "run-tokens"),
        *("--metric", "tokens_used", "--value", "30000"),
    )
    assert raised.code == 0, raised.err
    assert place.headgate("control", "resume", lifetime).code == 0
    ended = run(place, "tight-pause", "--lifetime", lifetime)
    assert ended.code == 0, ended.err
    assert own_tests_pass(ended.json["outcome"]["directory"])
    assert model.calls == ALL_CALLS


@pytest.mark.parametrize(("said", "code"), [("--approve", 0), ("--reject", 5)])
def test_a_person_has_the_last_word_when_asked_for(
    place: Place, model: ModelServer, said: str, code: int
) -> None:
    arguments = ("run", EXAMPLE, "--input", place.input(approve=True), "--lifetime", "asked", "--json")
    with place.spawn(*arguments) as process:
        eventually(lambda: len(model.calls) == 3, timeout_s=90)
        eventually(lambda: place.headgate("control", "complete", "asked", said).code == 0, timeout_s=60)
        assert process.wait() == code, process.output


def test_it_works_on_a_repository_and_an_issue_that_the_user_names(
    place: Place, model: ModelServer, tmp_path: Path
) -> None:
    repo = tmp_path / "mine"
    (repo / "tally").mkdir(parents=True)
    source = (EXAMPLE / "repo/tally/split.py").read_text()
    (repo / "tally/split.py").write_text(source)
    (repo / "test_mine.py").write_text(
        "from tally.split import split_evenly\n\n"
        "def test_mine():\n    assert split_evenly(11, 3) == [4, 4, 3]\n"
    )
    given = place.input(repo=str(repo), issue="In my copy too: A shared bill loses cents")
    answer = place.headgate("run", EXAMPLE, "--input", given, "--json")
    assert answer.code == 0, answer.err
    assert own_tests_pass(answer.json["outcome"]["directory"])
    assert (repo / "tally/split.py").read_text() == source


def test_an_issue_that_was_never_recorded_fails_with_a_line_that_says_what_to_do(
    place: Place, model: ModelServer
) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", place.input(issue="something else"), "--json")
    assert answer.code == 5
    assert "a real endpoint is needed" in json.dumps(answer.json)


def test_rounds_are_bounded(place: Place, model: ModelServer) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", place.input(max_rounds=1), "--json")
    assert answer.code == 5
    assert "none of 1 patches passed the tests" in answer.json["reason"]
