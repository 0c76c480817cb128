"""Walks one partition of the log, record by record, together with what each record led to.

For each record: the clock moves and what is due comes to its end, the record is taken, and then what the gate
said of it is heard, in source order. What the record should have led to is worked out anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2
from headgate_resilience.check.decoding import EVERYBODY, Refused, envelope_of
from headgate_resilience.check.facts import Event, View, digest
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.hearing import Hearing
from headgate_resilience.check.letters import Letters
from headgate_resilience.check.model.caps import Caps
from headgate_resilience.check.model.life import Life
from headgate_resilience.check.model.partition import Partition, check_closed
from headgate_resilience.check.model.shape import shape_of
from headgate_resilience.check.outputs import Outputs, Said
from headgate_streams.port import LogRecord
from headgate_streams.topics import partition_for

NO_HOLD = (0, 0)
NOTHING = (-1, -1, -1)
RESULTS = ("task_execution", "plan_execution")

Taken = tuple[LogRecord, Any, str]
"""A record, its envelope and the name of its payload."""


class Walk:
    """One partition of the log on its way from its beginning to its end."""

    def __init__(
        self,
        number: int,
        partitions: int,
        outputs: Outputs,
        findings: Findings,
        holds: Mapping[int, Sequence[str]],
        only: str = "",
    ) -> None:
        """Begin; `holds` says which tenants were quarantined, by the offset from which on they were.

        `only` names the one tenant that is judged, empty for all.
        """
        self._only = only
        self.caps = Caps(findings)
        self.known = Partition(number, findings, outputs, self.caps.sums_of)
        self._partitions = partitions
        self._findings = findings
        self._holds = holds
        self.beyond: set[str] = set()
        """Executions that are reported or announced beyond the end of the walk."""
        self._waiting: dict[str, list[Taken]] = {}
        """What quarantined tenants have missed."""
        self._hearing = Hearing(self.known, self.caps)
        self._letters = Letters(findings, outputs)
        self._takers: dict[str, Callable[[LogRecord, Any, Sequence[Said]], None]] = {
            "lifetime_start": self._start,
            "execution_started": self._started,
            "task_execution": self._result,
            "plan_execution": self._result,
            "heartbeat": self._heartbeat,
            "command": self._command,
            "graph_registered": self._graph,
            "policy_set": self._policy,
        }

    def take(self, record: LogRecord, said: Sequence[Said]) -> Taken | None:
        """Take one record and what it led to; return what it is, None when it had to be or was refused."""
        if self._only:
            said = [one for one in said if one.fact.tenant in (self._only, EVERYBODY)]
        for tenant in self._holds.get(record.offset, ()):
            self._waiting.setdefault(tenant, [])
            self.known.quarantined.add(tenant)
        self.known.move_clock(record.timestamp_ms)
        self.caps.begin(self.known.clock)
        self._letters.begin(said)
        taken = self._decoded(record) if self._concerns(record) else None
        accepted = taken is not None and self._serve(taken, said)
        self._letters.end()
        self._hear(said)
        return taken if accepted else None

    def glimpse(self, record: LogRecord) -> None:
        """Look at a record beyond the end of the walk: a worker may have reported and committed meanwhile."""
        try:
            envelope, kind = envelope_of(record)
        except Refused:
            return
        if kind in RESULTS:
            self.beyond.add(getattr(envelope, kind).headers.execution_id)
        elif kind == "execution_started":
            self.beyond.add(envelope.execution_started.execution_id)

    def _concerns(self, record: LogRecord) -> bool:
        """Whether the record is of a tenant that is judged, as far as its key says."""
        return not self._only or record.key in (self._only.encode(), EVERYBODY.encode())

    def _decoded(self, record: LogRecord) -> Taken | None:
        """Return what the record is; None when by its form alone it must be refused."""
        try:
            envelope, kind = envelope_of(record)
            tenant = envelope.tenant_id
            if tenant != EVERYBODY and partition_for(tenant, self._partitions) != record.partition:
                raise Refused("WRONG_PARTITION")
        except Refused as refused:
            self._letters.refused(record, str(refused))
            return None
        self._findings.counts[f"log: {kind}"] += 1
        return record, envelope, kind

    def _serve(self, taken: Taken, said: Sequence[Said]) -> bool:
        """Take a well-formed record, now or when its tenant is released; return whether it was taken."""
        record, envelope, kind = taken
        tenant = envelope.tenant_id
        if tenant not in self._waiting or self._letters.is_about(record):
            return self._take(taken, said)
        if kind == "command" and envelope.command.WhichOneof("command") == "release":
            self._release(tenant, said)
        elif kind != "tenant_quarantined":
            self._waiting[tenant].append(taken)
        return True

    def _release(self, tenant: str, said: Sequence[Said]) -> None:
        """Take what the tenant has missed as part of this record."""
        for missed in self._waiting.pop(tenant):
            self._take(missed, said)
        self.known.release(tenant)

    def _take(self, taken: Taken, said: Sequence[Said]) -> bool:
        record, envelope, kind = taken
        if self._letters.is_about(record):
            self._letters.judged(record, self._is_good(envelope, kind))
            return False
        taker = self._takers.get(kind)
        if taker is not None:
            taker(record, envelope, said)
        return True

    def _hear(self, said: Sequence[Said]) -> None:
        closing: set[tuple[str, str]] = set()
        for one in said:
            self._hearing.hear(one)
            if isinstance(one.fact, View) and one.fact.is_end and not one.fact.held[0]:
                closing.add((one.fact.tenant, one.fact.lifetime))
        for key in sorted(closing):
            life = self.known.lives.get(key)
            if life is not None:
                check_closed(self.known, life)
        self.known.finish()

    # -- clients and operators ---------------------------------------------------------------------

    def _start(self, record: LogRecord, envelope: Any, said: Sequence[Said]) -> None:
        key = (envelope.tenant_id, envelope.lifetime_id)
        known = key in self.known.lives or key in self.known.closed or key in self.known.refused
        if key not in self.known.started:
            self._findings.counts["starts"] += 1
        self.known.started.setdefault(key, record.offset)
        start = envelope.lifetime_start
        if not known and key not in self.known.forks and start.HasField("fork"):
            self.known.forks[key] = start.fork
            if start.fork.policy_json:
                self.caps.bring_policy(*key, start.fork.policy_json)
            for order in start.fork.budgets:
                self.caps.raise_budget(*key, order)
        if known or self.known.outputs.is_partial(View):
            return
        answered = any(
            isinstance(one.fact, View) and (one.fact.tenant, one.fact.lifetime) == key for one in said
        )
        self._findings.need("I1", answered, _where(record), f"the start of {'/'.join(key)} was not answered")

    def _graph(self, _record: LogRecord, envelope: Any, _said: Sequence[Said]) -> None:
        given = envelope.graph_registered
        key = (envelope.tenant_id, given.graph_id, given.version)
        if key not in self.known.graphs:
            self.known.graphs[key] = shape_of(given.definition_json)

    def _policy(self, _record: LogRecord, envelope: Any, _said: Sequence[Said]) -> None:
        self.caps.set_policy(envelope.tenant_id, envelope.envelope_id, envelope.policy_set)

    def _command(self, _record: LogRecord, envelope: Any, _said: Sequence[Said]) -> None:
        command = envelope.command
        key = (envelope.tenant_id, command.command_id)
        if key in self.known.commands:
            return
        self.known.commands.add(key)
        if command.WhichOneof("command") == "raise_budget":
            self.caps.raise_budget(envelope.tenant_id, envelope.lifetime_id, command.raise_budget)

    # -- workers -----------------------------------------------------------------------------------

    def _life(self, envelope: Any) -> Life | None:
        return self.known.lives.get((envelope.tenant_id, envelope.lifetime_id))

    def _started(self, record: LogRecord, envelope: Any, _said: Sequence[Said]) -> None:
        life, started = self._life(envelope), envelope.execution_started
        if life is None:
            self._unknown(record, envelope)
            return
        work = life.account.works.get(started.execution_id)
        hold = work.hold if work is not None else _limits(life, started.node_id)
        life.account.started(started.execution_id, started.run_id, hold, self.known.clock)

    def _heartbeat(self, _record: LogRecord, envelope: Any, said: Sequence[Said]) -> None:
        """Renew leases, one after the other, until what one holds has ended its lifetime."""
        ends = {
            one.fact.lifetime: one.fact.held for one in said if isinstance(one.fact, View) and one.fact.is_end
        }
        over: set[str] = set()
        for beat in envelope.heartbeat.runs:
            life = self.known.lives.get((envelope.tenant_id, beat.lifetime_id))
            if life is not None and beat.lifetime_id not in over and self._beat(life, beat):
                held = life.account.sums.held
                if ends.get(beat.lifetime_id, NOTHING)[1:] == held[1:]:
                    over.add(beat.lifetime_id)

    def _beat(self, life: Life, beat: Any) -> bool:
        """Renew one lease; return whether its run holds more than before."""
        before = _committed(life)
        clock = self.known.clock
        grown = life.account.beat(beat.execution_id, beat.run_id, beat.partial_usage, clock)
        self.caps.added(before, _committed(life))
        return grown

    def _result(self, record: LogRecord, envelope: Any, said: Sequence[Said]) -> None:
        execution = getattr(envelope, envelope.WhichOneof("payload"))
        life = self._life(envelope)
        if life is None:
            self._unknown(record, envelope)
            return
        headers, where = execution.headers, _where(record)
        work = life.account.works.get(headers.execution_id)
        known = work is not None or headers.execution_id in life.by_id or life.shape is None
        self._findings.need("I7", known, where, f"a result of {headers.execution_id}, never dispatched")
        if not known:
            return
        hold = work.hold if work is not None else _limits(life, headers.node_id)
        before = _committed(life)
        verdict = life.account.result(execution, record.value or b"", self.known.clock, hold)
        self.caps.added(before, _committed(life))
        self._findings.saw("I2")
        self._findings.counts[f"results {verdict}"] += 1
        if verdict == "conflict":
            self._findings.fail("I2", where, f"run {headers.run_id} says something else, and no letter tells")
        elif verdict == "accepted" and life.end is None:
            self._accepted(life, execution, said)

    def _unknown(self, record: LogRecord, envelope: Any) -> None:
        """What concerns a lifetime that never was must be refused; one that is closed is let pass."""
        key = (envelope.tenant_id, envelope.lifetime_id)
        known = key in self.known.closed or key in self.known.refused
        what = f"{'/'.join(key)} was never started, and no dead letter tells"
        self._findings.need("I13", known, _where(record), what)

    def _accepted(self, life: Life, execution: Any, said: Sequence[Said]) -> None:
        headers, result = execution.headers, execution.result
        own = headers.execution_id
        if headers.status == pb.EXECUTION_STATUS_ABORTED:
            return
        visit = life.by_id.get(own)
        life.accepted[own] = digest(result.SerializeToString())
        if visit is None or _is_withheld(own, said):
            return
        if not result.success:
            visit.failures += 1
        elif hasattr(result, "next_task_ids"):
            life.decide(visit, own, result)

    def _is_good(self, envelope: Any, kind: str) -> bool:
        """Whether a record that was refused is a result that is waited for, as far as can be told here."""
        if kind not in RESULTS:
            return False
        life = self._life(envelope)
        execution = getattr(envelope, kind)
        work = life.account.works.get(execution.headers.execution_id) if life is not None else None
        if life is None or work is None or not work.is_open:
            return False
        headers = execution.headers
        same = headers.node_id == work.node and headers.lifetime_id == envelope.lifetime_id
        is_plan = life.shape is None or (work.node in life.shape.plans) == (kind == "plan_execution")
        is_new = 0 < len(headers.run_id) <= 64 and headers.run_id not in life.account.charged
        return same and is_plan and is_new


def _committed(life: Life) -> tuple[int, int, int]:
    """Return what the lifetime's tenant has spent and held together: tokens, nano-USD, executions."""
    sums = life.account.tenant
    return (
        sums.tokens + sums.held_tokens,
        sums.cost + sums.held_cost,
        sums.executions + sums.open_holds,
    )


def _limits(life: Life, node: str) -> tuple[int, int]:
    return life.shape.holds.get(node, NO_HOLD) if life.shape is not None else NO_HOLD


def _is_withheld(execution_id: str, said: Sequence[Said]) -> bool:
    """Whether a rule rejected a result at once."""
    return any(
        isinstance(one.fact, Event)
        and one.fact.execution_id == execution_id
        and one.fact.type == control_pb2.CONTROL_TYPE_REJECT_EXECUTION
        and not one.fact.shadow
        for one in said
    )


def _where(record: LogRecord) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
