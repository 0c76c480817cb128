from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support import eventually
from tests.unit.workers.bench import ABORTED, Bench, registry


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_output_exit_code_directory_and_stdin(bench: Bench, tmp_path: Path) -> None:
    code = (
        "import os,sys; print(os.getcwd(), sys.argv[1], sys.stdin.read()); "
        "print('e', file=sys.stderr); sys.exit(3)"
    )
    params = {"argv": python(code, "{{word}}"), "stdin": "given"}
    with bench.worker(registry()):
        given = bench.give_task("subprocess", {"word": "$(x)", "cwd": str(tmp_path)}, params=params)
        value = bench.value(given)
    assert value == {
        "exit_code": 3,
        "stdout": f"{tmp_path} $(x) given\n",
        "stderr": "e\n",
        "truncated": False,
    }


def test_environment_is_what_the_graph_allows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    params = {"argv": python("import os; print(sorted(os.environ))"), "env": {"A": "1"}}
    with bench.worker(registry()):
        out = bench.value(bench.give_task("subprocess", {"env": {"B": "1"}}, params=params))["stdout"]
    assert "'A'" in out
    assert "'PATH'" in out
    assert "SOME_SECRET" not in out
    assert "'B'" not in out


def test_output_is_kept_from_its_end(bench: Bench) -> None:
    code = "print('x' * 3_000_000); print('the end')"
    with bench.worker(registry()):
        value = bench.value(
            bench.give_task("subprocess", params={"argv": python(code), "max_output_bytes": 1000})
        )
    assert value["truncated"]
    assert len(value["stdout"]) == 1000
    assert value["stdout"].endswith("the end\n")


def alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return False
    # A killed orphan may stay a zombie until its new parent looks.
    return "\nState:\tZ" not in Path(f"/proc/{int(pid_file.read_text())}/status").read_text()


SPAWNS = (
    "import subprocess,sys,pathlib,time; "
    "p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)']); "
    "pathlib.Path(sys.argv[1]).write_text(str(p.pid)); "
)


def test_timeout_kills_the_whole_group(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    params = {"argv": python(SPAWNS + "time.sleep(60)", str(pid_file)), "timeout": "1500ms"}
    with bench.worker(registry()):
        error = bench.report(bench.give_task("subprocess", params=params)).result.error
    assert (error.code, error.retryable) == ("TIMEOUT", True)
    eventually(lambda: not alive(pid_file))


def test_children_left_behind_do_not_hold_the_result_back(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with bench.worker(registry()):
        given = bench.give_task("subprocess", params={"argv": python(SPAWNS, str(pid_file))})
        assert bench.value(given)["exit_code"] == 0
    eventually(lambda: not alive(pid_file))


def test_abort_kills_the_program(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with bench.worker(registry()):
        given = bench.give_task(
            "subprocess", params={"argv": python(SPAWNS + "time.sleep(60)", str(pid_file))}
        )
        eventually(lambda: pid_file.exists() and pid_file.read_text())
        bench.abort()
        assert bench.report(given).headers.status == ABORTED
    eventually(lambda: not alive(pid_file))


def test_what_cannot_run_says_so(bench: Bench, tmp_path: Path) -> None:
    asked = [
        {"argv": ["no-such-program"]},
        {"argv": ["true"], "cwd": str(tmp_path / "missing")},
        {"argv": []},
        {"argv": python("raise SystemExit(2)"), "check": True},
    ]
    with bench.worker(registry()):
        errors = [bench.report(bench.give_task("subprocess", params=p)).result.error for p in asked]
    assert [error.retryable for error in errors] == [False, False, False, True]
    assert "no-such-program" in errors[0].message
    assert "missing" in errors[1].message
    assert errors[3].code == "EXIT_CODE"


def test_an_input_does_not_choose_the_program(bench: Bench) -> None:
    with bench.worker(registry()):
        error = bench.report(bench.give_task("subprocess", {"argv": ["true"]})).result.error
    assert error.code == "INPUT_INVALID"
    assert "argv" in error.message
