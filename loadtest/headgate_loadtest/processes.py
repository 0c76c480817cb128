"""The processes under load: a gate and workers as the command starts them, or all of them as threads here."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headgate_graphs.errors import HeadgateError, UserError
from headgate_graphs.model import NodeKind
from headgate_guardrails.gate import Gate
from headgate_loadtest.agent import handlers
from headgate_loadtest.installation import Installation
from headgate_streams.settings import StreamSettings
from headgate_workers.handlers import HandlerRegistry
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker

READY_S = 60.0
STOP_S = 40.0
AGENT = Path(handlers.__file__)


@dataclass(frozen=True)
class Crew:
    """How many processes serve the load, and how much each worker takes on."""

    gates: int = 1
    task_workers: int = 1
    plan_workers: int = 1
    concurrency: int = 256
    """Handlers at once in each worker: the runs of a load mostly wait."""

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield a name and the arguments of the command for each process."""
        for number in range(self.gates):
            yield f"gate-{number + 1}", ["gate"]
        for kind, count in (("task", self.task_workers), ("plan", self.plan_workers)):
            for number in range(count):
                yield (
                    f"{kind}-worker-{number + 1}",
                    ["worker", kind, str(AGENT), "--concurrency", str(self.concurrency)],
                )


class NotServing(HeadgateError):
    """A process under load did not become ready, or ended by itself."""


@dataclass
class Serving:
    """What serves the load."""

    pids: Mapping[str, int]
    """Processes by name, this one as `here` when all run as its threads."""
    check: Callable[[], None]
    """Raises NotServing when one has ended."""


def environment_of(settings: StreamSettings) -> dict[str, str]:
    """Return the environment in which a process reads these settings."""
    named = {f"HEADGATE_{name.upper()}": value for name, value in _texts(settings)}
    return {**os.environ, **named}


def _texts(settings: StreamSettings) -> Iterator[tuple[str, str]]:
    for name in ("kafka", "local", "topic_prefix", "partitions", "blob_url"):
        value = getattr(settings, name)
        if value is not None:
            yield name, str(value)


@contextmanager
def started(settings: StreamSettings, crew: Crew, logs: Path) -> Iterator[Serving]:
    """Start the processes, yield when each has said that it is ready, stop them at the end.

    What they write goes to files in `logs`. Raises NotServing.
    """
    if settings.in_memory:
        raise UserError("a log in memory cannot be shared by processes: name a directory, or --embedded")
    logs.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, arguments in crew.commands():
            running[name] = _start(name, arguments, environment_of(settings), logs)
        deadline = time.monotonic() + READY_S
        for name, process in running.items():
            _wait_ready(name, process, deadline, logs)
        yield Serving({n: p.pid for n, p in running.items()}, lambda: _check(running, logs))
    finally:
        _stop(running.values())


def _start(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path
) -> subprocess.Popen[str]:
    with (logs / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "headgate", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _wait_ready(name: str, process: subprocess.Popen[str], deadline: float, logs: Path) -> None:
    out = process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)  # type: ignore[arg-type]
        ready = selector.select(max(0.0, deadline - time.monotonic()))
    line = out.readline() if ready and out is not None else ""
    if "ready" not in line:
        raise NotServing(f"{name} is not ready after {READY_S:.0f} s: {line.strip() or _tail(logs, name)}")


def _check(running: Mapping[str, subprocess.Popen[str]], logs: Path) -> None:
    for name, process in running.items():
        if process.poll() is not None:
            raise NotServing(f"{name} ended with exit code {process.returncode}: {_tail(logs, name)}")


def _tail(logs: Path, name: str) -> str:
    lines = (logs / f"{name}.log").read_text(errors="replace").splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def _stop(running: Iterable[subprocess.Popen[str]]) -> None:
    processes = list(running)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def embedded(installation: Installation, concurrency: int = 256) -> Iterator[Serving]:
    """Run a gate and both workers as threads of this process, as the embedded run does."""
    registry = HandlerRegistry.from_modules([handlers])
    settings, log, blobs = installation.settings, installation.log, installation.blobs
    stop = threading.Event()
    gate = Gate(log, blobs, settings)
    workers = [
        Worker(log, blobs, kind, registry, WorkerSettings(concurrency=concurrency), settings)
        for kind in NodeKind
    ]
    errors: list[BaseException] = []
    loops: list[Gate | Worker] = [gate, *workers]
    threads = [threading.Thread(target=_loop, args=(one, stop, errors), daemon=True) for one in loops]
    for thread in threads:
        thread.start()
    try:
        for one in loops:
            if not one.ready.wait(READY_S):
                raise NotServing(f"{type(one).__name__} is not ready after {READY_S:.0f} s: {errors}")
        yield Serving({"here": os.getpid()}, lambda: _raise_first(errors))
    finally:
        stop.set()
        for thread in threads:
            thread.join(STOP_S)


def _loop(one: Gate | Worker, stop: threading.Event, errors: list[BaseException]) -> None:
    try:
        one.run(stop)
    except BaseException as error:  # told by `check`
        errors.append(error)


def _raise_first(errors: Sequence[BaseException]) -> None:
    if errors:
        raise NotServing(f"a thread ended: {errors[0]!r}") from errors[0]
