"""Where every rule stands for a lifetime: its value, its cap, what it would do. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.engine import Surroundings
from headgate_guardrails.fold.evaluator import measures
from headgate_guardrails.fold.lifetime import Lifetime
from headgate_guardrails.fold.own_policy import evaluator_of
from headgate_guardrails.fold.rules import TENANT, Cap, CompiledRule
from headgate_guardrails.fold.state import PartitionState, Tenant
from headgate_guardrails.folding import PartitionFold, surroundings
from headgate_streams.blobs import BlobStore
from headgate_streams.port import Log, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for


@dataclass(frozen=True, slots=True)
class RuleStanding:
    """One cap or condition, as it stands at the end of the log."""

    policy: str
    version: int
    rule: str
    scope: str
    """execution, lifetime or tenant."""
    action: str
    shadow: bool
    metric: str
    """Metric of a cap (cost as cost_nano_usd); empty for what is no cap."""
    committed: int | None
    """Settled spend; None where only a single execution is looked at."""
    held: int
    """Reserved by work in flight."""
    limit: int | None
    raised: bool
    """Whether an operator has set this cap anew."""
    window_ms: int
    """Length of the window, 0 for none."""
    expression: str
    """What breaks a rule that is no cap."""

    @property
    def is_broken(self) -> bool:
        """Whether the cap is passed as it stands, with nothing more asked for."""
        if self.limit is None or self.committed is None:
            return False
        return self.committed + self.held > self.limit

    @property
    def left(self) -> int | None:
        """What may still be asked for; None where only a single execution is looked at."""
        if self.limit is None or self.committed is None:
            return None
        return max(0, self.limit - self.committed - self.held)


def explain(
    log: Log,
    blobs: BlobStore,
    settings: StreamSettings,
    tenant_id: str,
    lifetime_id: str,
    timeout_s: float = 60.0,
) -> list[RuleStanding]:
    """Return where each rule stands, in the order of policies and rules.

    Raises UserError for a lifetime that the gate does not know (any more), LogUnavailable after `timeout_s`.
    """
    state = fold_to_end(log, blobs, settings, partition_for(tenant_id, settings.partitions), timeout_s)
    tenant = state.tenants.get(tenant_id)
    lifetime = tenant.lifetimes.get(lifetime_id) if tenant is not None else None
    if tenant is None or lifetime is None:
        raise UserError(
            f"lifetime {lifetime_id!a} of tenant {tenant_id} is not in the gate's state: it never was, or it "
            "ended more than five minutes ago; see `headgate timeline`"
        )
    return list(standings(tenant, lifetime, state.clock_ms))


def fold_to_end(
    log: Log,
    blobs: BlobStore,
    settings: StreamSettings,
    partition: int,
    timeout_s: float,
    means: Surroundings | None = None,
) -> PartitionState:
    """Return the state of a partition at the end of its log, from its newest checkpoint on; calls nobody.

    `means` is given by who asks for less than a gate needs to know; else the settings say it.
    """
    topics = settings.topics()
    place = TopicPartition(topics.executions, partition)
    fold = PartitionFold(
        log,
        CheckpointStore(log, blobs, topics),
        place,
        settings.partitions,
        means or surroundings(log, topics.executions, settings),
    )
    _, end = log.offsets([place])[place]
    stop_at = time.monotonic() + timeout_s
    for record in read_range(log, place, fold.state.next_offset, end):
        fold.apply(record)
        if time.monotonic() > stop_at:
            raise LogUnavailable(f"the log of partition {partition} was not folded in {timeout_s:g} s")
    return fold.state


def standings(tenant: Tenant, lifetime: Lifetime, clock_ms: int) -> Iterator[RuleStanding]:
    """Yield where each rule stands for the lifetime in this state. Pure."""
    evaluator = evaluator_of(tenant, lifetime)
    if evaluator is None:
        return
    for compiled in evaluator.policies:
        for rule in compiled.rules:
            own = [cap for cap in compiled.caps if cap.rule is rule]
            for cap in own:
                yield _of_cap(cap, tenant, lifetime, clock_ms)
            if not own:
                yield _of_rule(rule)


def _of_cap(cap: Cap, tenant: Tenant, lifetime: Lifetime, clock_ms: int) -> RuleStanding:
    rule = cap.rule
    raised = tenant.budgets if rule.scope == TENANT else lifetime.budgets
    key = (rule.book, rule.name, cap.metric)
    committed, held = measures(cap, tenant, lifetime, clock_ms)
    return _standing(rule, cap.metric, committed, held, raised.get(key, cap.value), key in raised)


def _of_rule(rule: CompiledRule) -> RuleStanding:
    return _standing(rule, "", None, 0, None, False)


def _standing(
    rule: CompiledRule, metric: str, committed: int | None, held: int, limit: int | None, raised: bool
) -> RuleStanding:
    return RuleStanding(
        policy=rule.policy,
        version=rule.version,
        rule=rule.name,
        scope=rule.scope_name,
        action=rule.action,
        shadow=rule.shadow,
        metric=metric,
        committed=committed,
        held=held,
        limit=limit,
        raised=raised,
        window_ms=rule.window_ms,
        expression=rule.says,
    )
