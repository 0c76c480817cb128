"""What an operator may set for one worker process; made by the command or the embedded run."""

from __future__ import annotations

import os
import socket
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def worker_name() -> str:
    """Return "host:pid", which names this process in what people read."""
    return f"{socket.gethostname()}:{os.getpid()}"


class WorkerSettings(BaseModel):
    """One worker: how much it takes on and how long it waits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queues: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
    """Named queues to serve; "" is the default queue."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Handlers that run at once; intake pauses here and resumes at half of it (default 32)."""
    drain_s: Annotated[float, Field(ge=0)] = 5.0
    """Seconds that work may take to end when its partition is taken away or the worker stops (default 5)."""
    cancel_grace_s: Annotated[float, Field(ge=0)] = 2.0
    """Seconds a cancelled handler may take to end, so that its spend counts (default 2)."""
    loop_patience_s: Annotated[float, Field(gt=0)] = 20.0
    """Seconds an async handler may block the event loop of all before the loop is replaced (default 20)."""
    default_timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds a handler may run when its input names no timeout (default 300)."""
    commit_interval_s: Annotated[float, Field(ge=0)] = 0.1
    """Seconds between two commits of finished plain work; what a crash may run again (default 0.1)."""
    idle_wait_s: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Longest wait for input while nothing runs, in seconds; a stop is noticed this late (default 0.05)."""
    control_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds that reading past control events may take before the first handler (default 30)."""
    blob_attempts: Annotated[int, Field(ge=1, le=20)] = 4
    """Tries at a blob store that does not answer, with doubling waits from 0.2 s (default 4)."""
    prefetch_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    """Upstream bytes that are fetched from the blob store before an async handler begins (default 64 MiB)."""
    dead_letter_limit_per_minute: Annotated[int, Field(ge=0)] = 60_000
    """Bad records that a partition may yield a minute, and at once; above it, it is not read for a while, and
    is read again by itself. 0 for no limit (default 60,000)."""
    name: str = Field(default_factory=worker_name)
    """Names this worker in announcements and heartbeats, for people."""
