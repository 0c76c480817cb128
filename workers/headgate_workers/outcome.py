"""How one run ended, in words that do not depend on tasks or plans. Made by runs, reported by `execution`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from headgate_graphs.errors import BadRecord, BlobUnavailable, HandlerFailed
from headgate_protos.v1.common_pb2 import ExecutionError, ExecutionStatus, Payload
from headgate_workers.brakes import Halt
from headgate_workers.secrets import without_secrets

MAX_MESSAGE_CHARACTERS = 2048
_NO_INPUTS: Final[Mapping[str, Payload]] = MappingProxyType({})


class Outcome(NamedTuple):
    """A status with either a value or an error."""

    status: ExecutionStatus
    payload: Payload | None = None
    metadata_json: str = ""
    error: ExecutionError | None = None
    next_ids: tuple[str, ...] = ()
    """For plans: the chosen targets."""
    next_inputs: Mapping[str, Payload] = _NO_INPUTS
    """For plans: inputs that differ from the value, by task id."""


def failed(code: str, message: str, *, retryable: bool, exception_class: str = "") -> Outcome:
    """Return a failure; here its message is freed of the worker's secrets, capped and escaped."""
    return Outcome(
        ExecutionStatus.EXECUTION_STATUS_FAILED,
        error=ExecutionError(
            code=code,
            message=one_line(without_secrets(message)),
            exception_class=exception_class,
            retryable=retryable,
        ),
    )


def aborted(message: str) -> Outcome:
    """Return the outcome of a run that was cancelled because it is not wanted any more."""
    return _given_up("ABORTED", message)


def not_begun(halt: Halt) -> Outcome:
    """Return the outcome of work whose handler was not called: the gate counts it as no execution.

    What was PAUSED is given back: the gate keeps it, and dispatches it anew after the resume.
    """
    return _given_up("PAUSED" if halt is Halt.PAUSED else "NOT_BEGUN", halt.value)


def withdrawn() -> Outcome:
    """Return the outcome of a run that was announced and not begun: its input waits for another worker."""
    return _given_up("WITHDRAWN", "announced, but not begun: another worker will take it up")


def _given_up(code: str, message: str) -> Outcome:
    return Outcome(
        ExecutionStatus.EXECUTION_STATUS_ABORTED,
        error=ExecutionError(code=code, message=one_line(message), retryable=False),
    )


def failure_of(error: BaseException) -> Outcome:
    """Return what an exception of a handler, or of the way to it, is reported as."""
    name = one_line(type(error).__qualname__, 200)
    if isinstance(error, HandlerFailed):
        return failed(error.code, str(error), retryable=error.retryable, exception_class=name)
    if isinstance(error, BadRecord):
        return failed(error.reason, error.detail, retryable=False, exception_class=name)
    if isinstance(error, BlobUnavailable):
        return failed("BLOB_UNAVAILABLE", str(error), retryable=True, exception_class=name)
    return failed("HANDLER_ERROR", _words(error), retryable=True, exception_class=name)


def one_line(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return `text` capped, with line ends, control characters and direction marks escaped."""
    cut = text[: limit + 1]
    line = cut if cut.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in cut)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _words(error: BaseException) -> str:
    try:
        return str(error) or type(error).__qualname__
    except Exception:  # an exception class of the user may fail in its own __str__
        return type(error).__qualname__
