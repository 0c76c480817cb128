"""`headgate run` on the embedded log, as a stranger types it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import Process, answer, environment, headgate
from tests.support import eventually

SLOW_THIRD_VISIT = """import asyncio, pathlib
    with open("calls", "a") as calls:
        calls.write(f"{ctx.iteration} ")
    while ctx.iteration == 3 and not pathlib.Path("go_on").exists():
        await asyncio.sleep(0.05)
    return {"parts": list(STEPS[: ctx.iteration]), "text": "done"}"""
TIGHT = "run-tokens, scope: lifetime, limit: {tokens_used: 300}"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A directory with a project `demo` in it."""
    assert headgate("init", "demo", cwd=tmp_path).returncode == 0
    return tmp_path


def policy(directory: Path, action: str, version: int) -> str:
    text = (directory / "demo/policy.yaml").read_text()
    text = text.replace("run-tokens, scope: lifetime, limit: {tokens_used: 2000}", TIGHT)
    text = text.replace("abort_lifetime", action).replace("version: 1", f"version: {version}")
    (directory / f"{action}.yaml").write_text(text)
    return f"{action}.yaml"


def handler(directory: Path, body: str) -> None:
    """Put another task in the place of the demo's."""
    text = (directory / "demo/handlers.py").read_text()
    start = text.index('    topic = data.get("topic")')
    end = text.index('@plan("review_line")')
    (directory / "demo/handlers.py").write_text(text[:start] + f"    {body}\n\n\n" + text[end:])


def test_a_new_project_runs_to_its_end_at_once(demo: Path) -> None:
    done = headgate("run", "demo", cwd=demo)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "COMPLETED" in done.stdout
    assert "$0.0018" in done.stdout


def test_the_test_of_a_new_project_passes(demo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "demo"],
        cwd=demo, env=environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_outcome_is_told_to_scripts(demo: Path) -> None:
    said = answer("run", "demo", "--input", '{"topic": "logs"}', "--lifetime", "one", cwd=demo)
    assert (said["status"], said["lifetime_id"]) == ("completed", "one")
    assert said["outcome"].startswith("A text about logs")
    assert said["nodes"]["write"]["runs"] == 3
    assert said["spent"]["tokens_used"] == 360
    assert {cap["rule"]: cap["used"] for cap in said["caps"]}["run-tokens"] == 360


def test_a_cap_stops_the_run_with_rule_value_and_limit_in_one_line(demo: Path) -> None:
    done = headgate("run", "demo", "--policy", policy(demo, "abort_lifetime", 2), cwd=demo)
    assert done.returncode == 3, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("stopped by")]
    for part in ("run-tokens", "320", "300"):
        assert part in line


def test_a_paused_run_goes_on_with_exactly_the_commands_it_prints(demo: Path) -> None:
    paused = headgate(
        "run", "demo", "--policy", policy(demo, "pause_lifetime", 3), "--lifetime", "one", cwd=demo
    )
    assert paused.returncode == 4, paused.stdout + paused.stderr
    assert headgate("run", "demo", "--lifetime", "one", cwd=demo).returncode == 4
    commands = [line.split() for line in paused.stdout.splitlines() if line.startswith("  headgate ")]
    codes = [headgate(*shlex.split(" ".join(words[1:])), cwd=demo).returncode for words in commands]
    assert codes == [0, 0]
    rows = answer("timeline", "one", cwd=demo)
    assert [row["node"] for row in rows if row["what"] == "task"] == ["write"] * 3
    assert [row["status"] for row in rows if row["what"] == "control"] == [
        "PAUSE_LIFETIME",
        "RESUME_LIFETIME",
    ]


def test_the_same_lifetime_twice_is_one(demo: Path) -> None:
    first = answer("run", "demo", "--lifetime", "one", cwd=demo)
    again = answer("run", "demo", "--lifetime", "one", cwd=demo)
    assert again["spent"] == first["spent"]
    assert [one["lifetime_id"] for one in answer("list", cwd=demo)] == ["one"]


def test_two_tenants_use_one_log_and_see_nothing_of_each_other(demo: Path) -> None:
    for tenant in ("acme", "globex"):
        answer("run", "demo", "--lifetime", "one", "--tenant", tenant, cwd=demo)
    answer("run", "demo", "--lifetime", "two", "--tenant", "acme", cwd=demo)
    assert len(answer("list", "--tenant", "acme", cwd=demo)) == 2
    assert len(answer("list", "--tenant", "globex", cwd=demo)) == 1
    assert headgate("status", "two", "--tenant", "globex", cwd=demo).returncode == 2


def test_a_handler_that_fails_for_good_fails_the_run(demo: Path) -> None:
    handler(demo, 'raise RuntimeError("it is broken")')
    text = (demo / "demo/handlers.py").read_text().replace("written = ctx.upstream_one.value", (
        'written = ctx.upstream_one.value\n    if not ctx.upstream_one.success:\n'
        '        raise RuntimeError("and nobody can help")'
    ))  # fmt: skip
    (demo / "demo/handlers.py").write_text(text)
    graph = (demo / "demo/graph.yaml").read_text()
    graph = graph.replace("timeout: 30s", "timeout: 30s\n      max_retries: 0")
    graph = graph.replace("type: review_line", "type: review_line\n    config: {max_retries: 0}")
    (demo / "demo/graph.yaml").write_text(graph)
    done = headgate("run", "demo", cwd=demo)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "it is broken" in done.stdout


def test_a_run_that_takes_too_long_to_watch_is_left_and_can_be_gone_on_with(demo: Path) -> None:
    handler(demo, "import asyncio; await asyncio.sleep(60)")
    done = headgate("run", "demo", "--timeout", "1s", "--lifetime", "one", cwd=demo)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "--lifetime one" in done.stdout


def test_a_node_without_a_handler_is_refused_before_anything_is_written(demo: Path) -> None:
    graph = (demo / "demo/graph.yaml").read_text().replace("type: write_line", "type: write_poem")
    (demo / "demo/graph.yaml").write_text(graph)
    done = headgate("run", "demo", cwd=demo)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "write_poem" in done.stderr
    assert answer("list", cwd=demo) == []


def test_a_changed_graph_needs_a_new_version(demo: Path) -> None:
    answer("run", "demo", cwd=demo)
    graph = (demo / "demo/graph.yaml").read_text().replace("deadline: 10m", "deadline: 11m")
    (demo / "demo/graph.yaml").write_text(graph)
    done = headgate("run", "demo", cwd=demo)
    assert done.returncode == 2
    assert "metadata.version" in done.stderr
    (demo / "demo/graph.yaml").write_text(graph.replace("version: 1.0.0", "version: 1.0.1"))
    assert headgate("run", "demo", cwd=demo).returncode == 0


@pytest.mark.timeout(180)
def test_a_run_that_was_killed_goes_on_where_it_was(demo: Path) -> None:
    handler(demo, SLOW_THIRD_VISIT)
    killed = Process(("run", "demo", "--lifetime", "one"), demo, {})
    eventually(lambda: "write #3 dispatched" in "".join(killed.lines), 60)
    killed.stop(signal.SIGKILL)
    (demo / "go_on").touch()
    said = answer("run", "demo", "--lifetime", "one", cwd=demo)
    assert said["status"] == "completed"
    rows = [row for row in answer("timeline", "one", cwd=demo) if row["what"] == "task"]
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    calls = (demo / "calls").read_text().split()
    assert calls[:2] == ["1", "2"]
    assert set(calls[2:]) == {"3"}


def test_an_interrupted_run_says_how_to_go_on(demo: Path) -> None:
    handler(demo, "import asyncio; await asyncio.sleep(60)")
    process = Process(("run", "demo", "--lifetime", "one"), demo, {})
    eventually(lambda: "write #1 dispatched" in "".join(process.lines), 60)
    assert process.stop(signal.SIGTERM) == 130
    assert "headgate run demo --lifetime one" in "".join(process.lines)


def test_what_handlers_print_stays_out_of_the_answer(demo: Path) -> None:
    handler(demo, 'print("noise"); return {"parts": list(STEPS), "text": "done"}')
    assert answer("run", "demo", cwd=demo)["outcome"] == "done"
