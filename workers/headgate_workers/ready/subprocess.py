"""The task type `subprocess`: one program, with a working directory, a time limit and bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from headgate_graphs.errors import HandlerFailed, NonRetryable
from headgate_graphs.model import DurationMs, NodeKind
from headgate_streams.settings import environment
from headgate_workers.context import TaskContext
from headgate_workers.handlers import Handler
from headgate_workers.ready.options import Options, options
from headgate_workers.results import Result

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


class _Program(asyncio.SubprocessProtocol):
    """What a running program writes, and when it ends."""

    def __init__(self, most_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self._most_bytes = most_bytes
        self._kept = {1: bytearray(), 2: bytearray()}
        self.is_truncated = False
        self.exited: asyncio.Future[None] = loop.create_future()
        """Done when the program itself has ended; children of it may hold its pipes open."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when nobody holds the pipes any more."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep the end of what is written."""
        kept = self._kept[fd]
        kept += data
        if len(kept) > self._most_bytes:
            self.is_truncated = True
            del kept[: len(kept) - self._most_bytes]

    def process_exited(self) -> None:
        """Tell who waits."""
        self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell who waits."""
        self.closed.set_result(None)

    def text(self, fd: int) -> str:
        """Return what was kept of stdout (1) or stderr (2)."""
        return self._kept[fd].decode("utf-8", "replace")


async def subprocess(ctx: TaskContext) -> Result:
    """Return {"exit_code", "stdout", "stderr", "truncated"}; metadata carries the exit code.

    Whatever happens, the program's whole process group is killed before this returns.
    """
    asked = options(ctx, SubprocessOptions, FROM_GRAPH_ONLY)
    transport, program = await _start(asked)
    try:
        _feed(transport, asked.stdin)
        limit_s = asked.timeout_ms / 1000 if asked.timeout_ms is not None else None
        await asyncio.wait([program.exited], timeout=limit_s)
        has_ended = program.exited.done()
    finally:
        await _end(transport, program)
    if not has_ended:
        raise ProgramTimeout(f"{asked.argv[0]!a} ran longer than {asked.timeout_ms} ms")
    code = transport.get_returncode()
    if asked.check and code != 0:
        raise ProgramFailed(f"{asked.argv[0]!a} ended with exit code {code}: {program.text(2)[-500:]}")
    value = {
        "exit_code": code,
        "stdout": program.text(1),
        "stderr": program.text(2),
        "truncated": program.is_truncated,
    }
    return Result(value, {"exit_code": code})


async def _start(asked: SubprocessOptions) -> tuple[asyncio.SubprocessTransport, _Program]:
    if asked.cwd is not None and not asked.cwd.is_dir():
        raise NonRetryable(f"there is no directory {str(asked.cwd)!a}")
    passed = {name: value for name in asked.pass_env if (value := environment(name)) is not None}
    try:
        return await asyncio.get_running_loop().subprocess_exec(
            lambda: _Program(asked.max_output_bytes),
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


def _feed(transport: asyncio.SubprocessTransport, text: str | None) -> None:
    pipe = transport.get_pipe_transport(0)
    if text is not None and isinstance(pipe, asyncio.WriteTransport):
        pipe.write(text.encode())
        pipe.close()  # after what was written


async def _end(transport: asyncio.SubprocessTransport, program: _Program) -> None:
    """Kill the group, then read what is left; a pipe that somebody outside the group holds is let go."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(transport.get_pid(), signal.SIGKILL)
    await asyncio.wait([program.closed], timeout=_KILL_WAIT_S)
    transport.close()


SUBPROCESS = Handler(NodeKind.TASK, "subprocess", subprocess)
