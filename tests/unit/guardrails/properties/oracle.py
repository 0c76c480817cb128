"""Watches one partition's records and outputs and says what must not be. Shares nothing with the fold.

`Oracle.observe` is called after each record with what the fold said; `check_state` with a checkpoint's bytes;
`check_rest` when there is nothing left to wait for. Each raises `Violation`, which names the invariant of
HARDENING.md that is broken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, state_pb2, task_pb2
from tests.unit.guardrails.properties.accounts import Sums
from tests.unit.guardrails.properties.listener import Listener, shown
from tests.unit.guardrails.properties.lives import Life, Seen
from tests.unit.guardrails.properties.routes import Definition

HORIZON_MS = 86_400_000
UNBEGUN = ("PAUSED", "NOT_BEGUN", "WITHDRAWN")
"""Codes of a run that a worker did not begin."""


class Oracle(Listener):
    """Follows one partition, record by record."""

    # -- one record --------------------------------------------------------------------------------

    def observe(self, record: Any, outputs: list[Any], *, bad: bool = False) -> None:
        """Take one record and what it caused; `bad` says that it must have been refused."""
        self.steps += 1
        self.caps.begin(max(self.clock, record.timestamp_ms))
        if record.timestamp_ms > self.clock:
            self.clock = record.timestamp_ms
            for known in self.awake.values():
                known.account.advance(self.clock)
        letters = [o.message.reason for o in outputs if o.topic == "dead-letters"]
        if bad:
            told = len(letters) == 1 or (not letters and self._is_forgotten(record))
            self.need("I13", told, f"a bad record made {len(letters)} dead letters")
            self._outputs(record, outputs)
            return
        envelope = execution_pb2.ExecutionEnvelope.FromString(record.value)
        kind = envelope.WhichOneof("payload")
        life = self.lives.get((envelope.tenant_id, envelope.lifetime_id))
        self.settled_now = set()
        expected = self._take(kind, life, envelope, record.value, outputs)
        if kind != "command":
            self.need("I13", len(letters) == expected, f"{kind}: {expected} dead letters expected, {letters}")
        elif not letters:
            self._command(life, envelope)
        self._outputs(record, outputs)
        if kind == "execution_started" and life is not None:
            self._started(life, envelope.execution_started)
        if self.concluding:
            self._check_final(outputs)

    def _is_forgotten(self, record: Any) -> bool:
        """Whether a record is about a lifetime of which only a tombstone is left: it is let pass."""
        try:
            envelope = execution_pb2.ExecutionEnvelope.FromString(record.value or b"")
        except DecodeError:
            return False
        life = self.lives.get((envelope.tenant_id, envelope.lifetime_id))
        return life is not None and life.account.is_buried(self.clock)

    def _take(
        self, kind: str | None, life: Life | None, envelope: Any, value: bytes, outputs: list[Any]
    ) -> int:
        """Take what works before anything is said; return how many dead letters it must make."""
        if kind in ("task_execution", "plan_execution"):
            return self._result(life, getattr(envelope, kind), value)
        if kind == "lifetime_start":
            self._start(envelope)
        elif kind == "heartbeat":
            self._heartbeat(envelope, outputs)
        elif kind == "graph_registered":
            self._graph(envelope)
        elif kind == "policy_set" and (envelope.tenant_id, envelope.envelope_id) not in self.obeyed:
            self.obeyed.add((envelope.tenant_id, envelope.envelope_id))
            self.caps.set_policy(envelope.tenant_id, envelope.policy_set)
        return 0

    def _graph(self, envelope: Any) -> None:
        given = envelope.graph_registered
        key = (envelope.tenant_id, given.graph_id, given.version)
        if key not in self.graphs:
            self.graphs[key] = Definition(given.definition_json)
            self.versions.setdefault(key[:2], []).append(given.version)

    def _start(self, envelope: Any) -> None:
        key, start = (envelope.tenant_id, envelope.lifetime_id), envelope.lifetime_start
        issued_ms = start.issued_at.seconds * 1000 + start.issued_at.nanos // 1_000_000
        if key in self.lives or key in self.refused or issued_ms < self.clock - HORIZON_MS:
            return
        versions = self.versions.get((key[0], start.graph_id), [""])
        newest = max(versions, key=lambda text: [int(part) for part in text.split(".") if part])
        if (key[0], start.graph_id, start.graph_version or newest) in self.graphs:
            self._life(key, start.graph_id, start.graph_version or newest, start.input.json, None)

    def _command(self, life: Life | None, envelope: Any) -> None:
        command = envelope.command
        key = (envelope.tenant_id, command.command_id)
        if key in self.obeyed:
            return
        self.obeyed.add(key)
        kind = command.WhichOneof("command")
        if kind == "raise_budget":
            if not envelope.lifetime_id or (life is not None and not life.account.is_buried(self.clock)):
                self.caps.set_budget(envelope.tenant_id, envelope.lifetime_id, command.raise_budget)
        elif kind == "complete" and life is not None and life.end is None:
            work = life.account.open[command.complete.execution_id]
            life.account.close(work, self.clock)
            seen = life.seen[work.execution_id]
            outcome = control_pb2.HumanOutcome.Name(command.complete.outcome)[len("HUMAN_OUTCOME_") :].lower()
            text = f'{{"outcome":"{outcome}","answer":{command.complete.json_answer}}}'
            seen.result = task_pb2.TaskResult(success=True, json_result=text)
            self._follow_task(life, seen)

    # -- what workers say --------------------------------------------------------------------------

    def _result(self, life: Life | None, execution: Any, value: bytes) -> int:
        """Settle a result and say how many dead letters it must make."""
        headers = execution.headers
        if life is None or life.account.is_buried(self.clock):
            return 0
        usage = execution.resource_usage if execution.HasField("resource_usage") else None
        self.caps.is_settling = True
        code = execution.result.error.code
        unbegun = code if headers.status == pb.EXECUTION_STATUS_ABORTED and code in UNBEGUN else ""
        verdict = life.account.result(
            headers.execution_id, headers.run_id, usage, value, self.clock, unbegun=unbegun
        )
        self.caps.is_settling = False
        self.checks[verdict] += 1
        if verdict == "conflict":
            return 1
        if verdict != "repeat":
            self.settled_now = {one.lifetime_id for one in life.account.owners()}
        if verdict == "accepted" and life.end is None and headers.status != pb.EXECUTION_STATUS_ABORTED:
            self._accepted(life, life.seen[headers.execution_id], execution)
        return 0

    def _accepted(self, life: Life, seen: Seen, execution: Any) -> None:
        seen.result = execution.result
        life.failures[seen.node, seen.iteration] += not execution.result.success
        if not execution.result.success:
            if not execution.result.error.retryable:
                life.deliver_failure(seen)
        elif isinstance(execution, plan_pb2.PlanExecution):
            after = life.definition.after_plan(seen.node, list(execution.result.next_task_ids))
            life.failures[seen.node, seen.iteration] += after.fault
            life.follow(seen, after)
            self._conclude(life)
        else:
            self._follow_task(life, seen)

    def _check_final(self, outputs: list[Any]) -> None:
        """A final result ends the lifetime, unless a rule said otherwise."""
        for life in self.concluding:
            told = any(o.topic == "control-events" and not o.message.shadow for o in outputs)
            self.need("I1", life.end is not None or told, f"{life.where}: a final result did not end it")
            life.final = False
        self.concluding = []

    def _started(self, life: Life, started: Any) -> None:
        if not life.account.is_buried(self.clock):
            hold = life.definition.holds[started.node_id]
            life.account.started(started.execution_id, started.run_id, hold, self.clock)

    def _heartbeat(self, envelope: Any, outputs: list[Any]) -> None:
        """Renew leases, one after the other, until one of them has ended its lifetime."""
        ends = {o.message.lifetime_id: shown(o.message) for o in outputs if o.key.endswith("/end")}
        grown: set[str] = set()
        for beat in envelope.heartbeat.runs:
            life = self.lives.get((envelope.tenant_id, beat.lifetime_id))
            if life is None:
                continue
            if beat.lifetime_id in grown and ends.get(beat.lifetime_id) == life.account.held:
                continue
            before = life.account.held
            life.account.beat(beat.execution_id, beat.run_id, beat.partial_usage, self.clock)
            if life.account.held != before:
                grown.add(beat.lifetime_id)

    # -- states ------------------------------------------------------------------------------------

    def check_state(self, contents: Iterable[bytes]) -> None:
        """Compare the ledger of a checkpoint with the one kept here (I3), to the nano-dollar."""
        tenants = [state_pb2.TenantState.FromString(content) for content in contents]
        remembered = {(t.tenant_id, one.lifetime_id) for t in tenants for one in t.lifetimes}
        due = {key for key, life in self.awake.items() if not life.account.is_buried(self.clock)}
        self.need("I1", remembered == due, f"remembered or forgotten by mistake: {remembered ^ due}")
        for life in self.awake.values():
            if life.end is None:
                late = self.clock >= life.due or 0 < life.pause_due <= self.clock
                self.need("I1", not late, f"{life.where} lives although its time is over")
        for tenant in tenants:
            for one in tenant.lifetimes:
                life = self.lives[tenant.tenant_id, one.lifetime_id]
                self._check_sums(life.where, one.spend, life.account.sums)
            self._check_sums(tenant.tenant_id, tenant.spend, self.tenants.get(tenant.tenant_id, Sums()))
        self.awake = {key: self.lives[key] for key in due}

    def _check_sums(self, where: str, kept: state_pb2.SpendState, sums: Sums) -> None:
        numbers = [*kept.numbers, *[0] * (13 - len(kept.numbers))]
        found = (*numbers[:4], numbers[12], numbers[10], numbers[11])
        own = (sums.executions, sums.tokens, sums.cost, sums.latency, *sums.held)
        names = "executions, tokens, cost, latency, open holds, held tokens, held cost"
        self.need("I3", found == own, f"{where}: ledger {found}, counted {own} ({names})")

    def check_moving(self) -> None:
        """A lifetime that runs is waiting for somebody; asked when no retry can be waiting."""
        busy = {(life.tenant, life.graph_id) for life in self.awake.values() if life.account.open}
        for life in self.awake.values():
            if life.end is not None or life.is_paused or life.loose:
                continue
            queued = life.definition.has_room_caps and (life.tenant, life.graph_id) in busy
            moves = bool(life.account.open) or queued
            self.need("I1", moves, f"{life.where} runs, but nothing is in flight")

    def check_rest(self) -> None:
        """Everything has ended, every hold is closed, and the last view says what was spent."""
        for life in self.lives.values():
            self.need("I1", life.end is not None, f"{life.where} never ended")
            sums, view = life.account.sums, life.view or execution_pb2.LifetimeView()
            self.need("I3", sums.held == (0, 0, 0), f"{life.where} still holds {sums.held}")
            self.need(
                "I3", view.open_holds == 0, f"{life.where}: open holds in its last view: {view.open_holds}"
            )
            said = (view.usage.tokens_used, view.usage.cost_nano_usd, view.usage.latency_ms)
            own = (sums.tokens, sums.cost, sums.latency)
            self.need("I3", said == own, f"{life.where}: its last view says {said}, counted {own}")
