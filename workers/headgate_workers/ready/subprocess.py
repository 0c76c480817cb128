"""The task type `subprocess`: one program, with a working directory, a time limit and bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from headgate_graphs.errors import HandlerFailed, NonRetryable
from headgate_graphs.model import DurationMs, NodeKind
from headgate_streams.settings import environment
from headgate_workers.context import TaskContext
from headgate_workers.handlers import Handler
from headgate_workers.ready.options import Options, options
from headgate_workers.results import Result

_READ_BYTES = 65_536
_KILL_WAIT_S = 2.0
FROM_GRAPH_ONLY = frozenset({"argv", "env", "pass_env", "max_output_bytes", "check"})
"""An input fills places in the graph's arguments; it does not choose the program or its environment."""


class ProgramFailed(HandlerFailed):
    """The program ended with another code than 0 and the task says that this is a failure."""

    code = "EXIT_CODE"


class ProgramTimeout(HandlerFailed):
    """The program ran longer than the task allows."""

    code = "TIMEOUT"


def _as_texts(value: object) -> object:
    """Write numbers and the like, which a filled-in place may be, as JSON."""
    return [v if isinstance(v, str) else json.dumps(v) for v in value] if isinstance(value, list) else value


class SubprocessOptions(Options):
    """Parameters of a `subprocess` task."""

    argv: Annotated[list[str], BeforeValidator(_as_texts), Field(min_length=1)]
    """Program and arguments; no shell reads them."""
    cwd: Path | None = None
    """Directory to run in; none for the worker's."""
    timeout_ms: DurationMs | None = Field(default=None, alias="timeout")
    """Time limit below the node's own."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables to set."""
    pass_env: list[str] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"]
    """Variables of the worker that the program sees, and no others: it does not see the worker's secrets."""
    stdin: str | None = None
    """What the program reads; none for nothing."""
    max_output_bytes: int = Field(default=1_048_576, ge=0)
    """Bytes kept of the end of stdout and of stderr, each (default 1 MiB)."""
    check: bool = False
    """Whether another exit code than 0 is a failure; else it is a result like any other."""


class _Tail:
    """The end of what was written to a pipe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self.is_truncated = False

    async def read(self, pipe: asyncio.StreamReader | None) -> None:
        """Read to the end."""
        while pipe is not None and (part := await pipe.read(_READ_BYTES)):
            self._kept += part
            if len(self._kept) > self._most:
                self.is_truncated = True
                del self._kept[: len(self._kept) - self._most]

    @property
    def text(self) -> str:
        """What was kept."""
        return self._kept.decode("utf-8", "replace")


async def subprocess(ctx: TaskContext) -> Result:
    """Return {"exit_code", "stdout", "stderr", "truncated"}; metadata carries the exit code.

    Whatever happens, the program's whole process group is killed before this returns.
    """
    asked = options(ctx, SubprocessOptions, FROM_GRAPH_ONLY)
    process = await _start(asked)
    out, err = _Tail(asked.max_output_bytes), _Tail(asked.max_output_bytes)
    reading = asyncio.gather(out.read(process.stdout), err.read(process.stderr), _feed(process, asked.stdin))
    try:
        async with asyncio.timeout(asked.timeout_ms / 1000 if asked.timeout_ms is not None else None):
            code = await process.wait()
    except TimeoutError:
        raise ProgramTimeout(f"{asked.argv[0]!a} ran longer than {asked.timeout_ms} ms") from None
    finally:
        await _end(process, reading)
    if asked.check and code != 0:
        raise ProgramFailed(f"{asked.argv[0]!a} ended with exit code {code}: {err.text[-500:]}")
    value = {
        "exit_code": code,
        "stdout": out.text,
        "stderr": err.text,
        "truncated": out.is_truncated or err.is_truncated,
    }
    return Result(value, {"exit_code": code})


async def _start(asked: SubprocessOptions) -> asyncio.subprocess.Process:
    if asked.cwd is not None and not asked.cwd.is_dir():
        raise NonRetryable(f"there is no directory {str(asked.cwd)!a}")
    passed = {name: value for name in asked.pass_env if (value := environment(name)) is not None}
    try:
        return await asyncio.create_subprocess_exec(
            *asked.argv,
            stdin=asyncio.subprocess.DEVNULL if asked.stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=asked.cwd,
            env=passed | asked.env,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise NonRetryable(f"{asked.argv[0]!a} cannot be started: {error}") from error


async def _feed(process: asyncio.subprocess.Process, text: str | None) -> None:
    if text is None or process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        process.stdin.write(text.encode())
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Future[Any]) -> None:
    """Kill the group, then read what is left; a pipe that somebody outside the group holds is let go."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    waiting: list[asyncio.Future[Any]] = [reading, asyncio.ensure_future(process.wait())]
    await asyncio.wait(waiting, timeout=_KILL_WAIT_S)
    reading.cancel()


SUBPROCESS = Handler(NodeKind.TASK, "subprocess", subprocess)
