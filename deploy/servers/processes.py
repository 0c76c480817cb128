"""Starting a server in the background, waiting until it answers, and stopping it by its process id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.servers.cache import ServerUnavailable, tail


@dataclass(frozen=True)
class Running:
    """One server that was started; kept as `<home>/server.json` so that any process can find and stop it."""

    pid: int
    address: str
    """host:port."""
    home: str
    """Its folder; part of its command line, so that a reused process id is not mistaken for it."""

    def alive(self) -> bool:
        """Tell whether the process still runs and is the one that was started."""
        return self.home in command_line(self.pid)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when there is none, or only a zombie is left."""
    proc = Path("/proc") / str(pid) / "cmdline"
    if Path("/proc/self/cmdline").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout


def recorded(home: Path) -> Running | None:
    """Return the server that lives in `home`, if it still runs."""
    try:
        running = Running(**json.loads((home / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return running if running.alive() else None


def start(
    argv: Sequence[str],
    *,
    home: Path,
    address: str,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Running:
    """Start `argv` in a session of its own and return when `ready` holds; ServerUnavailable otherwise."""
    log = home / "server.log"
    running = Running(_spawn(argv, log, {**os.environ, **(env or {})}), address, str(home))
    (home / "server.json").write_text(json.dumps(asdict(running)))
    deadline = time.monotonic() + timeout_s
    # For a moment after it was made a process has no command line to be known by.
    while not (running.alive() and ready()):
        if (code := _exit_code(running.pid)) is not None:
            raise ServerUnavailable(f"{argv[0]} ended with exit code {code}: {tail(log)}")
        if time.monotonic() >= deadline:
            stop(running)
            raise ServerUnavailable(f"{address} did not answer within {timeout_s:.0f} s: {tail(log)}")
        time.sleep(0.05)
    return running


def _spawn(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> int:
    """Return the id of a process that is meant to outlive its starter; a Popen would call that a leak."""
    with log.open("ab") as output:
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        told = [(os.POSIX_SPAWN_DUP2, output.fileno(), stream) for stream in (1, 2)]
        return os.posix_spawnp(argv[0], list(argv), env, file_actions=[nothing, *told], setsid=True)


def _exit_code(pid: int) -> int | None:
    """Return how a child of this process has ended, once; None while it runs, or when it is no child."""
    with contextlib.suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    return None


def stop(running: Running, grace_s: float = 15.0) -> None:
    """Ask the process to end, wait up to `grace_s`, then kill it; nothing when it is gone already."""
    for sent, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not running.alive():
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, sent)
        deadline = time.monotonic() + wait_s
        while running.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    _exit_code(running.pid)  # no zombie of it is left
    Path(running.home, "server.json").unlink(missing_ok=True)
