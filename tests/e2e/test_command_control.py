"""Orders, freezes, people and budgets by command, with a gate and workers as processes of their own."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headgate import orders
from headgate.client import Client
from headgate.command.answers import answer_or_refuse
from headgate.settings import open_settings
from headgate_graphs.errors import UserError
from tests.e2e.command_line import Process, answer, headgate, running
from tests.e2e.test_command_processes import HUMAN
from tests.support import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
DAY = "day-dollars, scope: tenant, limit: {cost_usd: 5}"
TIGHT_DAY = "day-dollars, scope: tenant, limit: {cost_usd: 0.011}"
"""Room for the hold of the first visit ($0.01) and the spend of one visit ($0.0006), not for both."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """A directory with the demo project and the human graph, a gate and both workers."""
    assert headgate("init", "demo", cwd=tmp_path).returncode == 0
    (tmp_path / "approval.yaml").write_text(HUMAN)
    with ExitStack() as stack:
        for arguments in (("gate",), ("worker", "task", "demo"), ("worker", "plan", "demo")):
            stack.enter_context(running(*arguments, cwd=tmp_path))
        said = answer("graph", "register", "demo", cwd=tmp_path)
        assert (said["answered"], said["gates"]) == (True, 1)
        yield tmp_path


def status_is(where: Path, lifetime: str, *wanted: str) -> Any:
    def reached() -> Any:
        said = answer("status", lifetime, cwd=where)
        return said if said["status"] in wanted else None

    return eventually(reached, 30, 0.1)


def policy(where: Path, old: str, new: str, version: int) -> str:
    text = (where / "demo/policy.yaml").read_text().replace(old, new)
    name = f"policy-{version}.yaml"
    (where / name).write_text(text.replace("version: 1}", f"version: {version}}}"))
    return name


@pytest.mark.timeout(180)
def test_raising_a_tenants_budget_is_one_command_and_every_lifetime_goes_on(served: Path) -> None:
    answer("policy", "apply", policy(served, DAY, TIGHT_DAY, 2), cwd=served)
    for name in ("one", "two"):
        answer("start", "demo", "--lifetime", name, cwd=served)
    said = status_is(served, "one", "paused")
    assert said["view"]["violations"][0]["rule"] == "day-dollars"
    status_is(served, "two", "paused")
    standing = answer("policy", "explain", "one", cwd=served)
    [day] = [one for one in standing if one["rule"] == "day-dollars"]
    assert (day["limit"], day["next"].startswith("has paused it")) == (11_000_000, True)
    overview = headgate("status", cwd=served).stdout
    assert "2 paused" in overview
    raised = ("control", "raise-budget", "--whole-tenant", "--policy", "demo", "--rule", "day-dollars")
    done = answer(*raised, "--value", "1", cwd=served)
    assert (done["answered"], done["events"].count("RESUME_LIFETIME")) == (True, 2)
    for name in ("one", "two"):
        status_is(served, name, "completed")
    assert answer("policy", "explain", "one", cwd=served)[2]["raised"]


@pytest.mark.timeout(180)
def test_everything_is_frozen_within_a_second_and_goes_on_where_it_was(served: Path) -> None:
    began = time.monotonic()
    done = answer("control", "pause", "--everything", "--reason", "what is this?", cwd=served)
    assert (done["answered"], done["events"]) == (True, ["PAUSE_LIFETIME"])
    assert time.monotonic() - began < 10  # most of it is this process coming up
    assert answer("control", "pause", "--everything", cwd=served)["events"] == []
    answer("start", "demo", "--lifetime", "one", cwd=served)
    status_is(served, "one", "running")
    shown = headgate("status", "one", cwd=served).stdout
    assert "frozen: everything of the tenant: what is this?" in shown
    assert [one["reason"] for one in answer("status", cwd=served)["frozen"]] == ["what is this?"]
    assert answer("status", "one", cwd=served)["executions"] == []
    assert "nothing to do" in headgate("control", "resume", "--graph", "demo", cwd=served).stdout
    answer("control", "resume", "--everything", cwd=served)
    status_is(served, "one", "completed")
    rows = answer("timeline", "one", cwd=served)
    assert [(row["status"], row["why"]) for row in rows if row["what"] == "control"][-1:] == [
        ("RESUME_LIFETIME", "everything of the tenant: resumed by an operator")
    ]


@pytest.mark.timeout(180)
def test_who_is_waited_for_is_listed_with_the_command_that_answers(served: Path) -> None:
    answer("graph", "register", "approval.yaml", cwd=served)
    answer("start", "approval", "--lifetime", "one", "--input", "ship it?", cwd=served)
    [waiting] = eventually(lambda: answer("list", "--waiting", cwd=served), 30, 0.1)
    assert (waiting["lifetime_id"], waiting["node_id"], waiting["json_input"]) == ("one", "ask", '"ship it?"')
    lines = headgate("list", "--waiting", cwd=served).stdout.splitlines()
    assert "ship it?" in lines[0]
    assert lines[1].strip() == waiting["answer_with"]
    assert "waits for a person at ask" in headgate("status", cwd=served).stdout
    assert headgate(*waiting["answer_with"].split()[1:], cwd=served).returncode == 0
    status_is(served, "one", "completed")
    assert answer("list", "--waiting", cwd=served) == []


@pytest.mark.timeout(180)
def test_an_old_policy_is_put_in_force_again(served: Path) -> None:
    answer("policy", "apply", "demo/policy.yaml", cwd=served)
    answer("policy", "apply", policy(served, "tokens_used: 2000", "tokens_used: 150", 2), cwd=served)
    done = answer("policy", "rollback", "demo", "--to", "1", cwd=served)
    assert (done["applied"], done["answered"]) == (True, True)
    versions = answer("policy", "list", cwd=served)
    assert [(one["version"], one["in_force"]) for one in versions] == [(1, True), (2, False)]
    answer("start", "demo", "--lifetime", "one", cwd=served)
    status_is(served, "one", "completed")


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Variables that mean a log of this test's own."""
    there = {"HEADGATE_LOCAL": str(tmp_path / "log"), "HEADGATE_PARTITIONS": "2"}
    there |= {"HEADGATE_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}"}
    if request.param == "kafka":
        there |= {"HEADGATE_KAFKA": request.getfixturevalue("kafka_bootstrap")}
    return there


@pytest.mark.timeout(120)
def test_what_a_gate_refuses_is_told(
    tmp_path: Path, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with running("gate", cwd=tmp_path, **place), Client.open(open_settings({})) as client:
        eventually(lambda: client.running()["gates"] == 1, 30)
        order = orders.pause("odd")
        delivery = client.order("default", "nobody", order)
        with pytest.raises(UserError, match="the gate refused pause of nobody: UNKNOWN_LIFETIME"):
            answer_or_refuse(client, "default", delivery, "pause of nobody", order.command_id)
        order = orders.pause("odd")
        delivery = client.order("default", "", order)
        said = answer_or_refuse(client, "default", delivery, "pause of everything", order.command_id)
        assert (said.is_read, [one.reason for one in said.events]) == (True, ["odd"])
    headgate("status", cwd=tmp_path, **place)
    said_again = answer("control", "resume", "--everything", cwd=tmp_path, code=0, **place)
    assert not said_again["answered"]


@pytest.mark.timeout(180)
def test_a_run_with_sub_graphs_shows_what_happens_below(tmp_path: Path) -> None:
    example = EXAMPLES / "map_reduce"
    answer("graph", "register", str(example / "shard.yaml"), cwd=tmp_path)
    done = headgate("run", str(example / "subgraphs.yaml"), "--lifetime", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  sub-graph count-shard 1.0.0 sub-" in done.stdout
    [row] = [line for line in done.stdout.splitlines() if line.startswith(" sub-graph count-shard")]
    assert row.split()[2:4] == ["4", "4"]
    rows = answer("timeline", "one", cwd=tmp_path)
    assert [row["depth"] for row in rows if row["node"] == "count" and row["what"] == "task"] == [1] * 4
    said = answer("status", "one", cwd=tmp_path)
    assert {one["parent_lifetime_id"] for one in said["below"]} == {"one"}
    child = said["below"][0]["lifetime_id"]
    assert "sub-graph of one" in headgate("status", child, cwd=tmp_path).stdout
    assert answer("status", cwd=tmp_path)["sub_graphs"] == 4


@pytest.mark.timeout(120)
def test_a_gate_that_loses_its_log_tries_again_and_then_ends_with_1(tmp_path: Path) -> None:
    gate = Process(("gate", "--retry-for", "2"), tmp_path, {})
    gate.wait_ready()
    log = tmp_path / ".headgate/log.sqlite3"
    for path in log.parent.glob("log.sqlite3*"):
        size = path.stat().st_size
        with path.open("r+b") as damaged:
            damaged.write(os.urandom(min(size, 1 << 20)))
    assert gate.process.wait(60) == 1, gate.lines
    gate.stop()
    assert "the log was lost" in gate.lines[-1]
    assert "Traceback" not in "".join(gate.lines)
