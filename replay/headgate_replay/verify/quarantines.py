"""Which tenants the gates have held, and from which record on: read only where a fold differs.

A gate that failed for a tenant said nothing for it from that record on, and noted so in the log, behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

from headgate_graphs.errors import BadRecord
from headgate_guardrails.fold.quarantine import Hold, quarantine_said
from headgate_guardrails.folding import NOTE
from headgate_protos.v1 import control_pb2, execution_pb2
from headgate_replay.reading.installation import Installation
from headgate_streams.codec import decode
from headgate_streams.port import LogRecord, TopicPartition
from headgate_streams.ranges import read_range


def announced_holds(installation: Installation, partition: int) -> list[Hold]:
    """Return the holds of a partition that its gates have published.

    All that are noted in the log, when retention has taken what was published.
    """
    topics = installation.topics
    notes = list(_notes(installation, TopicPartition(topics.executions, partition)))
    place = TopicPartition(topics.control_events, partition)
    beginning = installation.log.offsets([place])[place][0] if notes else 0
    if not notes or beginning:
        return [hold for _, hold in notes]
    announced = {source for source in _announcements(installation, place) if source is not None}
    return [hold for offset, hold in notes if offset in announced]


def _notes(installation: Installation, place: TopicPartition) -> Iterator[tuple[int, Hold]]:
    for record in _all(installation, place):
        if record.value and NOTE in record.value:
            try:
                envelope = decode(record, execution_pb2.ExecutionEnvelope)
            except BadRecord:
                continue  # the fold makes a dead letter of it
            if envelope.WhichOneof("payload") == "tenant_quarantined":
                yield record.offset, quarantine_said(envelope)


def _announcements(installation: Installation, place: TopicPartition) -> Iterator[int | None]:
    for record in _all(installation, place):
        try:
            event = decode(record, control_pb2.ExecutionEvent)
        except BadRecord:
            continue
        if (
            event.type == control_pb2.CONTROL_TYPE_QUARANTINE_TENANT
            and event.source.partition == place.partition
        ):
            yield event.source.offset


def _all(installation: Installation, place: TopicPartition) -> Iterator[LogRecord]:
    first, end = installation.log.offsets([place])[place]
    return read_range(installation.log, place, first, end)
