"""What figures belong to: the machine, the versions, the commit, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headgate_guardrails.folding import FOLD


def machine() -> dict[str, str]:
    """Return what a reader needs to know about where a figure was taken."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    found = {
        "machine": f"{os.cpu_count()} x {_processor()}, {_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": load,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "fold": FOLD,
        "commit": _commit(),
        "command": " ".join(["headgate", *sys.argv[1:]]),
    }
    for package in ("headgate", "confluent-kafka", "protobuf", "cel-expr-python", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    import psutil

    return float(psutil.virtual_memory().total) / 2**30


@cache
def _commit() -> str:
    here = Path(__file__).parent
    said = _git(here, "rev-parse", "--short", "HEAD")
    changed = " and changes" if said and _git(here, "status", "--short", "--untracked-files=no") else ""
    return f"{said or 'unknown'}{changed}"


def _git(where: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *words], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
