"""What one run uses, added up while it goes on. Written by handlers, read by heartbeats and reports."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_CEILING, Decimal

from headgate_protos.v1 import common_pb2

MAX_AMOUNT = 2**62
"""Sums stay here; more is a fault of the handler, and the cap of every policy is far below."""


class UsageMeter:
    """Sums of one run. Thread-safe; amounts only grow.

    A run whose node declares a limit and whose handler never says anything is reported as unpriced, and
    the gate settles it at what it had reserved: `add(tokens_used=0)` says that nothing was used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: common_pb2.ResourceUsage | None = None
        self._open_calls = 0
        self.is_touched = False
        """Whether the handler has said anything yet."""

    def add(
        self,
        *,
        tokens_used: int | None = None,
        cost_usd: float | str | Decimal | None = None,
        cost_nano_usd: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        model: str = "",
        price_table: str = "",
        unpriced: bool = False,
    ) -> None:
        """Add one call; `tokens_used` is input + output when it is not given, `cost_usd` is rounded up.

        Raises ValueError for amounts that are negative, not finite or absurd; then nothing is added.
        """
        tokens = input_tokens + output_tokens if tokens_used is None else tokens_used
        cost = cost_nano_usd + (0 if cost_usd is None else nano_usd(cost_usd))
        amounts = {
            "tokens_used": tokens,
            "cost_nano_usd": cost,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cached_tokens": cached_tokens,
        }
        for name, amount in amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= MAX_AMOUNT:
                raise ValueError(f"usage: {name} is a whole number of at least 0, not {amount!r:.40}")
        with self._lock:
            self.is_touched = True
            sums = self._sums = self._sums or common_pb2.ResourceUsage()
            for name, amount in amounts.items():
                setattr(sums, name, min(getattr(sums, name) + amount, MAX_AMOUNT))
            sums.model = model or sums.model
            sums.price_table = price_table or sums.price_table
            sums.unpriced = sums.unpriced or unpriced

    def spent(self) -> tuple[int, int]:
        """Return (tokens, nano-USD) so far: what caps are about while the run goes on."""
        with self._lock:
            return (self._sums.tokens_used, self._sums.cost_nano_usd) if self._sums is not None else (0, 0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surround a call that is billed: while it is open, or after it was torn off, the cost is unknown."""
        with self._lock:
            self.is_touched = True
            self._open_calls += 1
        yield
        # Not in a finally: a call that was cancelled half-way has cost something that nobody told us.
        self.close_call()

    def close_call(self) -> None:
        """End an open call whose cost is now known (or known to be nothing)."""
        with self._lock:
            self._open_calls = max(0, self._open_calls - 1)

    def snapshot(self, latency_ms: int, *, must_be_told: bool = False) -> common_pb2.ResourceUsage:
        """Return the sums so far; `must_be_told` makes a run that never said anything unpriced."""
        usage = common_pb2.ResourceUsage()
        self.write_to(usage, latency_ms, must_be_told=must_be_told)
        return usage

    def write_to(
        self, usage: common_pb2.ResourceUsage, latency_ms: int, *, must_be_told: bool = False
    ) -> None:
        """As `snapshot`, into an empty message."""
        with self._lock:
            if self._sums is not None:
                usage.CopyFrom(self._sums)
            if self._open_calls > 0 or (must_be_told and not self.is_touched):
                usage.unpriced = True
        usage.latency_ms = max(0, latency_ms)


def nano_usd(amount: float | str | Decimal) -> int:
    """Return USD as nano-USD, rounded up; raises ValueError for NaN, infinities and negative amounts."""
    if isinstance(amount, float) and not math.isfinite(amount):
        raise ValueError(f"usage: cost_usd is a number of at least 0, not {amount!r}")
    try:
        nano = Decimal(str(amount)) * 1_000_000_000
        whole = int(nano.to_integral_value(ROUND_CEILING))
    except (ArithmeticError, ValueError):
        raise ValueError(f"usage: cost_usd is a number of at least 0, not {amount!r:.40}") from None
    if whole < 0:
        raise ValueError(f"usage: cost_usd is a number of at least 0, not {amount!r:.40}")
    return whole
