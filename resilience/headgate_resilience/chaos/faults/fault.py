"""What a fault is: a name, what it does, what it needs, and a function that injects it and heals it again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headgate_resilience.chaos.stage import Stage

Act = Callable[[Stage, random.Random], str]
"""Injects, waits, heals; returns one line on what it did. Bounded: every wait in it has an end."""

NETWORK: Final = "network"
"""The broker speaks in the clear, so that links can be put in front of it."""
SERVERS: Final = "servers"
"""Whoever runs chaos may end and start the brokers."""
S3: Final = "s3"
"""The blob store is reached over HTTP."""
FILES: Final = "files"
"""The blob store is a directory."""


@dataclass(frozen=True)
class Fault:
    """One way of breaking something."""

    id: str
    """F1 to F22, as users name it."""
    name: str
    """The id and which of its kind: `F2-after-fold`."""
    text: str
    """What it does, for people."""
    act: Act
    stalls: str = ""
    """Whose longest stall is its recovery time: `gate`, `worker` or both, with a space."""
    bound_s: float | None = None
    """How long that may be."""
    is_from_healing: bool = False
    """Whether it counts from when the fault is healed, as when what is broken is not ours."""
    needs: frozenset[str] = frozenset()
    weight: int = 2
    """How often a mix takes it; 0 for only when it is asked for."""


_ALL: Final[dict[str, Fault]] = {}


def fault(
    id: str,
    name: str,
    text: str,
    *,
    stalls: str = "",
    bound_s: float | None = None,
    is_from_healing: bool = False,
    needs: tuple[str, ...] = (),
    weight: int = 2,
) -> Callable[[Act], Act]:
    """Register a function as a fault; `name` is what stands behind the id."""

    def register(act: Act) -> Act:
        whole = f"{id}-{name}"
        _ALL[whole] = Fault(id, whole, text, act, stalls, bound_s, is_from_healing, frozenset(needs), weight)
        return act

    return register


def registered() -> list[Fault]:
    """Return what has been registered, by id and name."""
    return sorted(_ALL.values(), key=lambda one: (int(one.id[1:]), one.name))
