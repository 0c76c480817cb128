"""The account: settled spend, reserved spend, and the holds between them. Integers only, saturating."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from headgate_protos.v1 import common_pb2 as pb

MAX_AMOUNT = 2**62
"""Sums stop here, so that no total ever wraps or leaves the wire's int64."""
MAX_USAGE = 2**53
"""One execution that claims more, or less than nothing, is not believed."""


class Amount(NamedTuple):
    """Tokens and nano-USD that are reserved together."""

    tokens: int
    cost: int

    @property
    def is_zero(self) -> bool:
        """Whether nothing is reserved."""
        return self.tokens == 0 and self.cost == 0


NOTHING = Amount(0, 0)


@dataclass(slots=True)
class Charge:
    """What one run is charged, read once from its usage, added to every scope and compared with every cap.

    Not to be changed. No tuple: that would take twice as long to make, and longer to read.
    """

    tokens: int
    cost: int
    latency_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    payload_bytes: int
    """Size of what it made."""


SUMS = (
    "tokens",
    "cost",
    "latency_ms",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "payload_bytes",
)
"""Fields of a Spend that saturate."""


class Spend:
    """What was settled in one scope: sums, maxima and a count; and what is held open in it."""

    __slots__ = (
        "cached_tokens",
        "cost",
        "executions",
        "held_cost",
        "held_tokens",
        "input_tokens",
        "latency_ms",
        "max_cost",
        "max_latency_ms",
        "max_tokens",
        "open_holds",
        "output_tokens",
        "payload_bytes",
        "tokens",
    )

    FIELDS: ClassVar = (
        "executions",
        "tokens",
        "cost",
        "latency_ms",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "max_tokens",
        "max_cost",
        "max_latency_ms",
        "held_tokens",
        "held_cost",
        "open_holds",
        "payload_bytes",
    )
    """In the order of `state.proto`."""

    def __init__(self) -> None:
        self.executions = 0
        self.tokens = 0
        self.cost = 0
        self.latency_ms = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.max_tokens = 0
        self.max_cost = 0
        self.max_latency_ms = 0
        self.held_tokens = 0
        self.held_cost = 0
        self.open_holds = 0
        self.payload_bytes = 0

    def add(self, other: Spend) -> None:
        """Add the settled sums of a part."""
        self.executions = min(self.executions + other.executions, MAX_AMOUNT)
        self.tokens = min(self.tokens + other.tokens, MAX_AMOUNT)
        self.cost = min(self.cost + other.cost, MAX_AMOUNT)
        self.latency_ms = min(self.latency_ms + other.latency_ms, MAX_AMOUNT)
        self.payload_bytes = min(self.payload_bytes + other.payload_bytes, MAX_AMOUNT)

    def settle(self, other: Spend) -> None:
        """Add what was settled elsewhere, as if it had been settled here: maxima and the split, too."""
        self.add(other)
        self.input_tokens = min(self.input_tokens + other.input_tokens, MAX_AMOUNT)
        self.output_tokens = min(self.output_tokens + other.output_tokens, MAX_AMOUNT)
        self.cached_tokens = min(self.cached_tokens + other.cached_tokens, MAX_AMOUNT)
        self.max_tokens = max(self.max_tokens, other.max_tokens)
        self.max_cost = max(self.max_cost, other.max_cost)
        self.max_latency_ms = max(self.max_latency_ms, other.max_latency_ms)

    @property
    def is_near_the_end(self) -> bool:
        """Whether a sum has come to MAX_AMOUNT; after that it no longer says what its parts are together."""
        return any(getattr(self, name) >= MAX_AMOUNT for name in SUMS)

    def saturate(self) -> None:
        """Bring every sum back to MAX_AMOUNT."""
        for name in SUMS:
            setattr(self, name, min(getattr(self, name), MAX_AMOUNT))

    def add_difference(self, whole: Spend, dropped: Sequence[Spend]) -> None:
        """Add what is left of `whole` without some of its parts: less work than to add up all others."""
        self.executions += whole.executions - sum([part.executions for part in dropped])
        self.tokens += whole.tokens - sum([part.tokens for part in dropped])
        self.cost += whole.cost - sum([part.cost for part in dropped])
        self.latency_ms += whole.latency_ms - sum([part.latency_ms for part in dropped])
        self.payload_bytes += whole.payload_bytes - sum([part.payload_bytes for part in dropped])


def settle(whole: Spend, parts: Iterable[Spend], charge: Charge) -> bool:
    """Add what one run is charged to the tenant's account and to the scopes within it.

    For each event that is done for at least four scopes, so it is one loop without any call. No part has a
    sum above that of the whole, so as long as the whole is below the end none need be looked at; and what is
    0 in the charge is passed over: a plan has seldom used anything but time. Returns whether it has come to
    the end.
    """
    tokens, cost, latency, payload_bytes = charge.tokens, charge.cost, charge.latency_ms, charge.payload_bytes
    has_split = charge.input_tokens or charge.output_tokens or charge.cached_tokens
    for spend in (whole, *parts):
        spend.executions += 1
        spend.latency_ms += latency
        spend.payload_bytes += payload_bytes
        if latency > spend.max_latency_ms:
            spend.max_latency_ms = latency
        if tokens:
            spend.tokens += tokens
            if tokens > spend.max_tokens:
                spend.max_tokens = tokens
        if cost:
            spend.cost += cost
            if cost > spend.max_cost:
                spend.max_cost = cost
        if has_split:
            spend.input_tokens += charge.input_tokens
            spend.output_tokens += charge.output_tokens
            spend.cached_tokens += charge.cached_tokens
    # All at once, for nearly every event: an `or` of numbers is never less than any of them.
    sums = whole.tokens | whole.cost | whole.latency_ms | whole.payload_bytes | whole.executions
    if has_split:
        sums |= whole.input_tokens | whole.output_tokens | whole.cached_tokens
    if sums < MAX_AMOUNT:
        return False
    for spend in (whole, *parts):
        spend.saturate()
    return True


def is_believable(usage: pb.ResourceUsage) -> bool:
    """Whether every number is within 0 and MAX_USAGE."""
    return reading(usage, 0) is not None


def reading(usage: pb.ResourceUsage, payload_bytes: int) -> Charge | None:
    """Return the numbers of a usage and the size of what was made; None when a number cannot be."""
    tokens, cost, latency = usage.tokens_used, usage.cost_nano_usd, usage.latency_ms
    given, made, cached = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    # Negative when one of them is, and below a power of two when all of them are: one question for all six.
    if not 0 <= tokens | cost | latency | given | made | cached < MAX_USAGE:
        numbers = (tokens, cost, latency, given, made, cached)
        if min(numbers) < 0 or max(numbers) > MAX_USAGE:
            return None
    return Charge(tokens, cost, latency, given, made, cached, payload_bytes)


def unreported(hold: Amount, payload_bytes: int) -> Charge:
    """Return what a run is charged of which nothing is known: its hold."""
    return Charge(hold.tokens, hold.cost, 0, 0, 0, 0, payload_bytes)


def priced(charge: Charge, hold: Amount) -> Charge:
    """Return what a run is charged whose price is not known: not less than its hold."""
    # A handler that said nothing at all is charged the tokens, too.
    return replace(charge, cost=max(charge.cost, hold.cost), tokens=charge.tokens or hold.tokens)
