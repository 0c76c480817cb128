"""The account: settled spend, reserved spend, and the holds between them. Integers only, saturating."""

from __future__ import annotations

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
    """What one run is charged, read once from its usage and added to every scope."""

    tokens: int
    cost: int
    latency_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    payload_bytes: int
    """Size of what it made."""


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

    def settle(self, charge: Charge) -> None:
        """Add what one run is charged."""
        tokens, cost, latency, input_tokens, output_tokens, cached_tokens, payload_bytes = charge
        self.executions += 1
        total = self.tokens + tokens
        self.tokens = total if total < MAX_AMOUNT else MAX_AMOUNT
        total = self.cost + cost
        self.cost = total if total < MAX_AMOUNT else MAX_AMOUNT
        total = self.latency_ms + latency
        self.latency_ms = total if total < MAX_AMOUNT else MAX_AMOUNT
        total = self.payload_bytes + payload_bytes
        self.payload_bytes = total if total < MAX_AMOUNT else MAX_AMOUNT
        if input_tokens or output_tokens or cached_tokens:
            self.input_tokens = min(self.input_tokens + input_tokens, MAX_AMOUNT)
            self.output_tokens = min(self.output_tokens + output_tokens, MAX_AMOUNT)
            self.cached_tokens = min(self.cached_tokens + cached_tokens, MAX_AMOUNT)
        if tokens > self.max_tokens:
            self.max_tokens = tokens
        if cost > self.max_cost:
            self.max_cost = cost
        if latency > self.max_latency_ms:
            self.max_latency_ms = latency

    def add(self, other: Spend) -> None:
        """Add the settled sums of a part."""
        for name in ("executions", "tokens", "cost", "latency_ms", "payload_bytes"):
            setattr(self, name, min(getattr(self, name) + getattr(other, name), MAX_AMOUNT))

    def hold(self, amount: Amount) -> None:
        """Reserve."""
        self.held_tokens += amount.tokens
        self.held_cost += amount.cost
        self.open_holds += 1

    def release(self, amount: Amount) -> None:
        """Close one hold, settled or not."""
        self.held_tokens -= amount.tokens
        self.held_cost -= amount.cost
        self.open_holds -= 1

    def usage(self) -> pb.ResourceUsage:
        """Return the settled sums as they are shown outside."""
        return pb.ResourceUsage(
            tokens_used=self.tokens,
            cost_nano_usd=self.cost,
            latency_ms=self.latency_ms,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
        )


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
        elif any(old < index - self.PARTS for old in self.buckets):
            # The oldest part counts whole until its last moment is out: never forgotten early.
            self.buckets = {k: v for k, v in self.buckets.items() if k >= index - self.PARTS}
            self.spend = Spend()
            for part in self.buckets.values():
                self.spend.add(part)
        return self.spend

    def settle(self, clock_ms: int, charge: Charge) -> None:
        """Add what one run is charged."""
        self.at(clock_ms).settle(charge)
        if self.sliding:
            part = self.buckets.get(self.index)
            if part is None:
                part = self.buckets[self.index] = Spend()
            part.settle(charge)


def is_believable(usage: pb.ResourceUsage) -> bool:
    """Whether every number is within 0 and MAX_USAGE."""
    return (
        0 <= usage.tokens_used <= MAX_USAGE
        and 0 <= usage.cost_nano_usd <= MAX_USAGE
        and 0 <= usage.latency_ms <= MAX_USAGE
        and 0 <= usage.input_tokens <= MAX_USAGE
        and 0 <= usage.output_tokens <= MAX_USAGE
        and 0 <= usage.cached_tokens <= MAX_USAGE
    )


def charged(usage: pb.ResourceUsage | None, hold: Amount) -> pb.ResourceUsage:
    """Return what a run is charged: its usage, and the hold for whatever is missing or unpriced."""
    if usage is None:
        return pb.ResourceUsage(tokens_used=hold.tokens, cost_nano_usd=hold.cost)
    if not usage.unpriced:
        return usage
    priced = pb.ResourceUsage()
    priced.CopyFrom(usage)
    priced.cost_nano_usd = max(usage.cost_nano_usd, hold.cost)
    if not usage.tokens_used:
        priced.tokens_used = hold.tokens  # a handler that said nothing at all
    return priced


def charge_of(usage: pb.ResourceUsage, payload_bytes: int = 0) -> Charge:
    """Return what a run is charged for its usage and the size of what it made."""
    return Charge(
        usage.tokens_used,
        usage.cost_nano_usd,
        usage.latency_ms,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        payload_bytes,
    )
