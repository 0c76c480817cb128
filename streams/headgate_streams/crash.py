"""Named places where a test may let a process die at once, as kill -9 would. Called by gate and workers."""

from __future__ import annotations

import os
from typing import Final

from headgate_streams.settings import FaultSettings

_FAULTS: Final = FaultSettings()
EXIT_CODE: Final = 137
"""What a shell reports for a process killed by signal 9."""


def crash_point(name: str) -> None:
    """End the process without cleaning up when this point was named; else do nothing.

    HEADGATE_CRASH_AT names a point from the beginning; the file HEADGATE_CRASH_FILE may name one at any time.
    """
    if _FAULTS.crash_at == name or (_FAULTS.crash_file is not None and _is_in_file(name)):
        os._exit(EXIT_CODE)


def _is_in_file(name: str) -> bool:
    path = _FAULTS.crash_file
    try:
        if path is None or path.read_text().strip() != name:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True
