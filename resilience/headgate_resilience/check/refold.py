"""I11: the log is folded anew, and must lead to what was said then, byte for byte, and to the same states.

The one part of the check that uses the gate's own fold; everything else is worked out without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headgate_graphs.errors import HeadgateError
from headgate_guardrails.fold.authority import UnknownTicketKey
from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings
from headgate_guardrails.fold.quarantine import Hold
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import CONTROL_EVENTS, LIFETIMES, PLAN_INPUTS, TASK_INPUTS, Output
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_resilience.check.decoding import Refused, message_of
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.outputs import Outputs, Said, fingerprint
from headgate_resilience.check.records import Records
from headgate_streams.codec import headers_of
from headgate_streams.port import LogRecord
from headgate_streams.signing import fingerprint as key_name
from headgate_streams.topics import Topics

Digests = Mapping[int, Mapping[int, str]]
"""Partition -> offset of a checkpoint -> digest of the state there."""


def checkpoint_digests(records: Records) -> Digests:
    """Return what the pointers on the checkpoints topic say of the states."""
    found: dict[int, dict[int, str]] = {}
    for record in records.read(records.topics.checkpoints):
        try:
            pointer, _ = message_of(record, CheckpointPointer)
        except Refused:
            continue
        if pointer.topic == records.topics.executions:
            found.setdefault(pointer.partition, {})[pointer.next_offset] = pointer.digest
    return found


class Refold:
    """A fresh fold of one partition, compared with what the gates said."""

    def __init__(
        self,
        partition: int,
        records: Records,
        outputs: Outputs,
        findings: Findings,
        digests: Mapping[int, str],
        holds: Iterable[tuple[str, int, str]],
        secrets: Sequence[bytes],
        only: str = "",
    ) -> None:
        """Begin; `holds` gives (tenant, offset, error) of the quarantines that were announced.

        All is folded, and what concerns the tenant `only` is compared; everybody when it is empty.
        """
        self._only = only
        surroundings = Surroundings(
            missed=lambda number, first, end: _between(records, number, first, end),
            secrets={key_name(secret): secret for secret in secrets},
        )
        state = PartitionState(partition, records.partitions)
        self._engine = GuardrailEngine(state, surroundings, [Hold(*hold) for hold in holds], range(0))
        self._topics: Topics = records.topics
        self._outputs = outputs
        self._findings = findings
        self._digests = digests
        self.is_over = False
        """Whether the fold has stopped, and nothing more can be compared."""

    def take(self, record: LogRecord, said: Sequence[Said]) -> None:
        """Fold one record and compare what follows from it."""
        if self.is_over:
            return
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        try:
            made = self._engine.apply(record)
        except UnknownTicketKey as error:
            self.is_over = True
            self._findings.not_checked("I11", f"from {where} on: {error}")
            return
        except HeadgateError as error:
            self._stop(where, f"cannot be folded here: {error}")
            return
        except Exception as error:
            self._stop(where, f"the fold fails: {error!r}")
            return
        self._compare(where, made, said)
        known = self._digests.get(record.offset + 1)
        if known is not None:
            self._findings.counts["checkpoints compared"] += 1
            same = digest(self._engine.state) == known
            self._findings.need("I11", same, where, "the state after it is not that of its checkpoint")

    def spend_of(self, tenant: str) -> tuple[int, int, int] | None:
        """Return (tokens, nano-USD, ms) that the gate's own ledger has for a tenant at this point."""
        state = self._engine.state.tenants.get(tenant)
        if state is None or self.is_over:
            return None
        return state.spend.tokens, state.spend.cost, state.spend.latency_ms

    def _stop(self, where: str, what: str) -> None:
        self.is_over = True
        self._findings.fail("I11", where, what)

    def _compare(self, where: str, made: Sequence[Output], said: Sequence[Said]) -> None:
        by_index = {one.index: one for one in said}
        for index, output in enumerate(made):
            if self._only not in (output.tenant_id, ""):
                by_index.pop(index, None)
                continue
            topic = self._topic_of(output)
            one = by_index.pop(index, None)
            if one is None:
                gone = topic in self._outputs.compacted
                self._findings.need("I11", gone, where, f"output {index} for {topic} was never written")
                continue
            same = one.digest == _digest(topic, output)
            what = f"folding {where} again gives other bytes for {topic}"
            self._findings.need("I11", same, self._outputs.where(one), what)
        for one in by_index.values():
            self._findings.fail("I11", self._outputs.where(one), f"folding {where} again does not give it")

    def _topic_of(self, output: Output) -> str:
        topics = self._topics
        if output.topic == TASK_INPUTS:
            return topics.task_inputs(output.queue)
        if output.topic == PLAN_INPUTS:
            return topics.plan_inputs(output.queue)
        if output.topic == CONTROL_EVENTS:
            return topics.control_events
        return topics.lifetimes if output.topic == LIFETIMES else topics.dead_letters


def _digest(topic: str, output: Output) -> bytes:
    headers = headers_of(output.kind.__name__, output.tenant_id)
    return fingerprint(topic, LogRecord(topic, 0, 0, 0, output.key.encode(), output.value, headers))


def _between(records: Records, partition: int, first: int, end: int) -> Iterable[LogRecord]:
    found = records.read(records.topics.executions, partition)
    return (record for record in found if first <= record.offset < end)
