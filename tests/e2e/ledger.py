"""An account of a run that is made from the raw log alone, to compare the gate's own with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from headgate.reading import partitions_of, read_to_now
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.opening import open_log
from headgate_streams.port import LogRecord
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics


def records(settings: StreamSettings, *topics: str) -> list[LogRecord]:
    """Return everything that the topics hold now."""
    log = open_log(settings)
    try:
        return list(read_to_now(log, partitions_of(log, topics)))
    finally:
        log.close()


def envelopes(settings: StreamSettings) -> list[tuple[LogRecord, ExecutionEnvelope]]:
    """Return every record of the executions log."""
    found = records(settings, Topics(settings.topic_prefix).executions)
    return [(record, ExecutionEnvelope.FromString(record.value or b"")) for record in found]


def tokens_over_time(settings: StreamSettings, lifetime_id: str) -> Iterator[tuple[int, int]]:
    """Yield (settled, held) tokens of a lifetime after each record that changed them.

    What a dispatch reserved is held from the record that caused it to the result of that execution.
    """
    holds = _holds(settings, lifetime_id)
    settled = held = 0
    open_holds: dict[str, int] = {}
    for record, envelope in envelopes(settings):
        if envelope.lifetime_id != lifetime_id:
            continue
        body = getattr(envelope, envelope.WhichOneof("payload"))
        if hasattr(body, "resource_usage"):
            settled += body.resource_usage.tokens_used
            held -= open_holds.pop(body.headers.execution_id, 0)
        for execution_id, tokens in holds.get((record.partition, record.offset), ()):
            open_holds[execution_id] = tokens
            held += tokens
        yield settled, held


def _holds(settings: StreamSettings, lifetime_id: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    topics = Topics(settings.topic_prefix)
    inputs = chain(
        (TaskInput.FromString(record.value or b"") for record in records(settings, topics.task_inputs())),
        (PlanInput.FromString(record.value or b"") for record in records(settings, topics.plan_inputs())),
    )
    holds: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for given in inputs:
        if given.headers.lifetime_id == lifetime_id:
            source = (given.source.partition, given.source.offset)
            holds.setdefault(source, []).append((given.headers.execution_id, given.hold.tokens_used))
    return holds
