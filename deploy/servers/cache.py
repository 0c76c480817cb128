"""Where built programs are kept, and how they are made once however many processes ask."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class ServerUnavailable(Exception):
    """A real server cannot be had here; the message says why and how to get one."""


def cache_dir() -> Path:
    """Return the folder of built programs: `HEADGATE_CACHE`, else `headgate` in the user's cache folder."""
    named = os.environ.get("HEADGATE_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate"


def say(line: str) -> None:
    """Write one progress line to stderr, at once."""
    print(f"[servers] {line}", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, what: str, timeout_s: float = 1200.0) -> Iterator[None]:
    """Hold an exclusive lock between processes; ServerUnavailable when it is not free in `timeout_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    announced = False
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise ServerUnavailable(f"{path} is still held after {timeout_s:.0f} s") from None
            if not announced:
                say(f"waiting for another process that works on {what}")
                announced = True
            time.sleep(0.2)
        yield


def made_once(name: str, what: str, make: Callable[[Path], None]) -> Path:
    """Return the cache folder `name`; when missing, `make` fills a scratch folder that becomes it."""
    ready = cache_dir() / name
    if ready.exists():
        return ready
    with locked(cache_dir() / f"{name}.lock", what):
        if not ready.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache_dir()))
            try:
                make(scratch)
                scratch.rename(ready)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return ready


def run_with_progress(
    argv: Sequence[str], what: str, *, log: Path, timeout_s: float, env: Mapping[str, str] | None = None
) -> None:
    """Run a program to its end, its output in `log`, a line every 15 s; ServerUnavailable when it fails."""
    say(f"{what} …")
    began = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        ) as process,
    ):
        while True:
            try:
                code = process.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                passed_s = time.monotonic() - began
                if passed_s >= timeout_s:
                    process.kill()
                    raise ServerUnavailable(f"{what}: not done after {timeout_s:.0f} s") from None
                say(f"{what}: {passed_s:.0f} s so far")
    if code != 0:
        raise ServerUnavailable(f"{what} failed (exit code {code}): {tail(log)}")
    say(f"{what}: done in {time.monotonic() - began:.0f} s")


def tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log, for an error message."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "(it wrote nothing)"
