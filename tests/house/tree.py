"""Where the house stands: its root, its packages, its files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / "protos/headgate_protos",
    ROOT / "graphs/headgate_graphs",
    ROOT / "streams/headgate_streams",
    ROOT / "workers/headgate_workers",
    ROOT / "guardrails/headgate_guardrails",
    ROOT / "catalog/headgate_catalog",
    ROOT / "replay/headgate_replay",
    ROOT / "resilience/headgate_resilience",
    ROOT / "loadtest/headgate_loadtest",
    ROOT / "headgate",
]


def product_modules() -> Iterator[Path]:
    """Yield every module that was written by hand."""
    for package in PACKAGES:
        yield from (path for path in sorted(package.rglob("*.py")) if "_pb2" not in path.name)


def module_name(path: Path) -> str:
    """Return the dotted name by which a module of the product is imported."""
    package = next(package for package in PACKAGES if path.is_relative_to(package))
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def own_files() -> tuple[Path, ...]:
    """Return every file that git keeps or would keep, without generated and ignored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())
