"""What became of each visit of one lifetime, learnt by folding its partition of the log. Calls nobody.

The fold itself says it, as it takes each result: what a worker reported, a person answered, a sub-graph came
to, or the gate decided. So nothing of the fold is guessed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings
from headgate_guardrails.fold.flow import Flow
from headgate_guardrails.fold.lifetime import Work
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1.execution_pb2 import JoinTimeout, LifetimeStart, RecordedVisit, VisitReference
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_streams.port import LogRecord


@dataclass(slots=True)
class History:
    """One lifetime as the fold took it; a witness of the fold."""

    tenant_id: str
    lifetime_id: str
    visits: list[tuple[int, str, RecordedVisit]] = field(default_factory=list)
    """(offset of the record, execution id or "", what became of it), in the order in which it was taken."""
    start: LifetimeStart | None = None
    graph_key: tuple[str, str] = ("", "")
    """Id and version of its graph."""
    offset: int = 0
    """The record that is being folded."""
    _seen: dict[str, VisitReference] = field(default_factory=dict)

    def went_on(self, flow: Flow, work: Work, own_id: str, execution: Any) -> None:
        """Keep what goes on from a visit of this lifetime."""
        if not self._is_own(flow):
            return
        own = VisitReference(node_id=work.node_id, iteration=work.iteration)
        known = [self._seen[one] for one in work.upstream_ids if one in self._seen]
        one = RecordedVisit(visit=own, status=execution.headers.status, upstream=known)
        if isinstance(execution, PlanExecution):
            one.plan_result.CopyFrom(execution.result)
        else:
            one.task_result.CopyFrom(execution.result)
        self._seen[own_id] = own
        self.visits.append((self.offset, own_id, one))

    def gave_up(self, flow: Flow, plan_id: str, visit: str) -> None:
        """Keep that a join's time was over."""
        if self._is_own(flow) and visit in self._seen:
            timeout = JoinTimeout(plan_id=plan_id, fork=self._seen[visit])
            self.visits.append((self.offset, "", RecordedVisit(join_timeout=timeout)))

    def _is_own(self, flow: Flow) -> bool:
        return (flow.tenant.tenant_id, flow.lifetime.lifetime_id) == (self.tenant_id, self.lifetime_id)

    def take(self, engine: GuardrailEngine, record: LogRecord) -> None:
        """Fold the next record and keep what it says of the lifetime."""
        self.offset = record.offset
        engine.apply(record, is_silent=True)
        if self.graph_key == ("", ""):
            tenant = engine.state.tenants.get(self.tenant_id)
            lifetime = tenant.lifetimes.get(self.lifetime_id) if tenant is not None else None
            if lifetime is not None:
                self.graph_key = lifetime.graph_key


def watched_engine(history: History, partition: int, partitions: int, means: Surroundings) -> GuardrailEngine:
    """Return a fold from the beginning that tells a history what it takes."""
    return GuardrailEngine(PartitionState(partition, partitions), means._replace(witness=history))
