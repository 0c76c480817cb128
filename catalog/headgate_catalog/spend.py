"""What was spent, and what counts as spent: one definition, for the log and for the catalog. Pure.

A run counts once, by its run id, with what its first report says, at the log time of that report, for the
graph of its lifetime; a run that its worker never began, or whose lifetime no gate knows, does not count. The
gate charges more than was reported where a report is missing or has no price: what the newest view of a
lifetime holds of a node beyond the reports up to that view counts at the time of that view, with no model.
Once a lifetime has ended and its last hold is closed its view is the last word: the difference counts even
when it is negative, for a report that the gate refused; and a later report does not count, as one that the
gate pays brings a new view. So the sums are the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from operator import add, sub
from typing import Final, NamedTuple

from headgate_catalog.happening import Happening
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1.execution_pb2 import LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution

HOUR_MS: Final = 3_600_000
NO_MODEL: Final = ""
"""Model of what called none, and of what the gate charged beyond the reports."""
MAX_USAGE: Final = 2**53
"""A run that claims more of anything, or less than nothing, is not believed; the gate charges its hold."""
MAX_RUN_ID: Final = 64
"""The gate refuses a result whose run id is longer, or missing."""
_NOT_BEGUN: Final = frozenset({"PAUSED", "NOT_BEGUN", "WITHDRAWN"})
"""Codes of runs that a worker gave back before their handler began."""
_ENDED: Final = frozenset(
    {
        pb.LIFETIME_STATUS_COMPLETED,
        pb.LIFETIME_STATUS_FAILED,
        pb.LIFETIME_STATUS_ABORTED,
        pb.LIFETIME_STATUS_REJECTED,
    }
)


class SpendBy(StrEnum):
    """What spend is summed by."""

    TENANT = "tenant"
    GRAPH = "graph"
    NODE = "node"
    MODEL = "model"
    HOUR = "hour"


class Period(NamedTuple):
    """From when to when, by log time in Unix milliseconds: the end is not within."""

    from_ms: int = 0
    to_ms: int = 2**62

    def holds(self, when_ms: int) -> bool:
        """Whether a moment is within."""
        return self.from_ms <= when_ms < self.to_ms


class Spend(NamedTuple):
    """Sums of several runs."""

    cost_nano_usd: int = 0
    tokens_used: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    latency_ms: int = 0
    runs: int = 0

    def plus(self, other: Spend) -> Spend:
        """Return the sum of both."""
        return Spend(*map(add, self, other))


NOTHING: Final = Spend()
AMOUNTS: Final = Spend._fields[:-1]
"""What a usage has of them: all but the number of runs."""


class Run(NamedTuple):
    """The first report of one run."""

    tenant_id: str
    lifetime_id: str
    run_id: str
    node_id: str
    offset: int
    """Of the report in the log; the partition is the tenant's."""
    when_ms: int
    model: str
    spend: Spend


def run_of(found: Happening) -> Run | None:
    """Return what a result says of its run; None when it is no result, or its run does not count."""
    execution = found.execution
    if execution is None or not 0 < len(execution.headers.run_id) <= MAX_RUN_ID or not has_begun(execution):
        return None
    usage, headers = execution.resource_usage, execution.headers
    return Run(
        found.tenant_id,
        found.lifetime_id,
        headers.run_id,
        headers.node_id,
        found.order[0],
        found.when_ms,
        usage.model,
        Spend(*amounts_of(usage))._replace(runs=1),
    )


class Charge(NamedTuple):
    """One amount that counts."""

    tenant: str
    graph: str
    node: str
    model: str
    when_ms: int
    spend: Spend


def has_begun(execution: TaskExecution | PlanExecution) -> bool:
    """Whether a handler ran; the gate asks the same."""
    if execution.headers.status != pb.EXECUTION_STATUS_ABORTED:
        return True
    if execution.result.error.code not in _NOT_BEGUN or not execution.HasField("resource_usage"):
        return True
    usage = execution.resource_usage
    return bool(usage.tokens_used or usage.cost_nano_usd or usage.latency_ms or usage.unpriced)


def amounts_of(usage: pb.ResourceUsage) -> tuple[int, ...]:
    """Return AMOUNTS of a usage; nothing at all when one of them cannot be."""
    found = tuple([getattr(usage, name) for name in AMOUNTS])
    return found if min(found) >= 0 and max(found) <= MAX_USAGE else (0,) * len(found)


def is_closed(view: LifetimeView) -> bool:
    """Whether a view is the ledger's last word."""
    return view.status in _ENDED and not view.open_holds


def charges(views: Iterable[LifetimeView], runs: Iterable[Run]) -> Iterator[Charge]:
    """Yield all that counts, given the newest view of each lifetime and all first reports."""
    known = {(view.tenant_id, view.lifetime_id): view for view in views}
    reported: dict[tuple[str, str, str], Spend] = {}
    for run in runs:
        view = known.get((run.tenant_id, run.lifetime_id))
        if view is None:
            continue
        is_told = run.offset <= view.source.offset
        if is_closed(view) and not is_told:
            continue
        if is_told:
            key = (run.tenant_id, run.lifetime_id, run.node_id)
            reported[key] = reported.get(key, NOTHING).plus(run.spend)
        yield Charge(run.tenant_id, view.graph_id, run.node_id, run.model, run.when_ms, run.spend)
    for (tenant, lifetime), view in known.items():
        when_ms = view.updated_at.ToMilliseconds()
        for node in view.nodes:
            told = reported.get((tenant, lifetime, node.node_id), NOTHING)
            gap = beyond(amounts_of_ledger(node.usage), told, is_closed=is_closed(view))
            if any(gap):
                yield Charge(tenant, view.graph_id, node.node_id, NO_MODEL, when_ms, gap)


def amounts_of_ledger(usage: pb.ResourceUsage) -> Spend:
    """Return what a view says that a node has spent; how many runs it does not say."""
    return Spend(*(getattr(usage, name) for name in AMOUNTS))


def beyond(ledger: Spend, told: Spend, *, is_closed: bool) -> Spend:
    """Return what the ledger holds beyond what was reported."""
    gaps = map(sub, ledger[:-1], told[:-1])
    return Spend(*(gap if is_closed else max(gap, 0) for gap in gaps))


def summed(found: Iterable[Charge], by: SpendBy, within: Period) -> dict[str | int, Spend]:
    """Return the sums by key; that of an hour is its beginning in Unix milliseconds."""
    sums: dict[str | int, Spend] = {}
    for charge in found:
        if within.holds(charge.when_ms):
            key = key_of(charge, by)
            sums[key] = sums.get(key, NOTHING).plus(charge.spend)
    return sums


def key_of(charge: Charge, by: SpendBy) -> str | int:
    """Return what a charge is summed under."""
    if by is SpendBy.HOUR:
        return charge.when_ms - charge.when_ms % HOUR_MS
    return str(getattr(charge, by.value))
