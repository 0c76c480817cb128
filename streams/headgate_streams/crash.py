"""Named places where a test may let a process die at once, as kill -9 would. Called by gate and workers."""

from __future__ import annotations

import os
from typing import Final

from headgate_streams.settings import FaultSettings

_CRASH_AT: Final = FaultSettings().crash_at
EXIT_CODE: Final = 137
"""What a shell reports for a process killed by signal 9."""


def crash_point(name: str) -> None:
    """End the process without cleaning up when HEADGATE_CRASH_AT names this point; else do nothing."""
    if _CRASH_AT is not None and name == _CRASH_AT:
        os._exit(EXIT_CODE)
