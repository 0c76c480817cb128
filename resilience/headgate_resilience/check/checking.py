"""`check_log`: reads the raw topics of an installation and gives a verdict on each invariant.

Order: where the log ends, what the groups have committed, the outputs, then the log, partition by partition.
So what is missing below a committed offset is missing for good, whatever goes on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from headgate_protos.v1 import control_pb2
from headgate_resilience.check.decoding import envelope_of
from headgate_resilience.check.facts import Event
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.isolation import Isolation
from headgate_resilience.check.letters import check_worker_letters
from headgate_resilience.check.model.ledger import Work
from headgate_resilience.check.model.life import Key, Life
from headgate_resilience.check.model.partition import check_closed
from headgate_resilience.check.offsets import Position, check_finished, check_positions, read_positions
from headgate_resilience.check.outputs import Outputs, Said, output_topics, read_outputs
from headgate_resilience.check.records import LogRecords, Records
from headgate_resilience.check.references import References
from headgate_resilience.check.refold import Digests, Refold, checkpoint_digests
from headgate_resilience.check.report import Report
from headgate_resilience.check.walk import Walk
from headgate_streams.blobs import BlobStore
from headgate_streams.port import Log, LogRecord
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for

Progress = Callable[[int, int], None]
"""(records read, records in all)."""
REPORT_EVERY = 1_000
"""Records between two calls of a Progress."""


def check_log(
    log: Log,
    blobs: BlobStore | None,
    stream_settings: StreamSettings,
    *,
    settled: bool,
    canaries: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    acknowledged: Iterable[Key] = (),
    logs: Path | None = None,
    tenant: str = "",
) -> Report:
    """Check the installation that the settings name.

    `settled` says that the workload is over: then what is unfinished is lost, and lag is a violation.
    `canaries` gives strings by tenant that nobody else may have; `acknowledged` names (tenant, lifetime) of
    starts that a client was told are in the log; `logs` is a directory of log files to be searched; `tenant`
    looks at the records of one tenant alone.
    Raises UserError when there is nothing to check, LogUnavailable when the log does not answer.
    """
    records = LogRecords(log, stream_settings.topics())
    secrets = [key.get_secret_value().encode() for key in stream_settings.ticket_keys]
    check = Check(
        records,
        blobs,
        settled=settled,
        canaries=canaries or {},
        progress=progress,
        secrets=secrets,
        tenant=tenant,
    )
    return check.run(acknowledged, logs)


class Check:
    """One check of one source of records."""

    def __init__(
        self,
        records: Records,
        blobs: BlobStore | None,
        *,
        settled: bool,
        canaries: Mapping[str, str],
        progress: Progress | None = None,
        secrets: Sequence[bytes] = (),
        tenant: str = "",
    ) -> None:
        """Take where to read from; `secrets` are the ticket keys of the gates, which I11 needs."""
        self._secrets = secrets
        self._tenant = tenant
        self._records = records
        self._blobs = blobs
        self._settled = settled
        self._findings = Findings()
        self._isolation = Isolation(canaries, self._findings)
        self._references = References(self._findings)
        self._progress = progress
        self._read = 0
        self._total = 0
        self._started: set[Key] = set()
        self._unfinished: dict[str, int] = {}
        """Lifetimes without an end, by tenant."""

    def run(self, acknowledged: Iterable[Key] = (), logs: Path | None = None) -> Report:
        """Read everything and return the report."""
        began_s = time.monotonic()
        topics, findings = self._records.topics, self._findings
        positions = read_positions(self._records)
        spans = dict(self._records.spans(topics.executions))
        names = [topics.executions, *(name for name, _ in output_topics(self._records))]
        self._total = sum(end - first for name in names for first, end in self._records.spans(name).values())
        outputs = read_outputs(self._records, findings, self._look, self._count, self._tenant)
        digests = checkpoint_digests(self._records)
        works: list[tuple[str, Work]] = []
        for partition in self._partitions(spans):
            works += self._partition(partition, positions, outputs, digests)
        check_positions(positions, self._records, findings, settled=self._settled)
        check_finished(works, positions, outputs.topics, findings)
        check_worker_letters(outputs, findings, settled=self._settled)
        self._references.resolve(self._blobs, self._isolation)
        if logs is not None:
            self._isolation.search_files(logs)
        self._check_acknowledged(acknowledged)
        self._check_liveness()
        seconds = time.monotonic() - began_s
        findings.counts["records"] = self._read
        findings.figures["seconds"] = round(seconds, 3)
        findings.figures["records per second"] = round(self._read / max(seconds, 1e-9))
        return findings.report(settled=self._settled)

    def _partitions(self, spans: Iterable[int]) -> list[int]:
        """Return the partitions that are walked: all, or the home of the one tenant that is asked about."""
        home = partition_for(self._tenant, self._records.partitions) if self._tenant else -1
        return [number for number in spans if home in (number, -1)]

    def _look(self, record: LogRecord, tenant: str) -> None:
        if self._tenant in (tenant, ""):
            self._isolation.look(record, tenant)

    def _count(self, records: int) -> None:
        self._read += records
        if self._progress is not None and self._read % REPORT_EVERY == 0:
            self._progress(self._read, self._total)

    # -- the log -----------------------------------------------------------------------------------

    def _partition(
        self, partition: int, positions: Sequence[Position], outputs: Outputs, digests: Digests
    ) -> list[tuple[str, Work]]:
        """Walk one partition of the log; return what is unfinished at its end."""
        topics, findings = self._records.topics, self._findings
        first, _ = self._records.spans(topics.executions)[partition]
        if first:
            why = f"{topics.executions}[{partition}] has lost its first {first} records"
            for invariant in ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I11", "I13", "I14"):
                findings.not_checked(invariant, why)
            return []
        gates = next(one for one in positions if one.group == topics.gate_group)
        committed = gates.committed.get(partition, 0)
        end = gates.ends.get(partition, 0)
        limit = end if self._settled else min(end, committed)
        said = outputs.of(partition)
        holds = self._quarantines(partition, said)
        by_offset: dict[int, list[str]] = {}
        for tenant, offset, _ in holds:
            by_offset.setdefault(offset, []).append(tenant)
        walk = Walk(partition, self._records.partitions, outputs, findings, by_offset, self._tenant)
        at = digests.get(partition, {})
        refold = Refold(partition, self._records, outputs, findings, at, holds, self._secrets, self._tenant)
        self._walk(walk, refold, partition, limit, said)
        return self._close(walk, refold)

    def _quarantines(self, partition: int, said: Sequence[Said]) -> list[tuple[str, int, str]]:
        """Return (tenant, first offset, error) of each quarantine that was announced."""
        announced = {
            one.offset
            for one in said
            if isinstance(one.fact, Event) and one.fact.type == control_pb2.CONTROL_TYPE_QUARANTINE_TENANT
        }
        found = []
        for record in self._records.read(self._records.topics.executions, partition) if announced else ():
            if record.offset in announced:
                envelope, kind = envelope_of(record)
                if kind == "tenant_quarantined":
                    note = envelope.tenant_quarantined
                    found.append((envelope.tenant_id, note.from_offset, note.error))
        return found

    def _walk(self, walk: Walk, refold: Refold, partition: int, limit: int, said: Sequence[Said]) -> None:
        place = 0
        for record in self._records.read(self._records.topics.executions, partition):
            self._count(1)
            if record.offset >= limit:
                walk.glimpse(record)
                continue
            first = place
            while place < len(said) and said[place].offset <= record.offset:
                place += 1
            here = [one for one in said[first:place] if one.offset == record.offset]
            self._strays(walk, [one for one in said[first:place] if one.offset != record.offset])
            taken = walk.take(record, here)
            if taken is not None:
                _, envelope, kind = taken
                self._look(record, envelope.tenant_id)
                self._references.collect(envelope, kind, f"{record.topic}[{partition}]@{record.offset}")
            refold.take(record, here)
        if self._settled:
            self._strays(walk, [one for one in said[place:] if one.offset < limit])

    def _strays(self, walk: Walk, said: Iterable[Said]) -> None:
        for one in said:
            where = walk.known.outputs.where(one)
            self._findings.fail("I7", where, "was made from a record that is not there")

    def _close(self, walk: Walk, refold: Refold) -> list[tuple[str, Work]]:
        """Look at what is left at the end of a partition."""
        known, findings = walk.known, self._findings
        for life in list(known.lives.values()):
            check_closed(known, life)
        for key in known.started:
            self._started.add(key)
            findings.saw("I1")
            self._unfinished.setdefault(key[0], 0)
            if not known.has_ended(key):
                self._note_unfinished(key, known.lives.get(key))
        self._check_tenants(walk, refold)
        return [
            (life.where, work)
            for life in known.lives.values()
            if life.end is None
            for work in life.account.works.values()
            if work.is_open and work.execution_id not in walk.beyond
        ]

    def _note_unfinished(self, key: Key, life: Life | None) -> None:
        self._unfinished[key[0]] += 1
        self._findings.counts["lifetimes unfinished"] += 1
        if self._settled:
            standing = "is paused" if life is not None and life.is_paused else "has no final status"
            self._findings.fail("I1", f"lifetime {'/'.join(key)}", standing)

    def _check_tenants(self, walk: Walk, refold: Refold) -> None:
        """I3: the ledger of each tenant is the sum over its unique runs."""
        for tenant, sums in walk.caps.tenants():
            kept = refold.spend_of(tenant)
            if kept is not None and self._tenant in (tenant, ""):
                what = f"its ledger has {kept} (tokens, nano-USD, ms), unique runs add up to {sums.usage}"
                self._findings.need("I3", kept == sums.usage, f"tenant {tenant}", what)

    # -- at the end --------------------------------------------------------------------------------

    def _check_acknowledged(self, acknowledged: Iterable[Key]) -> None:
        for key in acknowledged:
            there = tuple(key) in self._started
            self._findings.need(
                "I1", there, f"lifetime {'/'.join(key)}", "was acknowledged, and is not in the log"
            )

    def _check_liveness(self) -> None:
        if not self._settled:
            self._findings.not_checked("I14", "the workload is not said to be over")
            return
        for tenant, count in sorted(self._unfinished.items()):
            self._findings.need(
                "I14", not count, f"tenant {tenant}", f"{count} lifetimes did not come to an end"
            )
