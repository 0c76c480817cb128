"""Which leased runs must be renewed when. Used by the consumer's thread alone."""

from __future__ import annotations

from headgate_workers.work import Work

DEFAULT_LEASE_S = 10.0
"""When an input names no lease, as a suspect's does; the gate gives the same to every run."""
_SHORTEST_S = 0.05
_LOOK_S = 0.2
"""How often runs are looked at for spend that the gate does not know of: five heartbeats a second at most."""


class _Lease:
    """One leased run, and what the gate holds for it as far as it has been told."""

    __slots__ = ("cost", "tokens", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.tokens = work.received.hold.tokens_used
        self.cost = work.received.hold.cost_nano_usd

    def tell(self) -> bool:
        """Take note that the gate is told of the spend so far; return whether that is more than it holds."""
        tokens, cost = self.work.usage.spent()
        is_news = tokens > self.tokens or cost > self.cost
        self.tokens, self.cost = max(tokens, self.tokens), max(cost, self.cost)
        return is_news


class LeaseBook:
    """The leased runs of this worker by tenant; one tenant's runs are renewed together."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, _Lease]] = {}
        self._due_s: dict[str, float] = {}
        self._look_s = 0.0

    def add(self, work: Work, now_s: float) -> None:
        """Take up a run that has been announced; its first renewal is due after a third of its lease."""
        runs = self._runs.setdefault(work.tenant_id, {})
        runs[work.run_id] = _Lease(work)
        due_s = now_s + _interval_s(work)
        self._due_s[work.tenant_id] = min(self._due_s.get(work.tenant_id, due_s), due_s)

    def drop(self, work: Work) -> None:
        """Let go of a run that has ended; one that is not known changes nothing."""
        runs = self._runs.get(work.tenant_id)
        if runs is not None and runs.pop(work.run_id, None) is not None and not runs:
            del self._runs[work.tenant_id], self._due_s[work.tenant_id]

    def due(self, now_s: float) -> list[tuple[str, list[Work]]]:
        """Return tenants with the runs that the gate must hear of now; the next renewal is set.

        That is all runs of a tenant when its renewal is due, and in between those that have used more than
        the gate holds for them.
        """
        told = []
        must_look = now_s >= self._look_s
        if must_look:
            self._look_s = now_s + _LOOK_S
        for tenant, due_s in self._due_s.items():
            if due_s <= now_s:
                told.append((tenant, self._renew(tenant, now_s)))
            elif must_look:
                grown = [lease.work for lease in self._runs[tenant].values() if lease.tell()]
                if grown:
                    told.append((tenant, grown))
        return told

    def _renew(self, tenant: str, now_s: float) -> list[Work]:
        leases = self._runs[tenant].values()
        self._due_s[tenant] = now_s + min(_interval_s(lease.work) for lease in leases)
        for lease in leases:
            lease.tell()
        return [lease.work for lease in leases]


def _interval_s(work: Work) -> float:
    lease = work.received.lease
    lease_s = lease.seconds + lease.nanos / 1e9
    return max(_SHORTEST_S, (lease_s or DEFAULT_LEASE_S) / 3)
