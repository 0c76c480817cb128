"""Which faults the tests inject, and in which rounds: those of one round at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from headgate_resilience.chaos.faults.catalogue import named
from headgate_resilience.chaos.faults.fault import Fault

WORKER_DEATHS = (
    "F1-kill",
    "F1-worker-before-result",
    "F1-kill",
    "F1-worker-after-result",
    "F1-worker-before-run",
    "F1-kill",
    "F1-worker-before-commit",
    "F1-worker-after-started",
)
REPEATS = 5
"""How often a gate dies at each step."""


def _rounds(*lines: str) -> Iterator[list[Fault]]:
    for line in lines:
        yield [fault for name in line.split() for fault in named([name])]


def deaths() -> Iterator[list[Fault]]:
    """Yield rounds in which a gate dies at every step five times, and a worker twenty times."""
    worker = cycle(WORKER_DEATHS)
    for _ in range(REPEATS):
        yield from _rounds(
            f"F2-after-fold {next(worker)}",
            f"F2-after-produce {next(worker)}",
            f"F2-after-flush {next(worker)}",
            "F2-after-commit",
            f"F2-during-checkpoint {next(worker)}",
            "F2-during-restore",
        )


def everything_else() -> Iterator[list[Fault]]:
    """Yield the rounds of the other faults that a store over HTTP allows."""
    yield from _rounds(
        "F3-gate F3-worker",
        "F3-gate",
        "F4-upgrade",
        "F4-unknown",
        "F5-term",
        "F5-kill",
        "F6-gate-up F6-worker-both",
        "F6-gate-both F6-worker-down",
        "F6-everybody",
        "F6-brokerless",
        "F7-produce-gate F7-produce-worker",
        "F7-commit-gate F7-commit-worker F7-put",
        "F9-twice F9-replay",
        "F9-offsets",
        "F10-shuffled F10-nobody",
        "F11-poison",
        "F12-down",
        "F12-error F13-flipped",
        "F12-truncated",
        "F12-corrupt",
        "F20-fold",
        "F21-forged",
    )


def in_files() -> Iterator[list[Fault]]:
    """Yield the rounds that need a store of files, and what is done to topics beside the run."""
    yield from _rounds(
        "F12-disk-full",
        "F12-no-directory",
        "F19-partitions F19-expired",
        "F19-remade F19-retention",
        "F13-deleted",
        "F13-truncated",
    )


def count(rounds: Sequence[Sequence[Fault]]) -> dict[str, int]:
    """Return how often each fault is to be injected."""
    counts: dict[str, int] = {}
    for one in rounds:
        for fault in one:
            counts[fault.name] = counts.get(fault.name, 0) + 1
    return counts
