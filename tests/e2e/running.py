"""The `headgate` command and the recorded model as processes of their own; what a test does with them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "coding_agent"
POLICIES = EXAMPLE / "policies"
COMMAND_TIMEOUT_S = 240.0
NOT_PASSED_ON = ("HEADGATE_", "OPENAI_")


class Process:
    """A process whose output is collected; killed at the end of its `with`."""

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            arguments, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def has_said(self, words: str) -> bool:
        """Whether a line with these words has come; fails when the process has ended without."""
        if words in self.output:
            return True
        assert self._process.poll() is None, f"ended without {words!r}: {self.output}"
        return False

    def wait(self) -> int:
        """Return the exit code."""
        code = self._process.wait(COMMAND_TIMEOUT_S)
        self._reader.join(COMMAND_TIMEOUT_S)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(30)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))


@dataclass
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of the output, which is JSON."""
        return json.loads(self.out.strip().splitlines()[-1])


@dataclass
class Place:
    """Where commands run: an environment that nothing else shares."""

    work: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}
        return kept | {"HEADGATE_LOCAL": str(self.work / "log"), "PYTHONUNBUFFERED": "1"} | self.env

    def headgate(self, *arguments: str | Path) -> Answer:
        """Run one command to its end."""
        done = subprocess.run(
            headgate_argv(*arguments),
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def spawn(self, *arguments: str | Path) -> Process:
        """Begin one command."""
        return Process(headgate_argv(*arguments), self.environment())

    def input(self, **more: Any) -> str:
        """Return the agent's input, with a work directory of this test."""
        return json.dumps({"workdir": str(self.work / "copies"), **more})


def headgate_argv(*arguments: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("headgate")), *map(str, arguments)]


@dataclass
class ModelServer:
    """The recorded model as a process of its own."""

    url: str

    @property
    def calls(self) -> list[str]:
        """Names of the answers that were asked for, in order."""
        calls: list[str] = httpx.get(f"{self.url}/calls", trust_env=False).json()["calls"]
        return calls


@contextlib.contextmanager
def model_server(pause_s: float = 0.0) -> Iterator[ModelServer]:
    """Serve recorded answers on a free port."""
    arguments = [sys.executable, str(EXAMPLE / "recorded_model.py"), "--port", "0", "--pause", str(pause_s)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield ModelServer(process.stdout.readline().strip().rpartition("=")[2].removesuffix("/v1"))
        finally:
            process.kill()


def own_tests_pass(directory: str) -> bool:
    """Whether the tests of a copy pass now, run once more by ourselves."""
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(arguments, cwd=directory, capture_output=True, timeout=120).returncode == 0
