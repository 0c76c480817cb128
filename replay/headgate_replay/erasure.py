"""Erasure: the data keys of a lifetime or of a tenant are destroyed, and the blobs they sealed deleted.

The log stays as it is, byte for byte: hash chains, ledgers and decisions with it. What is sealed in it can be
read by nobody any more. `headgate audit erase` calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import Payload
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.blobs import BlobStore
from headgate_streams.codec import decode
from headgate_streams.payloads import key_of, payload_of
from headgate_streams.port import Log, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.sealing import DataKeys
from headgate_streams.topics import Topics, partition_for


@dataclass
class Sealed:
    """What the log says of the values of a lifetime, or of all of a tenant's."""

    keys: dict[str, None] = field(default_factory=dict)
    """Data keys, in the order in which they were first used."""
    blobs: dict[str, None] = field(default_factory=dict)
    """Keys of the sealed blobs."""
    values: int = 0
    """Sealed values, inline ones and blobs."""
    lifetimes: dict[str, None] = field(default_factory=dict)
    """Whose values those are: a fork and its origin share a key, as do sub-graphs and who asked for them."""
    plain: int = 0
    """Values that stand in the log, or in a blob, as they are: no key can take them back."""


def find_sealed(log: Log, topics: Topics, partitions: int, tenant: str, lifetime_id: str = "") -> Sealed:
    """Read the tenant's log and return what can be erased of one lifetime, or of all.

    Whoever shares a key with a lifetime, before it or after it, is found by the key: for one, the log is read
    twice.
    """
    found = Sealed()
    place = TopicPartition(topics.executions, partition_for(tenant, partitions))
    if lifetime_id:
        for envelope in _envelopes(log, place, tenant):
            if envelope.lifetime_id == lifetime_id:
                found.keys.update((key, None) for one in _payloads(envelope) if (key := key_of(one)))
    for envelope in _envelopes(log, place, tenant):
        for payload in _payloads(envelope):
            if not lifetime_id and (key := key_of(payload)):
                found.keys.setdefault(key)
            _note(found, envelope, payload, is_meant=lifetime_id in ("", envelope.lifetime_id))
    return found


def _envelopes(log: Log, place: TopicPartition, tenant: str) -> Iterator[ExecutionEnvelope]:
    first, end = log.offsets([place])[place]
    for record in read_range(log, place, first, end):
        try:
            envelope = decode(record, ExecutionEnvelope)
        except BadRecord:
            continue  # the fold made a dead letter of it
        if envelope.tenant_id == tenant:
            yield envelope


def erase(found: Sealed, store: BlobStore, tenant: str, by: str, *, everything: bool) -> None:
    """Destroy the keys, then delete the blobs; `everything` destroys the tenant's key, which wraps them all.

    A crash in between leaves blobs that nobody can read; a repeat goes on. Raises BlobUnavailable.
    """
    keys = DataKeys(store)
    for key_id in ("",) if everything else found.keys:
        keys.destroy(tenant, key_id, by)
    for blob in found.blobs:
        store.delete(blob)


def _note(found: Sealed, envelope: ExecutionEnvelope, payload: Payload, *, is_meant: bool) -> None:
    key_id = key_of(payload)
    if key_id in found.keys:
        found.lifetimes.setdefault(envelope.lifetime_id)
        found.values += 1
        if payload.blob.uri:
            found.blobs.setdefault(payload.blob.uri)
    elif is_meant and not key_id and (payload.HasField("blob") or payload.json not in ("", "null")):
        found.plain += 1


def _payloads(envelope: ExecutionEnvelope) -> Iterator[Payload]:
    kind = envelope.WhichOneof("payload")
    if kind == "lifetime_start":
        start = envelope.lifetime_start
        yield start.input
        for one in (*start.fork.prefix, *start.fork.stubs):
            result = one.task_result if one.HasField("task_result") else one.plan_result
            yield payload_of(result)
            yield from (given.input_data for given in one.plan_result.next_inputs)
    elif kind == "task_execution":
        yield envelope.task_execution.input_data
        yield payload_of(envelope.task_execution.result)
    elif kind == "plan_execution":
        result = envelope.plan_execution.result
        yield payload_of(result)
        yield from (given.input_data for given in result.next_inputs)
