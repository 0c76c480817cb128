"""What is known of one partition while its log is walked: lifetimes, accounts, graphs, time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from headgate_resilience.check.findings import Findings
from headgate_resilience.check.model.ledger import Account, Sums
from headgate_resilience.check.model.life import Key, Life
from headgate_resilience.check.model.shape import Shape
from headgate_resilience.check.outputs import Outputs

HORIZON_MS = 86_400_000
"""How long an ended lifetime is remembered by the gate."""


class Closed:
    """What is left of a lifetime that nothing can change any more."""

    __slots__ = ("ended_ms", "status")

    def __init__(self, status: int, ended_ms: int) -> None:
        self.status = status
        self.ended_ms = ended_ms


class Partition:
    """One partition of the log."""

    def __init__(
        self, number: int, findings: Findings, outputs: Outputs, sums_of: Callable[[str], Sums]
    ) -> None:
        self.sums_of = sums_of
        """Gives the account of a tenant."""
        self.number = number
        self.findings = findings
        self.outputs = outputs
        self.clock = 0
        self.lives: dict[Key, Life] = {}
        self.leaving: dict[Key, Life] = {}
        """Lifetimes that this record's time has closed for good."""
        self.closed: dict[Key, Closed] = {}
        self.started: dict[Key, int] = {}
        """Offset of the first start of each lifetime that a client asked for."""
        self.forks: dict[Key, Any] = {}
        """What those begin with that repeat another lifetime's history."""
        self.refused: set[Key] = set()
        """Starts that were answered with REJECTED."""
        self.graphs: dict[tuple[str, str, str], Shape | None] = {}
        """By (tenant, graph, version)."""
        self.frozen: set[tuple[str, str]] = set()
        """(tenant, graph), or (tenant, "") for all of it."""
        self.commands: set[tuple[str, str]] = set()
        self.quarantined: set[str] = set()
        """Tenants whose records wait, and whose time stands still."""
        self._asleep: dict[str, list[tuple[int, Account, str]]] = {}
        """What came due for them meanwhile."""
        self._heap: list[tuple[int, int, Account, str]] = []
        self._pushed = 0
        self._of_account: dict[int, Life] = {}

    def has_ended(self, key: Key) -> bool:
        """Whether a lifetime has come to a final status."""
        life = self.lives.get(key)
        return key in self.closed or key in self.refused or (life is not None and life.end is not None)

    def begin(self, key: Key, graph: tuple[str, str], parent: Life | None) -> Life:
        """Take up a lifetime."""
        tenant = self.sums_of(key[0])
        account = Account(tenant, parent.account if parent is not None else None, self._wake)
        life = self.lives[key] = Life(key, graph, self.graphs.get((key[0], *graph)), account, parent)
        self._of_account[id(account)] = life
        self.closed.pop(key, None)
        return life

    def move_clock(self, timestamp_ms: int) -> None:
        """Let the log's time pass: leases, waits and orphans that are due come to their end."""
        self.clock = max(self.clock, timestamp_ms)
        while self._heap and self._heap[0][0] <= self.clock:
            due, _, account, key = heapq.heappop(self._heap)
            life = self._of_account.get(id(account))
            if life is None or life.key in self.leaving:
                continue
            if life.key[0] in self.quarantined:
                self._asleep.setdefault(life.key[0], []).append((due, account, key))
            elif account.ring(key, self.clock):
                self._forget(life)

    def release(self, tenant: str) -> None:
        """Let time go on for a tenant that was quarantined."""
        self.quarantined.discard(tenant)
        for due, account, key in self._asleep.pop(tenant, ()):
            self._wake(due, account, key)

    def _wake(self, due: int, account: Account, key: str) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (due, self._pushed, account, key))

    def _forget(self, life: Life) -> None:
        """Nothing can change the lifetime any more: what the gate says of its end is heard, no more."""
        status = life.end.status if life.end is not None else 0
        self.closed[life.key] = Closed(status, life.account.ended)
        self.leaving[life.key] = self.lives.pop(life.key)

    def finish(self) -> None:
        """End a record: what was closed in it is forgotten."""
        for life in self.leaving.values():
            check_closed(self, life)
            del self._of_account[id(life.account)]
        self.leaving.clear()


def check_closed(partition: Partition, life: Life) -> None:
    """I3: an ended lifetime's last view shows what unique runs were charged, and no open hold."""
    if life.end is None or life.view is None:
        return
    sums, view, findings = life.account.sums, life.view, partition.findings
    if sums.open_holds:
        findings.counts["lifetimes that wait for a run's grace"] += 1
        return
    where = f"lifetime {life.where}"
    findings.need("I3", view.held[0] == 0, where, f"its last view shows {view.held[0]} open holds, counted 0")
    said = f"its last view says {_shown(view.usage)}, unique runs add up to {_shown(sums.usage)}"
    findings.need("I3", view.usage == sums.usage, where, said)


def _shown(usage: tuple[int, int, int]) -> str:
    return f"{usage[0]} tokens, {usage[1]} nano-USD, {usage[2]} ms"
