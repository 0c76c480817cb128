"""The ledger kept a second time: who holds what, who was charged what. Shares nothing with the fold.

It knows the rules and nothing of how the fold keeps them: a run is charged once, its usage or, when that is
missing or nobody ever heard of it again, its hold; a hold is open from dispatch until exactly one of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from headgate_protos.v1 import common_pb2 as pb

LEASE_MS = 10_000
GRACE_MS = 300_000
MAX_USAGE = 2**53

Hold = tuple[int, int]
"""Tokens and nano-USD."""


@dataclass(slots=True)
class Sums:
    """What one scope was charged, and what is held open in it."""

    executions: int = 0
    tokens: int = 0
    cost: int = 0
    latency: int = 0
    held_tokens: int = 0
    held_cost: int = 0
    open_holds: int = 0
    extra_tokens: int = 0
    """Of `tokens`, what runs spent that nobody asked for: a second run of an execution."""
    extra_cost: int = 0
    extra_executions: int = 0

    @property
    def held(self) -> tuple[int, int, int]:
        """Open holds, tokens and cost held."""
        return self.open_holds, self.held_tokens, self.held_cost

    def charge(self, tokens: int, cost: int, latency: int, *, extra: bool) -> None:
        self.executions += 1
        self.tokens += tokens
        self.cost += cost
        self.latency += latency
        if extra:
            self.extra_tokens += tokens
            self.extra_cost += cost
            self.extra_executions += 1


@dataclass(slots=True)
class Work:
    """One dispatched execution: open until its first result, its time is up, or its lifetime ends."""

    execution_id: str
    node: str
    due: int
    timeout: int
    leased: bool
    human: bool
    hold: Hold
    open: bool = True
    runs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By run id: (end of the lease, end of the patience)."""
    first_run: str = ""


@dataclass(slots=True)
class Orphan:
    """A hold of somebody nobody waits for."""

    due: int
    began: bool
    extra: bool


Charge = Callable[[int, int, int, bool], None]
"""(tokens, cost, latency, extra): tells the tenant's scopes of a charge."""


class LifeAccount:
    """The account of one lifetime."""

    def __init__(self, lifetime_id: str, tenant: Sums, above: LifeAccount | None, on_charge: Charge) -> None:
        self.lifetime_id = lifetime_id
        self.sums = Sums()
        self.tenant = tenant
        self.above = above
        """The account of the lifetime whose sub-graph this one is; its sums contain this one's."""
        self.on_charge = on_charge
        self.holds: dict[str, Hold] = {}
        """By run id, or by execution id while no run has taken it."""
        self.orphans: dict[str, Orphan] = {}
        self.works: dict[str, Work] = {}
        self.open: dict[str, Work] = {}
        self.charged: dict[str, bytes] = {}
        """Record that reported each charged run; empty for one that was charged its hold."""
        self.extra: set[str] = set()
        self.closed_at = 0
        """When time last closed an orphan."""
        self.ended = 0
        self.closing = 0

    def is_buried(self, clock: int) -> bool:
        """Whether the lifetime may be forgotten by now."""
        return bool(self.ended) and clock >= self.closing

    def dispatch(self, work: Work) -> None:
        self.works[work.execution_id] = self.open[work.execution_id] = work
        self._take(work.execution_id, work.hold)

    def advance(self, clock: int) -> None:
        """Let time pass: leases end, waits end, orphans are closed."""
        for work in list(self.open.values()):
            self._expire(work, clock)
        for key in [key for key, orphan in self.orphans.items() if orphan.due <= clock]:
            orphan = self.orphans.pop(key)
            tokens, cost = self._give(key)
            for owner in self.owners():
                owner.closed_at = clock
            if orphan.began:
                self.charged[key] = b""
                self._charge(tokens, cost, 0, extra=orphan.extra)

    def _expire(self, work: Work, clock: int) -> None:
        had_runs = bool(work.runs)
        for run_id, ends in list(work.runs.items()):
            if min(ends) <= clock:
                del work.runs[run_id]
                self._orphan(run_id, clock, began=True)
        if work.runs or (not had_runs and clock < work.due):
            return
        self.abandon(work, clock)

    def _orphan(self, key: str, clock: int, *, began: bool) -> None:
        self.orphans[key] = Orphan(clock + GRACE_MS, began, key in self.extra)

    def started(self, execution_id: str, run_id: str, hold: Hold, clock: int) -> None:
        work = self.works.get(execution_id)
        if run_id in self.charged or run_id in self.orphans or (work and run_id in work.runs):
            return
        if execution_id in self.holds:
            self.holds[run_id] = self.holds.pop(execution_id)
        else:
            self._take(run_id, hold)
            self.extra.add(run_id)
        if work is not None and execution_id in self.open:
            work.first_run = work.first_run or run_id
            work.runs[run_id] = (clock + LEASE_MS, clock + work.timeout + 2 * LEASE_MS)
            return
        self.orphans.pop(execution_id, None)
        self._orphan(run_id, clock, began=True)
        if self.ended:
            self.closing = max(self.closing, clock + GRACE_MS)

    def beat(self, execution_id: str, run_id: str, usage: pb.ResourceUsage, clock: int) -> None:
        work = self.open.get(execution_id)
        if work is None or run_id not in work.runs:
            return
        work.runs[run_id] = (clock + LEASE_MS, work.runs[run_id][1])
        if is_believable(usage):
            tokens, cost = self._give(run_id)
            self._take(run_id, (max(tokens, usage.tokens_used), max(cost, usage.cost_nano_usd)))

    def result(
        self,
        execution_id: str,
        run_id: str,
        usage: pb.ResourceUsage | None,
        value: bytes,
        clock: int,
        *,
        unbegun: str = "",
    ) -> str:
        """Settle one result; say whether it is `accepted`, `late`, a `repeat` or a `conflict`.

        An `unbegun` run (the code says why) was never one: it costs nothing, and another run of the
        execution may go on. One that is withdrawn leaves its hold to the next.
        """
        if run_id in self.charged:
            return "repeat" if self.charged[run_id] == value else "conflict"
        work = self.works[execution_id]
        is_open = execution_id in self.open
        extra = run_id in self.extra or work.first_run not in ("", run_id)
        work.runs.pop(run_id, None)
        key = run_id if run_id in self.holds else execution_id
        tokens, cost = self._give(key) if key in self.holds else work.hold
        self.orphans.pop(key, None)
        self.charged[run_id] = value
        if unbegun:
            return self._unbegun(work, run_id, (tokens, cost), unbegun, clock)
        work.first_run = work.first_run or run_id
        if usage is None or not is_believable(usage):
            self._charge(tokens, cost, 0, extra=extra)
        else:
            cost = max(cost, usage.cost_nano_usd) if usage.unpriced else usage.cost_nano_usd
            said_nothing = usage.unpriced and not usage.tokens_used
            self._charge(tokens if said_nothing else usage.tokens_used, cost, usage.latency_ms, extra=extra)
        if not is_open:
            return "late"
        self.close(work, clock)
        return "accepted"

    def _unbegun(self, work: Work, run_id: str, hold: Hold, code: str, clock: int) -> str:
        first, work.first_run = work.first_run, work.first_run or run_id
        if not work.open or work.runs:
            return "late"
        if code == "WITHDRAWN":
            work.first_run = "" if first == run_id else first
            self._take(work.execution_id, hold)
            return "withdrawn"
        self.close(work, clock)
        return "accepted"

    def close(self, work: Work, clock: int) -> None:
        """The execution has its result: other runs of it are orphans, what nobody took is let go."""
        self._close(work)
        for run_id in work.runs:
            self._orphan(run_id, clock, began=True)
        work.runs = {}
        if work.execution_id in self.holds:
            self._give(work.execution_id)

    def end(self, clock: int) -> None:
        """The lifetime is over: whatever is open is an orphan."""
        self.ended, self.closing = clock, clock + GRACE_MS
        for work in list(self.open.values()):
            self.abandon(work, clock)

    def abandon(self, work: Work, clock: int) -> None:
        """Nobody wants the result any more: what may run keeps its hold for a while."""
        self._close(work)
        for run_id in work.runs:
            self._orphan(run_id, clock, began=True)
        work.runs = {}
        if work.execution_id not in self.holds:
            return
        if work.human:
            self._give(work.execution_id)
        else:
            self._orphan(work.execution_id, clock, began=False)

    @property
    def held(self) -> tuple[int, int, int]:
        """Open holds, tokens and cost held."""
        return self.sums.held

    def owners(self) -> list[LifeAccount]:
        """Return this account and those above it."""
        found: list[LifeAccount] = []
        one: LifeAccount | None = self
        while one is not None:
            found.append(one)
            one = one.above
        return found

    def _scopes(self) -> list[Sums]:
        return [*(owner.sums for owner in self.owners()), self.tenant]

    def _close(self, work: Work) -> None:
        work.open = False
        del self.open[work.execution_id]

    def _take(self, key: str, hold: Hold) -> None:
        self.holds[key] = hold
        for sums in self._scopes():
            sums.held_tokens += hold[0]
            sums.held_cost += hold[1]
            sums.open_holds += 1

    def _give(self, key: str) -> Hold:
        hold = self.holds.pop(key)
        for sums in self._scopes():
            sums.held_tokens -= hold[0]
            sums.held_cost -= hold[1]
            sums.open_holds -= 1
        return hold

    def _charge(self, tokens: int, cost: int, latency: int, *, extra: bool) -> None:
        for sums in self._scopes():
            sums.charge(tokens, cost, latency, extra=extra)
        self.on_charge(tokens, cost, latency, extra)


def is_believable(usage: pb.ResourceUsage) -> bool:
    """Whether a usage can be: no number below 0 or absurdly high."""
    numbers = (
        usage.tokens_used,
        usage.cost_nano_usd,
        usage.latency_ms,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
    )
    return all(0 <= number <= MAX_USAGE for number in numbers)
