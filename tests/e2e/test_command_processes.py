"""Gate and workers as processes of their own, on the embedded log and on Kafka."""

from __future__ import annotations

import json
import signal
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.command_line import answer, headgate, running
from tests.support import eventually, free_port

HUMAN = """apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: approval, version: 1.0.0}
entry: ask
tasks:
  - {id: ask, type: human}
plans:
  - id: decide
    type: rules
    config: {default: [end]}
edges:
  - {from: ask, to: decide}
  - {from: decide, to: end, type: final}
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    assert headgate("init", "demo", cwd=tmp_path).returncode == 0
    return tmp_path


def test_separate_processes_share_a_local_log_and_stop_when_asked(demo: Path) -> None:
    with (
        running("gate", cwd=demo) as gate,
        running("worker", "task", "demo", cwd=demo) as task,
        running("worker", "plan", "demo", "--json", cwd=demo) as plan,
    ):
        answer("graph", "register", "demo", cwd=demo)
        answer("start", "demo", "--lifetime", "one", "--input", '{"topic": "logs"}', cwd=demo)
        eventually(lambda: answer("status", "one", cwd=demo)["status"] == "completed", 30, 0.2)
        codes = [gate.stop(), task.stop(signal.SIGINT), plan.stop()]
    assert codes == [0, 0, 0], gate.lines + task.lines + plan.lines
    assert len(gate.lines) == len(task.lines) == len(plan.lines) == 1
    assert json.loads(plan.lines[0])["ready"] == "plan-worker"


def test_a_person_answers_from_another_process(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(HUMAN)
    with running("gate", cwd=tmp_path), running("worker", "plan", cwd=tmp_path):
        answer("graph", "register", ".", cwd=tmp_path)
        answer("start", "approval", "--lifetime", "one", "--input", "ship it?", cwd=tmp_path)
        eventually(lambda: answer("status", "one", cwd=tmp_path)["view"].get("waiting"), 30, 0.2)
        status = headgate("status", "one", cwd=tmp_path).stdout
        assert "waits for a person at ask" in status
        assert "ship it?" in status
        answer("control", "complete", "one", "--approve", "--answer", '{"who": "me"}', cwd=tmp_path)
        eventually(lambda: answer("status", "one", cwd=tmp_path)["status"] == "completed", 30, 0.2)
    assert headgate("control", "complete", "one", "--approve", cwd=tmp_path).returncode == 2


def test_no_broker_is_one_line_and_exit_code_2_within_seconds(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    done = headgate("list", "--kafka", address, cwd=tmp_path)
    assert time.monotonic() - began < 15
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert address in done.stderr


@pytest.mark.timeout(240)
def test_the_same_files_run_on_kafka_as_separate_processes(demo: Path, kafka_bootstrap: str) -> None:
    there = {"HEADGATE_KAFKA": kafka_bootstrap, "HEADGATE_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}"}
    there |= {"HEADGATE_PARTITIONS": "4", "HEADGATE_TENANT": "acme"}
    assert headgate("list", cwd=demo, **there).returncode == 2
    assert len(answer("topics", "create", cwd=demo, **there)["created"]) == 7
    with ExitStack() as stack:
        gates = [stack.enter_context(running("gate", cwd=demo, **there)) for _ in range(2)]
        for kind in ("task", "plan"):
            stack.enter_context(running("worker", kind, "demo", cwd=demo, **there))
        said = answer("run", "demo", "--timeout", "60s", cwd=demo, **there)
        assert (said["status"], said["spent"]["tokens_used"]) == ("completed", 360)
        gates[0].process.send_signal(signal.SIGKILL)
        again = answer("run", "demo", "--timeout", "60s", cwd=demo, **there)
        assert (again["status"], again["spent"]["tokens_used"]) == ("completed", 360)
        assert len(answer("list", cwd=demo, **there)) == 2
        assert gates[1].stop() == 0


@pytest.mark.timeout(120)
def test_a_run_on_kafka_without_a_gate_says_so(demo: Path, kafka_bootstrap: str) -> None:
    there = {"HEADGATE_KAFKA": kafka_bootstrap, "HEADGATE_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}"}
    there |= {"HEADGATE_PARTITIONS": "2"}
    answer("topics", "create", cwd=demo, **there)
    done = headgate("run", "demo", "--timeout", "13s", cwd=demo, **there)
    assert done.returncode == 6
    assert "no gate has answered" in done.stderr
