"""`python -m headgate_resilience.chaos.skewed SECONDS …`: the command, with a clock that is wrong.

Everything in the process that asks `time.time` or `time.time_ns` gets so much more; what waits by the
monotonic clock is not touched. `datetime.now` reads the system's clock itself and stays right: so a process
also disagrees with itself, which no decision may notice either.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def skew(seconds: float) -> None:
    """Let this process believe that it is so many seconds later."""
    right, right_ns = time.time, time.time_ns
    ahead_ns = int(seconds * 1_000_000_000)
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + ahead_ns


def main() -> None:
    """Skew the clock and become the command."""
    skew(float(sys.argv[1]))
    command = Path(sys.executable).with_name("headgate")
    sys.argv = [str(command), *sys.argv[2:]]
    runpy.run_module("headgate", run_name="__main__")


if __name__ == "__main__":
    main()
