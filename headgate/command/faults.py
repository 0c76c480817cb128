"""Every error of the command as one line on stderr and an exit code; `--debug` adds the trace."""

from __future__ import annotations

import enum
import sys
import traceback

from headgate_graphs.errors import BadRecord, CatalogUnavailable, HeadgateError, LogUnavailable, UserError


class ExitCode(enum.IntEnum):
    """What the command tells the shell."""

    COMPLETED = 0
    BROKEN = 1
    """Something failed that the user did not get wrong."""
    USER_ERROR = 2
    """Wrong input, or no broker: the line says what, where and what to do."""
    ABORTED = 3
    PAUSED = 4
    FAILED = 5
    UNFINISHED = 6
    """Still running when --timeout was over."""
    INTERRUPTED = 130


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, UserError | LogUnavailable | CatalogUnavailable | BadRecord):
        return ExitCode.USER_ERROR
    return ExitCode.BROKEN


def report(error: BaseException, *, debug: bool) -> int:
    """Write one line about `error` to stderr, and its trace when asked; return the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    complain(_line(error, debug=debug))
    return int(exit_code_of(error))


def complain(line: str) -> None:
    """Write one escaped line to stderr."""
    sys.stderr.write(f"headgate: {one_line(line)}\n")


def one_line(text: str) -> str:
    """Return `text` without control characters, so that nobody's input can write a second line or colours."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _line(error: BaseException, *, debug: bool) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = str(error) or type(error).__name__
    if isinstance(error, HeadgateError):
        return text
    hint = "" if debug else " (run it with --debug for the trace)"
    return f"unexpected {type(error).__name__}: {text}{hint}"
