"""Spend over time, and the caps that were in force meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from headgate.versions import PolicyVersion, policies_as_set
from headgate_catalog.happening import Happening
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.fold.rules import book_of
from headgate_guardrails.policy import Rule, policy_from_json
from headgate_protos.v1.control_pb2 import RaiseBudget
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskExecution

DRAWN = ("cost_nano_usd", "tokens_used")
"""Metrics whose sums are drawn."""

Points = list[tuple[int, int]]
"""(log time in Unix milliseconds, value from then on), ascending."""
Records = list[tuple[int, ExecutionEnvelope]]
"""(log time, record) of a tenant and of every tenant, in log order."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one run has reported."""

    when_ms: int
    cost_nano_usd: int
    tokens_used: int

    def of(self, metric: str) -> int:
        """Return what counts for a metric, in its wire unit."""
        return self.cost_nano_usd if metric == "cost_nano_usd" else self.tokens_used


@dataclass(slots=True)
class CapLine:
    """One cap of one rule over time."""

    policy: str
    rule: str
    scope: str
    metric: str
    action: str
    window_ms: int
    """0 for a cap that counts for ever."""
    is_sliding: bool
    points: Points = field(default_factory=list)
    """A value of -1 ends the cap: no policy in force has it from then on."""


def charges_of(happenings: Iterable[Happening]) -> list[Charge]:
    """Return what the runs among the happenings have reported, each run once."""
    done = ((one.when_ms, one.execution) for one in happenings if one.execution is not None)
    return list(_charges(done))


def charges_in(records: Records) -> list[Charge]:
    """As `charges_of`, from records of the log."""
    kinds = ("task_execution", "plan_execution")
    done = (
        (when, getattr(one, kind)) for when, one in records if (kind := one.WhichOneof("payload")) in kinds
    )
    return list(_charges(done))


def _charges(done: Iterable[tuple[int, TaskExecution | PlanExecution]]) -> Iterator[Charge]:
    runs: set[str] = set()
    for when_ms, one in done:
        run = one.headers.run_id or one.headers.execution_id
        usage = one.resource_usage
        if run not in runs and (usage.cost_nano_usd or usage.tokens_used):
            yield Charge(when_ms, usage.cost_nano_usd, usage.tokens_used)
        runs.add(run)


def spent(charges: Iterable[Charge], metric: str, window_ms: int = 0, *, is_sliding: bool = False) -> Points:
    """Return the sum over time; with a window, of what lies in it: tumbling from the epoch, or sliding."""
    points: Points = []
    inside: list[Charge] = []
    total = 0
    for charge in charges:
        now = charge.when_ms
        if window_ms and inside:
            for out in _left(inside, now, window_ms, is_sliding=is_sliding):
                total -= sum(one.of(metric) for one in inside if _end(one, window_ms, is_sliding) == out)
                points.append((out, total))
            inside = [one for one in inside if _end(one, window_ms, is_sliding) > now]
        inside.append(charge)
        total += charge.of(metric)
        points.append((now, total))
    for out in _left(inside, 2**62, window_ms, is_sliding=is_sliding) if window_ms else ():
        total -= sum(one.of(metric) for one in inside if _end(one, window_ms, is_sliding) == out)
        points.append((out, total))
    return points


def _end(charge: Charge, window_ms: int, is_sliding: bool) -> int:
    """Return when a charge leaves its window."""
    if is_sliding:
        return charge.when_ms + window_ms
    return (charge.when_ms // window_ms + 1) * window_ms


def _left(inside: list[Charge], now: int, window_ms: int, *, is_sliding: bool) -> list[int]:
    return sorted({end for one in inside if (end := _end(one, window_ms, is_sliding)) <= now})


def cap_lines(records: Records, tenant: str, lifetime_id: str = "") -> list[CapLine]:
    """Return the caps of a lifetime, or without one those of its tenant, as they were over time.

    A raised budget holds until another version of its policy is set.
    """
    lines: dict[tuple[str, str, str], CapLine] = {}
    in_force: dict[str, PolicyVersion] = {}
    changes: list[tuple[int, PolicyVersion | RaiseBudget]] = [*policies_as_set(records)]
    changes += _raises(records, tenant, lifetime_id)
    for when_ms, change in sorted(changes, key=lambda one: one[0]):
        if isinstance(change, RaiseBudget):
            metric = "cost_nano_usd" if change.metric.startswith("cost") else change.metric
            line = lines.get((change.policy, change.rule, metric))
            if line is not None and line.points[-1][1] >= 0:
                line.points.append((when_ms, change.value))
            continue
        book = book_of(change.policy.name, platform=change.owner == EVERY_TENANT)
        if in_force.get(book) is not change:
            in_force[book] = change
            scope = "lifetime" if lifetime_id else "tenant"
            _set_policy(lines, when_ms, book, change.policy.document_json, scope)
    return list(lines.values())


def _raises(records: Records, tenant: str, lifetime_id: str) -> Iterator[tuple[int, RaiseBudget]]:
    for when_ms, envelope in records:
        if (envelope.tenant_id, envelope.lifetime_id) != (tenant, lifetime_id):
            continue
        yield from ((when_ms, one) for one in envelope.lifetime_start.fork.budgets)
        if envelope.command.WhichOneof("command") == "raise_budget":
            yield when_ms, envelope.command.raise_budget


def _set_policy(
    lines: dict[tuple[str, str, str], CapLine], when_ms: int, book: str, document: str, scope: str
) -> None:
    """Begin, move and end lines as the rules of another version say."""
    policy = policy_from_json(document)
    named: set[tuple[str, str, str]] = set()
    for rule in policy.rules:
        caps = rule.limit.caps() if rule.limit is not None and rule.scope == scope else {}
        for metric in (name for name in DRAWN if name in caps):
            named.add((book, rule.name, metric))
            line = lines.setdefault((book, rule.name, metric), _line(book, rule, metric))
            line.points.append((when_ms, caps[metric]))
    for key, line in lines.items():
        if key[0] == book and key not in named and line.points[-1][1] >= 0:
            line.points.append((when_ms, -1))


def _line(book: str, rule: Rule, metric: str) -> CapLine:
    return CapLine(book, rule.name, rule.scope, metric, rule.action, rule.window_ms or 0, rule.sliding)
