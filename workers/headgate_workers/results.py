"""What handlers return and how they are told to stop. Written by users, read by the runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Cancelled(BaseException):
    """Raised in a synchronous handler by `ctx.check_cancelled()`; no Exception, so nothing swallows it."""


@dataclass(frozen=True, slots=True)
class Result:
    """A task's value together with metadata that conditions and policies see even when the value is large."""

    value: Any = None
    """Anything that JSON can say: plain data, pydantic models, dataclasses, dates, paths."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """A small JSON object (at most 16 KiB)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan decided."""

    next: Sequence[str] = ()
    """Targets among the plan's outgoing edges, in order; "end", or naming none, takes the FINAL edge."""
    output: Any = None
    """What the chosen tasks receive, and the outcome when the lifetime ends here.

    An `UpstreamResult` is passed on as it is, without being fetched.
    """
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What one chosen task receives instead of `output`, by task id."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Why, as a small JSON object (at most 16 KiB) for conditions, policies and people."""
