"""The ledger kept a second time: who holds what, who was charged what. Shares nothing with the fold.

It knows the promise and nothing of how the gate keeps it: each unique run is charged once, its usage or, when
that is missing or nobody heard of the run again, its hold; a hold is open from its dispatch until exactly one
of those. What can still change a lifetime is kept; once it is closed its account is dropped.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from headgate_resilience.check.facts import Dispatch

LEASE_MS: Final = 10_000
GRACE_MS: Final = 300_000
MOST: Final = 2**62
"""Sums stop here."""
MOST_USAGE: Final = 2**53
"""A run that claims more is not believed."""
UNBEGUN: Final = ("PAUSED", "NOT_BEGUN", "WITHDRAWN")
"""Codes of a run that its worker did not begin."""

Hold = tuple[int, int]
Wake = Callable[[int, "Account", str], None]
"""(due, account, key): asks for `ring` when the log's clock reaches `due`."""
BURY: Final = ""
"""The key under which a closed lifetime is forgotten."""


class Sums:
    """What one scope was charged, and what is held open in it."""

    __slots__ = ("cost", "executions", "held_cost", "held_tokens", "latency", "open_holds", "tokens")

    def __init__(self) -> None:
        self.executions = 0
        self.tokens = 0
        self.cost = 0
        self.latency = 0
        self.open_holds = 0
        self.held_tokens = 0
        self.held_cost = 0

    @property
    def usage(self) -> tuple[int, int, int]:
        """Tokens, nano-USD, milliseconds."""
        return self.tokens, self.cost, self.latency

    @property
    def held(self) -> tuple[int, int, int]:
        """Open holds, tokens and nano-USD held."""
        return self.open_holds, self.held_tokens, self.held_cost

    def charge(self, tokens: int, cost: int, latency: int) -> None:
        """Add one run; sums saturate."""
        self.executions += 1
        self.tokens = min(self.tokens + tokens, MOST)
        self.cost = min(self.cost + cost, MOST)
        self.latency = min(self.latency + latency, MOST)

    def hold(self, hold: Hold, by: int) -> None:
        """Open (1) or close (-1) one hold."""
        self.open_holds += by
        self.held_tokens += by * hold[0]
        self.held_cost += by * hold[1]


class Work:
    """One dispatched execution and its announced runs."""

    __slots__ = (
        "due", "execution_id", "hold", "is_open", "node", "place", "runs", "timeout", "was_announced",
    )  # fmt: skip

    def __init__(self, given: Dispatch, place: tuple[int, int, int]) -> None:
        self.execution_id = given.execution_id
        self.node = given.node
        self.due = given.due_ms
        self.timeout = given.timeout_ms
        self.hold = given.hold
        self.place = place
        """Where its input lies: (number of the topic, partition, offset)."""
        self.was_announced = False
        self.is_open = True
        self.runs: dict[str, tuple[int, int]] = {}
        """By run id: (end of the lease, end of the patience)."""


class Account:
    """The account of one lifetime."""

    __slots__ = (
        "_wake",
        "above",
        "charged",
        "closing",
        "ended",
        "holds",
        "orphans",
        "sums",
        "tenant",
        "works",
    )

    def __init__(self, tenant: Sums, above: Account | None, wake: Wake) -> None:
        self.tenant = tenant
        self.above = above
        """The lifetime whose sub-graph this one is; its sums contain this one's."""
        self._wake = wake
        self.sums = Sums()
        self.works: dict[str, Work] = {}
        self.holds: dict[str, Hold] = {}
        """By run id, or by execution id while no run has taken it."""
        self.orphans: dict[str, tuple[int, bool]] = {}
        """By the same keys: (when it is closed, whether a run had begun)."""
        self.charged: dict[str, int] = {}
        """Unique runs that are paid: checksum of the record that reported it, -1 for one paid at its hold."""
        self.ended = 0
        self.closing = 0

    # -- what happens ------------------------------------------------------------------------------

    def dispatch(self, work: Work) -> None:
        """A hold is opened."""
        self.works[work.execution_id] = work
        self._open(work.execution_id, work.hold)
        self._wake(work.due, self, work.execution_id)

    def started(self, execution_id: str, run_id: str, hold: Hold, clock: int) -> None:
        """A run takes the hold of its execution, or opens one of its own."""
        work = self.works.get(execution_id)
        if run_id in self.charged or run_id in self.orphans or (work and run_id in work.runs):
            return
        if execution_id in self.holds:
            self.holds[run_id] = self.holds.pop(execution_id)
        else:
            self._open(run_id, hold)
        if work is not None and work.is_open:
            work.was_announced = True
            work.runs[run_id] = (clock + LEASE_MS, clock + work.timeout + 2 * LEASE_MS)
            self._wake(clock + LEASE_MS, self, execution_id)
            return
        self.orphans.pop(execution_id, None)
        self._orphan(run_id, clock, began=True)
        owner: Account | None = self
        while owner is not None:
            if owner.ended:
                owner.closing = max(owner.closing, clock + GRACE_MS)
            owner = owner.above

    def beat(self, execution_id: str, run_id: str, usage: Any, clock: int) -> bool:
        """Renew a lease; return whether the run now holds more."""
        work = self.works.get(execution_id)
        if work is None or not work.is_open or run_id not in work.runs:
            return False
        work.runs[run_id] = (clock + LEASE_MS, work.runs[run_id][1])
        tokens, cost = self.holds[run_id]
        if not is_believable(usage) or (usage.tokens_used <= tokens and usage.cost_nano_usd <= cost):
            return False
        self._shut(run_id)
        self._open(run_id, (max(tokens, usage.tokens_used), max(cost, usage.cost_nano_usd)))
        return True

    def result(self, execution: Any, record: bytes, clock: int, hold: Hold) -> str:
        """Settle one result: `accepted`, `late`, `repeat`, `conflict` or `withdrawn`.

        `hold` is what the node reserves, for a run whose own hold is gone.
        """
        headers = execution.headers
        run_id, checksum = headers.run_id, zlib.crc32(record)
        paid = self.charged.get(run_id)
        if paid is not None:
            return "repeat" if paid == checksum else "conflict"
        work = self.works.get(headers.execution_id)
        if work is not None:
            work.runs.pop(run_id, None)
        key = run_id if run_id in self.holds else headers.execution_id
        own = self._shut(key) if key in self.holds else None
        self.orphans.pop(key, None)
        self.charged[run_id] = checksum
        usage = execution.resource_usage if execution.HasField("resource_usage") else None
        if was_not_begun(execution, usage):
            return self._unbegun(work, own, execution.result.error.code, clock)
        self._pay(*_charge(usage, own or hold))
        if work is None or not work.is_open:
            return "late"
        self.close(work, clock)
        return "accepted"

    def _unbegun(self, work: Work | None, hold: Hold | None, code: str, clock: int) -> str:
        """A run that was never one costs nothing; another run of the execution may go on."""
        if work is None or not work.is_open or work.runs:
            return "late"
        if code == "WITHDRAWN":
            if hold is not None:
                self._open(work.execution_id, hold)
            self._wake(work.due, self, work.execution_id)
            return "withdrawn"
        self.close(work, clock)
        return "given back"

    def close(self, work: Work, clock: int) -> None:
        """The execution has its result: its other runs are orphans, a hold that no run took is let go."""
        work.is_open = False
        self._orphan_runs(work, clock)
        if work.execution_id in self.holds:
            self._shut(work.execution_id)

    def abandon(self, work: Work, clock: int) -> None:
        """Nobody wants the result any more: what may still run keeps its hold for a while."""
        work.is_open = False
        self._orphan_runs(work, clock)
        if work.execution_id in self.holds:
            self._orphan(work.execution_id, clock, began=False)

    def end(self, clock: int) -> None:
        """The lifetime is over."""
        if self.ended:
            return
        self.ended, self.closing = clock, clock + GRACE_MS
        for work in self.works.values():
            if work.is_open:
                self.abandon(work, clock)
        self._wake(self.closing, self, BURY)

    # -- time --------------------------------------------------------------------------------------

    def ring(self, key: str, clock: int) -> bool:
        """Look at what may be due under a key; return whether the lifetime is closed for good."""
        if key == BURY:
            if clock < self.closing:
                self._wake(self.closing, self, BURY)
            # Its holds are those of what is below it, too; the last one to close wakes it again.
            return clock >= self.closing and not self.sums.open_holds
        orphan = self.orphans.get(key)
        if orphan is not None:
            self._close_orphan(key, *orphan, clock)
            return False
        work = self.works.get(key)
        if work is not None and work.is_open:
            self._expire(work, clock)
        return False

    def _close_orphan(self, key: str, due: int, began: bool, clock: int) -> None:
        if clock < due:
            return
        del self.orphans[key]
        tokens, cost = self._shut(key)
        if began:
            self.charged[key] = -1
            self._pay(tokens, cost, 0)

    def _expire(self, work: Work, clock: int) -> None:
        had_runs = bool(work.runs)
        for run_id, ends in list(work.runs.items()):
            if min(ends) <= clock:
                del work.runs[run_id]
                self._orphan(run_id, clock, began=True)
        if work.runs:
            self._wake(min(min(ends) for ends in work.runs.values()), self, work.execution_id)
        elif had_runs or clock >= work.due:
            self.abandon(work, clock)

    def _orphan_runs(self, work: Work, clock: int) -> None:
        for run_id in work.runs:
            self._orphan(run_id, clock, began=True)
        work.runs = {}

    def _orphan(self, key: str, clock: int, *, began: bool) -> None:
        self.orphans[key] = (clock + GRACE_MS, began)
        self._wake(clock + GRACE_MS, self, key)

    # -- every scope -------------------------------------------------------------------------------

    def _open(self, key: str, hold: Hold) -> None:
        self.holds[key] = hold
        self.tenant.hold(hold, 1)
        owner: Account | None = self
        while owner is not None:
            owner.sums.hold(hold, 1)
            owner = owner.above

    def _shut(self, key: str) -> Hold:
        hold = self.holds.pop(key)
        self.tenant.hold(hold, -1)
        owner: Account | None = self
        while owner is not None:
            owner.sums.hold(hold, -1)
            if owner.ended and not owner.sums.open_holds:
                self._wake(owner.closing, owner, BURY)
            owner = owner.above
        return hold

    def _pay(self, tokens: int, cost: int, latency: int) -> None:
        self.tenant.charge(tokens, cost, latency)
        owner: Account | None = self
        while owner is not None:
            owner.sums.charge(tokens, cost, latency)
            owner = owner.above


def is_believable(usage: Any) -> bool:
    """Whether a usage can be: no number below 0 or absurdly high."""
    return all(
        0 <= number <= MOST_USAGE
        for number in (
            usage.tokens_used,
            usage.cost_nano_usd,
            usage.latency_ms,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
        )
    )


def was_not_begun(execution: Any, usage: Any) -> bool:
    """Whether a worker says that it did not begin the run: ABORTED (5), with such a code, for nothing."""
    return (
        execution.headers.status == 5
        and execution.result.error.code in UNBEGUN
        and usage is not None
        and not (usage.tokens_used or usage.cost_nano_usd or usage.latency_ms or usage.unpriced)
    )


def _charge(usage: Any, hold: Hold) -> tuple[int, int, int]:
    """Return what one run is charged: its usage, and the hold for what is missing, unpriced or cannot be."""
    if usage is None or not is_believable(usage):
        return hold[0], hold[1], 0
    if not usage.unpriced:
        return usage.tokens_used, usage.cost_nano_usd, usage.latency_ms
    return usage.tokens_used or hold[0], max(usage.cost_nano_usd, hold[1]), usage.latency_ms
