"""What tests wait and bind with; imported as `tests.support`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from headgate_guardrails.folding import IS_COMPILED

needs_source = pytest.mark.skipif(
    IS_COMPILED, reason="changes the fold while it runs, and a compiled one cannot be: `make interpreted`"
)

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout_s: float = 10.0, interval_s: float = 0.02) -> T:
    """Return the first truthy value of `predicate`; raise AssertionError when `timeout_s` has passed.

    An AssertionError inside `predicate` counts as "not yet"; the last one is the cause of the final error.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    cause: AssertionError | None = None
    while True:
        try:
            last = value = predicate()
            cause = None
            if value:
                return value
        except AssertionError as error:
            cause = error
        if time.monotonic() >= deadline:
            name = getattr(predicate, "__name__", repr(predicate))
            detail = str(cause) if cause else repr(last)
            raise AssertionError(f"{name} did not hold within {timeout_s:g} s; last: {detail}") from cause
        time.sleep(interval_s)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
