"""Reads what the user gives: JSON, a file or plain text for a run; a log that must be there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from headgate_graphs.documents import read_file
from headgate_graphs.errors import UserError
from headgate_streams.limits import MAX_DEPTH, is_too_deep
from headgate_streams.settings import StreamSettings

MAX_INPUT_BYTES = 67_108_864
"""The largest input that a command reads (64 MiB); a handler can fetch what is larger."""
_JSON_BEGINS = frozenset('{["')


def read_input(given: str | None) -> Any:
    """Return the JSON value of `given`: None for nothing, `@path` for a file, else JSON or plain text.

    Text that begins like JSON ({, [ or ") must be JSON; a number, true, false or null is read as JSON; all
    else is a string. Raises UserError with line and column, or naming the file.
    """
    if given is None:
        return None
    if given.startswith("@"):
        path = Path(given[1:])
        return _parse(_read(path), str(path), strict=path.suffix == ".json")
    return _parse(given, "--input", strict=False)


def read_json(given: str, where: str) -> Any:
    """Return the JSON value of `given`; raises UserError naming `where`, line and column."""
    return _parse(given, where, strict=True)


def _read(path: Path) -> str:
    return read_file(path, str(path), UserError, MAX_INPUT_BYTES)


def _parse(text: str, where: str, *, strict: bool) -> Any:
    if is_too_deep(text) and (strict or text.lstrip()[:1] in _JSON_BEGINS):
        raise UserError(f"{where}: not JSON that travels: nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        if not strict and text.lstrip()[:1] not in _JSON_BEGINS:
            return text
        raise UserError(f"{where}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        if not strict and text.lstrip()[:1] not in _JSON_BEGINS:
            return text
        raise UserError(f"{where}: not JSON: {error}") from None
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is too large a number")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def need_log(settings: StreamSettings) -> None:
    """Raise UserError when the embedded log is meant and there is none: looking at it must not make one."""
    if settings.is_embedded and not settings.in_memory:
        need_directory(settings.local, "no log is in")


def need_directory(path: Path, what: str) -> None:
    """Raise UserError when there is no such directory; `what` says whose it should be."""
    if not path.is_dir():
        raise UserError(f"{what} {path}: there is no such directory")
