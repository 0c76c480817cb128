"""The installed command in processes of its own, for end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import eventually

HEADGATE = [sys.executable, "-m", "headgate"]
TIMEOUT_S = 90.0


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return kept | {"PYTHONWARNINGS": "", "NO_COLOR": "1"} | more


def headgate(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*HEADGATE, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def answer(*arguments: str, cwd: Path, code: int = 0, **variables: str) -> Any:
    """Run the command with --json; return what it answered, having checked its exit code."""
    done = headgate(*arguments, "--json", cwd=cwd, **variables)
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


class Process:
    """A long-lived command; its output is read as it comes."""

    def __init__(self, arguments: tuple[str, ...], cwd: Path, variables: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*HEADGATE, *arguments],
            cwd=cwd,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait_ready(self) -> None:
        eventually(lambda: [line for line in self.lines if " ready" in line or '"ready"' in line], 30)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def running(*arguments: str, cwd: Path, **variables: str) -> Iterator[Process]:
    """Run a long-lived command until the block ends."""
    process = Process(arguments, cwd, variables)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop(signal.SIGKILL if process.process.poll() is None else signal.SIGTERM)
