"""Steps on a log of N and of 4N records, each in a process of its own: what `make bench-audit` measures with.

A process of its own has a peak memory of its own. Times are CPU time. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from headgate_guardrails.folding import FOLD

Step = Callable[[Path, int], None]
"""Does one thing in a folder, with so many records."""
FILL = "fill"
"""The step that makes the log; it comes first, and is not shown."""


def run(module: str, about: str | None, steps: Mapping[str, Step], records: int) -> None:
    """Print a line for each step and size; `module` is who calls this, and is started again for each step."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--records", type=int, default=records, help=f"N (default {records:,})")
    parser.add_argument("--step", choices=steps, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        _measured(steps[given.step], given.folder, given.records)
        return
    print("the fold is", FOLD)
    print(f"{'step':8} {'records':>9} {'records/s of CPU':>17} {'peak RSS':>10} {'of it begun with':>17}")
    for size in (given.records, 4 * given.records):
        with tempfile.TemporaryDirectory() as scratch:
            for step in steps:
                one = _in_a_process(module, step, Path(scratch), size)
                if step != FILL:
                    memory = f"{one['peak_kib'] / 1024:6.1f} MiB {one['before_kib'] / 1024:13.1f} MiB"
                    print(f"{step:8} {size:9,} {size / one['seconds']:17,.0f} {memory}", flush=True)


def _measured(step: Step, folder: Path, records: int) -> None:
    """Do one step in this process and print what it took."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.process_time()
    step(folder, records)
    seconds = time.process_time() - began_s
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"seconds": seconds, "before_kib": before_kib, "peak_kib": peak_kib}))


def _in_a_process(module: str, step: str, folder: Path, records: int) -> dict[str, float]:
    """Do one step in a process of its own; return what it took."""
    command = [sys.executable, "-m", module, "--records", str(records)]
    done = subprocess.run(
        [*command, "--step", step, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, timeout=600
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
