"""What the gate said, read from the raw topics: each output once, by its source, as a small tuple.

Repeats are told by their source, as every consumer tells them. What is wrong with an output by itself is
found here: another tenant than it claims (I9), a repeat with other bytes or out of order (I8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2
from headgate_resilience.check.decoding import Refused, message_of
from headgate_resilience.check.facts import DIGEST_BYTES, FACTS, KINDS, Dispatch, Fact, Letter
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.records import Records
from headgate_streams.port import LogRecord
from headgate_streams.topics import Topics, partition_for, spread

OURS: Final = frozenset({"hg-type", "hg-schema", "hg-tenant"})
"""Headers that are part of an output; others may differ, as those of tracing do."""


class Said(NamedTuple):
    """One output of the gate."""

    offset: int
    """Of the record that it was made from, in its source partition."""
    index: int  # type: ignore[assignment]
    """Among the outputs of that record; hides the tuple's own method, which nobody needs."""
    topic: int
    """Number of the topic it lies on, in `Outputs.topics`."""
    partition: int
    at: int
    """Its own offset."""
    digest: bytes
    """Of topic, key, headers and value."""
    fact: Fact


class Outputs:
    """All outputs of an installation, by source partition."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.kinds: dict[str, type[Any]] = {}
        """What each topic carries: Dispatch, Event, View or Letter."""
        self.by_partition: dict[int, dict[int, Said]] = {}
        """Source partition -> (source offset << 24 | index) -> what was said first."""
        self.compacted: set[str] = set()
        """Topics from which records are gone, by retention or compaction: silence there proves nothing."""
        self.worker_letters: list[tuple[str, Letter]] = []
        """(where, letter) of those that no gate wrote."""
        self.refused: dict[tuple[str, int, int], tuple[str, LogRecord]] = {}
        """Records of output topics that are no outputs: (topic, partition, offset) -> (reason, record)."""

    def is_partial(self, kind: type[Any]) -> bool:
        """Whether records are gone from a topic that carries such facts, so that one may be missing."""
        return any(self.kinds[name] is kind for name in self.compacted)

    def is_input(self, topic: str) -> bool:
        """Whether workers read the topic."""
        return self.kinds.get(topic) is Dispatch

    def where(self, said: Said) -> str:
        """Return topic[partition]@offset."""
        return f"{self.topics[said.topic]}[{said.partition}]@{said.at}"

    def of(self, partition: int) -> list[Said]:
        """Return what a source partition led to, in source order."""
        found = self.by_partition.get(partition, {})
        return [found[key] for key in sorted(found)]


Look = Callable[[LogRecord, str], None]
"""Called with each record that was taken and its tenant."""


def read_outputs(
    records: Records, findings: Findings, look: Look, progress: Callable[[int], None], only: str = ""
) -> Outputs:
    """Read every output topic to its end.

    `look` sees each record, `progress` hears how many were read, `only` names the one tenant that is judged.
    """
    outputs = Outputs()
    for name, kind in output_topics(records):
        outputs.topics.append(name)
        outputs.kinds[name] = KINDS[kind.__name__]
        reading = _Reading(outputs, len(outputs.topics) - 1, kind, records, findings, only)
        for record in records.read(name):
            tenant = reading.take(record)
            if tenant is not None:
                look(record, tenant)
            progress(1)
        findings.counts[f"records of {kind.__name__}"] += reading.count
    return outputs


def output_topics(records: Records) -> Iterator[tuple[str, type[Any]]]:
    """Yield each topic that gates write to, and what it carries."""
    topics: Topics = records.topics
    fixed: dict[str, type[Any]] = {
        topics.control_events: control_pb2.ExecutionEvent,
        topics.lifetimes: execution_pb2.LifetimeView,
        topics.dead_letters: execution_pb2.DeadLetter,
    }
    for name in records.names():
        if name in fixed:
            yield name, fixed[name]
        elif name == topics.task_inputs() or name.startswith(topics.of_named_queues()[0]):
            yield name, task_pb2.TaskInput
        elif name == topics.plan_inputs() or name.startswith(topics.of_named_queues()[1]):
            yield name, plan_pb2.PlanInput


class _Reading:
    """One output topic while it is read."""

    def __init__(
        self,
        outputs: Outputs,
        topic: int,
        kind: type[Any],
        records: Records,
        findings: Findings,
        only: str,
    ) -> None:
        self.outputs = outputs
        self.only = only
        self.topic = topic
        self.name = outputs.topics[topic]
        self.kind = kind
        self.partitions = max(len(records.spans(self.name)), 1)
        self.findings = findings
        self.count = 0
        self.next = dict.fromkeys(records.spans(self.name), 0)
        self.highest: dict[tuple[int, int], tuple[int, int]] = {}
        """By (partition, source partition): the highest source so far, as a consumer remembers it."""
        self.fact = FACTS[kind.__name__]

    def take(self, record: LogRecord) -> str | None:
        """Keep one record; return its tenant, None when it is no output."""
        self.count += 1
        if record.offset != self.next[record.partition]:
            self.outputs.compacted.add(self.name)
        self.next[record.partition] = record.offset + 1
        try:
            message, tenant = message_of(record, self.kind)
        except Refused as refused:
            if self.kind is execution_pb2.DeadLetter and _is_requeue(record):
                return None
            place = (self.name, record.partition, record.offset)
            self.outputs.refused[place] = (str(refused), record)
            return None
        fact = self.fact(message, record.key or b"")
        if self.only not in (tenant, ""):
            self._keep_unjudged(record, message, fact)
            return tenant
        self._check_address(record, message, tenant)
        if not message.HasField("source"):
            self._sourceless(record, fact)
        else:
            self._keep(record, message.source, fact)
        return tenant

    def _keep_unjudged(self, record: LogRecord, message: Any, fact: Fact) -> None:
        """Keep an output of another tenant: the fold of its partition must come to it, too."""
        if message.HasField("source"):
            source = message.source
            digest_ = fingerprint(self.name, record)
            said = Said(
                source.offset, source.index, self.topic, record.partition, record.offset, digest_, fact
            )
            known = self.outputs.by_partition.setdefault(source.partition, {})
            known.setdefault(source.offset << 24 | source.index, said)

    def _sourceless(self, record: LogRecord, fact: Fact) -> None:
        where = f"{self.name}[{record.partition}]@{record.offset}"
        if isinstance(fact, Letter):
            self.outputs.worker_letters.append((where, fact))
        else:
            self.findings.fail("I7", where, "does not say what it was made from: no gate wrote it")

    def _keep(self, record: LogRecord, source: Any, fact: Fact) -> None:
        place = (source.offset, source.index)
        highest = self.highest.get((record.partition, source.partition))
        is_above = highest is None or place > highest
        if is_above:
            self.highest[record.partition, source.partition] = place
        digest = fingerprint(self.name, record)
        said = Said(*place, self.topic, record.partition, record.offset, digest, fact)
        known = self.outputs.by_partition.setdefault(source.partition, {})
        before = known.setdefault(place[0] << 24 | place[1], said)
        if before is not said:
            self._compare(before, said)
        elif not is_above and self.name not in self.outputs.compacted:
            what = f"source {source.partition}:{place} comes after {highest}: consumers drop it as a repeat"
            self.findings.fail("I8", self.outputs.where(said), what)

    def _compare(self, before: Said, said: Said) -> None:
        self.findings.counts["repeated outputs"] += 1
        same = before.digest == said.digest
        what = f"differs from {self.outputs.where(before)}, which has the same source"
        self.findings.need("I8", same, self.outputs.where(said), what)

    def _check_address(self, record: LogRecord, message: Any, tenant: str) -> None:
        """Key and partition must be those of the tenant, or of the execution for inputs."""
        findings = self.findings
        findings.saw("I9")
        key = record.key or b""
        choose: Callable[[str, int], int] = partition_for
        if self.kind is task_pb2.TaskInput or self.kind is plan_pb2.PlanInput:
            choose = spread
            chooser = message.headers.execution_id
            expected = chooser.encode()
        elif self.kind is execution_pb2.LifetimeView:
            chooser = tenant
            expected = f"{tenant}/{message.lifetime_id}".encode()
            key = key.removesuffix(b"/end")
        else:
            chooser, expected = tenant, tenant.encode()
        if key != expected:
            where = f"{self.name}[{record.partition}]@{record.offset}"
            findings.fail("I9", where, f"key {_text(key)} on what is {_text(expected)}")
        elif choose(chooser, self.partitions) != record.partition:
            where = f"{self.name}[{record.partition}]@{record.offset}"
            findings.fail("I9", where, f"lies in another partition than {chooser}'s")


def fingerprint(topic: str, record: Any) -> bytes:
    """Return what stands for an output: topic, key, our headers and value. Tracing headers may differ."""
    whole = hashlib.blake2b(record.value or b"", digest_size=DIGEST_BYTES)
    whole.update(b"\x00".join((topic.encode(), record.key or b"")))
    for name, value in record.headers:
        if name in OURS:
            whole.update(b"\x00%s=%s" % (name.encode(), value))
    return whole.digest()


def _is_requeue(record: LogRecord) -> bool:
    """Whether it says that a dead letter's record was put back, which lies among the letters."""
    return ("hg-type", b"LetterRequeued") in record.headers


def _text(key: bytes) -> str:
    return ascii(key[:80].decode(errors="replace"))
