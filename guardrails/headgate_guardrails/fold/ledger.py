"""The account: settled spend, reserved spend, and the holds between them. Integers only, saturating."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Charge(NamedTuple):
    """What one run is charged, read once from its usage, added to every scope and compared with every cap."""

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

    FIELDS = (
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

    @property
    def is_near_the_end(self) -> bool:
        """Whether a sum has come to MAX_AMOUNT; after that it no longer says what its parts are together."""
        # All at once, for nearly every event: an `or` of numbers is never less than any of them.
        sums = self.tokens | self.cost | self.latency_ms | self.payload_bytes | self.input_tokens
        return (sums | self.output_tokens | self.cached_tokens | self.executions) >= MAX_AMOUNT

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


def settle(whole: Spend, parts: Iterable[Spend], charge: Charge) -> None:
    """Add what one run is charged to the tenant's account and to the scopes within it.

    For each event that is done six times with a few rules, so it is one loop without any call. No part has a
    sum above that of the whole, so as long as the whole is below the end none need be looked at; and what is
    0 in the charge is passed over: a plan has seldom used anything but time.
    """
    tokens, cost, latency, input_tokens, output_tokens, cached_tokens, payload_bytes = charge
    has_split = input_tokens or output_tokens or cached_tokens
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
            spend.input_tokens += input_tokens
            spend.output_tokens += output_tokens
            spend.cached_tokens += cached_tokens
    if whole.is_near_the_end:
        for spend in (whole, *parts):
            spend.saturate()


class Window:
    """A tenant's spend in the window of one rule: the tumbling one of now, or a sliding one's last parts."""

    __slots__ = ("buckets", "index", "length_ms", "part_ms", "sliding", "spend", "until")

    PARTS = 60
    """Parts of a sliding window: it forgets in steps of a sixtieth of its length."""

    def __init__(self, length_ms: int, sliding: bool) -> None:
        self.length_ms = length_ms
        self.sliding = sliding
        self.part_ms = -(-length_ms // self.PARTS) if sliding else length_ms
        """Length of one part: the window itself when it is tumbling."""
        self.index = -1
        self.until = 0
        """Log time at which something is forgotten next, 0 for at once."""
        self.spend = Spend()
        """What counts as of the last `at`."""
        self.buckets: dict[int, Spend] = {}
        """For a sliding window, the spend of each part, oldest first."""

    def at(self, clock_ms: int) -> Spend:
        """Return what counts at `clock_ms`; what is too old is dropped."""
        if clock_ms < self.until:
            return self.spend
        self.index = index = clock_ms // self.part_ms
        self.until = (index + 1) * self.part_ms
        if not self.sliding:
            self.spend = Spend()
        else:
            self._forget(index - self.PARTS)
        return self.spend

    def _forget(self, oldest: int) -> None:
        """Drop the parts before `oldest`, which counts whole until its last moment is out."""
        gone = [index for index in self.buckets if index < oldest]
        if not gone:
            return
        dropped = [self.buckets.pop(index) for index in gone]
        before, self.spend = self.spend, Spend()
        if before.is_near_the_end:
            for part in self.buckets.values():
                self.spend.add(part)
        else:
            self.spend.add_difference(before, dropped)

    def scopes(self, clock_ms: int) -> tuple[Spend, ...]:
        """Return what a run that is settled at `clock_ms` is added to."""
        spend = self.spend if clock_ms < self.until else self.at(clock_ms)
        if not self.sliding:
            return (spend,)
        part = self.buckets.get(self.index)
        if part is None:
            part = self.buckets[self.index] = Spend()
        return spend, part


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
    return charge._replace(cost=max(charge.cost, hold.cost), tokens=charge.tokens or hold.tokens)
