"""Every fault there is, and which of them a name means."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from headgate_graphs.errors import UserError
from headgate_resilience.chaos.faults import (
    brokers,
    clocks,
    load,
    network,
    processes,
    records,
    storage,
    topics,
    trust,
)
from headgate_resilience.chaos.faults.fault import Fault, registered

AREAS = (processes, network, brokers, records, storage, clocks, load, trust, topics)
"""Imported so that they register what they have."""
MIX = "mix"
CALM = "none"


def faults() -> list[Fault]:
    """Return all, by id and name."""
    return registered()


def named(names: Sequence[str]) -> list[Fault]:
    """Return what the names mean: an id all of its kind, a full name one, `mix` and F22 all that a mix takes.

    Raises UserError for a name that means nothing; `none` means no fault.
    """
    found: list[Fault] = []
    for name in names:
        found += _meant(name)
    return list(dict.fromkeys(found))


def _meant(name: str) -> list[Fault]:
    every, wanted = faults(), name.lower()
    if wanted == CALM:
        return []
    if wanted in (MIX, "f22"):
        return [one for one in every if one.weight]
    meant = [one for one in every if wanted in (one.id.lower(), one.name.lower())]
    if not meant:
        known = ", ".join(dict.fromkeys(one.id for one in every))
        raise UserError(f"there is no fault {name[:64]!a}: {known}, one by its full name, mix or none")
    return meant


def drawn(faults: Sequence[Fault], dice: random.Random, at_once: int) -> Iterator[list[Fault]]:
    """Yield rounds for ever: each fault once in a random order, then by weight."""
    first = list(faults)
    dice.shuffle(first)
    while True:
        round_: list[Fault] = []
        while len(round_) < at_once:
            one = first.pop() if first else dice.choices(faults, [max(f.weight, 1) for f in faults])[0]
            round_.append(one)
        yield round_
