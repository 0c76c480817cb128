"""Which leased runs must be renewed when. Used by the consumer's thread alone."""

from __future__ import annotations

from headgate_workers.work import Work

DEFAULT_LEASE_S = 30.0
"""When an input names no lease."""
_SHORTEST_S = 0.05


class LeaseBook:
    """The leased runs of this worker by tenant; one tenant's runs are renewed together."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, Work]] = {}
        self._due_s: dict[str, float] = {}

    def add(self, work: Work, now_s: float) -> None:
        """Take up a run that has been announced; its first renewal is due after a third of its lease."""
        runs = self._runs.setdefault(work.tenant_id, {})
        runs[work.run_id] = work
        due_s = now_s + _interval_s(work)
        self._due_s[work.tenant_id] = min(self._due_s.get(work.tenant_id, due_s), due_s)

    def drop(self, work: Work) -> None:
        """Let go of a run that has ended; one that is not known changes nothing."""
        runs = self._runs.get(work.tenant_id)
        if runs is not None and runs.pop(work.run_id, None) is not None and not runs:
            del self._runs[work.tenant_id], self._due_s[work.tenant_id]

    def due(self, now_s: float) -> list[tuple[str, list[Work]]]:
        """Return tenants whose runs must be renewed now, with all their runs; the next renewal is set."""
        tenants = [tenant for tenant, due_s in self._due_s.items() if due_s <= now_s]
        renewed = []
        for tenant in tenants:
            runs = list(self._runs[tenant].values())
            self._due_s[tenant] = now_s + min(_interval_s(work) for work in runs)
            renewed.append((tenant, runs))
        return renewed


def _interval_s(work: Work) -> float:
    lease = work.received.lease
    lease_s = lease.seconds + lease.nanos / 1e9
    return max(_SHORTEST_S, (lease_s or DEFAULT_LEASE_S) / 3)
