"""One partition of the log in memory: what is appended is folded, watched by the oracle, and heard of."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import digest
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import execution_pb2
from headgate_streams.codec import encode
from headgate_streams.port import LogRecord
from tests.unit.guardrails.keeping import Keeper
from tests.unit.guardrails.properties.between import Between
from tests.unit.guardrails.properties.lives import Violation
from tests.unit.guardrails.properties.oracle import Oracle

START_MS = 1_700_000_000_000
GRACE_MS = 300_000
"""How long a run that nobody waits for may still report."""


@dataclass(slots=True)
class Job:
    """An input that some worker has, and its runs that have not reported."""

    message: Any
    due: int
    runs: list[str] = field(default_factory=list)


class Partition:
    """A fold, its log, and what everybody has heard of it so far."""

    def __init__(self, rng: random.Random, oracle: Oracle) -> None:
        self.rng = rng
        self.oracle = oracle
        self.kept = Keeper()
        self.between = Between()
        self.engine = GuardrailEngine(PartitionState(0, 1))
        self.clock = START_MS
        self.records: list[LogRecord] = []
        self.said: list[bytes] = []
        """Digest of what each record caused."""
        self.bad: set[int] = set()
        """Offsets of records that must be refused."""
        self.serial = 0
        self.jobs: list[Job] = []
        """Inputs that workers have."""
        self.people: dict[tuple[str, str], list[str]] = {}
        """Executions that wait for a person, by tenant and lifetime."""
        self.live: dict[tuple[str, str], int] = {}
        """Pause generation of each lifetime that runs or is paused."""

    def append(
        self, tenant: str, lifetime: str = "", *, bad: bool = False, still: bool = False, **payload: Any
    ) -> None:
        """Append one envelope; `still` keeps the clock where it is."""
        if not still:
            self._pass_a_moment()
        self.serial += 1
        envelope = execution_pb2.ExecutionEnvelope(
            envelope_id=str(self.serial), tenant_id=tenant, lifetime_id=lifetime, **payload
        )
        value, headers = encode(envelope, tenant)
        self.write(value, headers, tenant.encode(), bad=bad)

    def write(self, value: bytes | None, headers: Any, key: bytes | None, *, bad: bool = False) -> None:
        skewed = self.rng.random() < 0.02
        clock = self.clock - self.rng.randint(0, 60_000) if skewed else self.clock
        record = LogRecord("headgate.executions", 0, len(self.records), clock, key, value, headers)
        self.records.append(record)
        if bad:
            self.bad.add(record.offset)
        self.between.go_on(self.engine.state)
        outputs = self.engine.apply(record)
        self.said.append(digest_of(outputs))
        self.oracle.observe(record, outputs, bad=bad)
        for output in outputs:
            self._hear(output)

    def _pass_a_moment(self) -> None:
        if self.rng.random() < 0.3:
            self.clock += self.rng.randint(1, 40)

    def _hear(self, output: Any) -> None:
        message = output.message
        if output.topic.endswith("inputs"):
            due = message.start_by if message.leased else message.headers.deadline
            self.jobs.append(Job(message, due.seconds * 1000 + due.nanos // 1_000_000))
        elif output.topic == "lifetimes":
            key = (message.tenant_id, message.lifetime_id)
            if message.status in (pb.LIFETIME_STATUS_RUNNING, pb.LIFETIME_STATUS_PAUSED):
                self.live[key] = message.pause_generation
                self.people[key] = [waiting.execution_id for waiting in message.waiting]
            else:
                self.live.pop(key, None)
                self.people.pop(key, None)

    def tick(self, ms: int) -> None:
        self.clock += ms
        self.append("*", tick=execution_pb2.Tick(), still=True)

    def restart(self) -> None:
        """The gate dies and goes on from its checkpoint."""
        self.between.finish()
        sealed = self.kept.keep(self.engine.state)
        self.oracle.check_state(self.kept.tenants())
        again = self.kept.again()
        if digest(again) != sealed.digest:
            raise Violation("I11: a checkpoint read and written again is not the same")
        self.engine = GuardrailEngine(again)

    def refold(self) -> None:
        """Fold the log anew, without any restart: it must say the same and come to the same state (I11).

        So must a fold to which nobody listens, as a gate does when it begins. No lifetime rests in either.
        """
        self.between.finish()
        engine, silent = GuardrailEngine(PartitionState(0, 1)), GuardrailEngine(PartitionState(0, 1))
        for record in self.records:
            if digest_of(engine.apply(record)) != self.said[record.offset]:
                raise Violation(f"I11: record {record.offset} causes something else when folded again")
            if silent.apply(record, is_silent=True):
                raise Violation(f"I11: record {record.offset} is not folded silently")
        if not digest(engine.state) == digest(silent.state) == digest(self.engine.state):
            raise Violation("I11: the same log came to another state")


def digest_of(outputs: list[Any]) -> bytes:
    """Return what stands for a record's outputs, byte for byte."""
    if not outputs:
        return b""
    whole = hashlib.blake2b(digest_size=16)
    for output in outputs:
        whole.update(f"{output.topic} {output.queue} {output.key} ".encode())
        whole.update(output.message.SerializeToString(deterministic=True))
    return whole.digest()
