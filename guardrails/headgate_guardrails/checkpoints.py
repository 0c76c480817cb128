"""Where the gate's checkpoints are kept: a manifest and one blob per tenant, named by a compacted topic.

A partition has K rotating slots. A tenant that has not changed is not written again; its bytes are kept for
as long as any slot names them. A damaged or missing newest checkpoint falls back to an older one, and in the
end to the log itself.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from headgate_graphs.errors import BadRecord, BlobIntegrity, BlobMissing, LogTruncated
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.fold.snapshot import (
    Capture,
    CheckpointUnreadable,
    Known,
    known_of,
    read_manifest,
    restore,
    seal,
)
from headgate_guardrails.fold.state import PartitionState
from headgate_protos.v1.common_pb2 import BlobReference
from headgate_protos.v1.state_pb2 import CheckpointManifest, CheckpointPointer
from headgate_streams.blobs import BlobStore
from headgate_streams.codec import decode, encode
from headgate_streams.port import Log, LogProducer, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

SLOTS = 3
"""Checkpoints kept of each partition: one that may be damaged, one that is being replaced, one more."""
READ_TIMEOUT_S = 30.0
"""How long reading the pointers may take before the log is folded from its beginning instead."""
MAX_PART_BYTES = 1 << 30
"""A larger tenant is not read back; it would not fit beside the partition's traffic."""
FETCHES = 8
"""Blobs read at once when a checkpoint is restored."""


class Checkpoint(NamedTuple):
    """A checkpoint as it was found or has been stored: what the compacted topic says, and what it names."""

    pointer: CheckpointPointer
    manifest: CheckpointManifest


class Restored(NamedTuple):
    """A state from a checkpoint."""

    state: PartitionState
    known: Known
    """What the next checkpoint need not write again."""


class CheckpointStore:
    """Finds the newest usable checkpoint of a partition, and keeps new ones."""

    def __init__(self, log: Log, blobs: BlobStore, topics: Topics) -> None:
        self._log = log
        self._blobs = blobs
        self._topics = topics
        self._slots: dict[int, dict[int, Checkpoint]] = {}
        """By partition and slot."""

    def newest(self, partition: int, *, up_to: int | None = None) -> Restored | None:
        """Return the newest state that can be read; None means fold the log from its beginning.

        `up_to` leaves out those of a later offset. Raises BlobUnavailable when the store does not answer:
        that is no reason to fold for hours; LogTruncated when the log is another than the checkpoint's.
        """
        pointers = self._read(partition)
        self._slots[partition] = slots = {}
        found: Restored | None = None
        topic_id = self._log.topic_id(self._topics.executions) if pointers else ""
        for slot, pointer in sorted(pointers.items(), key=lambda item: -item[1].next_offset):
            try:
                self._check_place(pointer, topic_id)
                manifest = read_manifest(self._get(pointer.manifest.uri, pointer.digest))
                slots[slot] = Checkpoint(pointer, manifest)
                if found is None and (up_to is None or pointer.next_offset <= up_to):
                    found = self._load(pointer, manifest)
            except (BlobMissing, BlobIntegrity, CheckpointUnreadable) as error:
                logger.warning("checkpoint of partition %d at %d: %s", partition, pointer.next_offset, error)
        return found

    def store(self, taken: Capture, last: LogRecord | None) -> tuple[Checkpoint, Known]:
        """Put what is new into the blob store; call off the loop, then `publish`.

        `last` is the record before the captured offset, None when there is none.
        """
        sealed = seal(taken)
        manifest, partition = read_manifest(sealed.manifest), taken.manifest.partition
        for sha, content in sealed.blobs.items():
            self._blobs.put(self._key(partition, sha), content, "application/x-protobuf")
        key = self._key(partition, sealed.digest)
        self._blobs.put(key, sealed.manifest, "application/x-protobuf")
        pointer = CheckpointPointer(
            topic=self._topics.executions,
            partition=partition,
            next_offset=manifest.next_offset,
            digest=sealed.digest,
            logic_version=manifest.logic_version,
            manifest=BlobReference(uri=key, size_bytes=len(sealed.manifest), sha256=sealed.digest),
            topic_id=self._log.topic_id(self._topics.executions),
            last_record_sha256=fingerprint(last) if last is not None else "",
        )
        pointer.captured_at.FromMilliseconds(int(time.time() * 1000))
        return Checkpoint(pointer, manifest), sealed.known

    def publish(self, producer: LogProducer, made: Checkpoint) -> None:
        """Append the pointer in place of the oldest slot's, then forget what no slot names any more."""
        pointer = made.pointer
        slots = self._slots.setdefault(pointer.partition, {})
        free = [slot for slot in range(SLOTS) if slot not in slots]
        slot = free[0] if free else min(slots, key=lambda s: slots[s].pointer.next_offset)
        replaced = slots.get(slot)
        slots[slot] = made
        value, headers = encode(pointer, EVERY_TENANT)
        key = f"{EVERY_TENANT}/{pointer.topic}/{pointer.partition}/{slot}".encode()
        producer.append(self._topics.checkpoints, 0, key=key, value=value, headers=headers)
        producer.flush()
        if replaced is not None:
            for sha in _named([replaced]) - _named(slots.values()):
                self._blobs.delete(self._key(pointer.partition, sha))

    def _key(self, partition: int, sha: str) -> str:
        # No tenant id has a dot, so no tenant's blobs can be in this folder.
        return f"checkpoints.v2/{self._topics.prefix}/{partition}/{sha}"

    # -- reading -----------------------------------------------------------------------------------

    def _load(self, pointer: CheckpointPointer, manifest: CheckpointManifest) -> Restored:
        if (manifest.partition, manifest.next_offset) != (pointer.partition, pointer.next_offset):
            raise CheckpointUnreadable("it is of another place than its pointer says")
        self._check_last_record(pointer)
        with ThreadPoolExecutor(FETCHES, thread_name_prefix="restore") as pool:
            named = [entry.sha256 for entry in manifest.tenants]
            keys = [self._key(manifest.partition, sha) for sha in named]
            contents = dict(zip(named, pool.map(self._get, keys, named), strict=True))
        return Restored(restore(manifest, lambda entry: contents[entry.sha256]), known_of(manifest))

    def _get(self, key: str, sha: str) -> bytes:
        content = self._blobs.get(key, MAX_PART_BYTES)
        if hashlib.sha256(content).hexdigest() != sha:
            raise BlobIntegrity(f"the bytes of {key} are not what their digest says")
        return content

    def _check_place(self, pointer: CheckpointPointer, topic_id: str) -> None:
        if pointer.topic_id and topic_id and pointer.topic_id != topic_id:
            raise LogTruncated(
                f"topic {pointer.topic} was deleted and made again after the checkpoint at "
                f"{pointer.next_offset} of partition {pointer.partition}: what was folded is gone with it; "
                f"use another prefix, or delete {self._topics.checkpoints} and the gate's group to begin anew"
            )

    def _check_last_record(self, pointer: CheckpointPointer) -> None:
        """Refuse a checkpoint whose last record is not the log's, as after an unclean election."""
        if not pointer.last_record_sha256:
            return
        place = TopicPartition(pointer.topic, pointer.partition)
        beginning, end = self._log.offsets([place])[place]
        offset = pointer.next_offset - 1
        if offset < beginning:
            return  # retention has taken it, which is what checkpoints are for
        if offset >= end:
            raise CheckpointUnreadable(f"the log ends at {end}, before it")
        for record in read_range(self._log, place, offset, offset + 1, READ_TIMEOUT_S):
            if fingerprint(record) != pointer.last_record_sha256:
                raise CheckpointUnreadable(f"record {offset} is not the one that it was made after")

    def _read(self, partition: int) -> dict[int, CheckpointPointer]:
        """Return the newest pointer in each slot of the partition."""
        mine = (self._topics.executions, partition)
        place = TopicPartition(self._topics.checkpoints, 0)
        position, end = self._log.offsets([place])[place]
        found: dict[int, CheckpointPointer] = {}
        for record in read_range(self._log, place, position, end, READ_TIMEOUT_S):
            try:
                pointer = decode(record, CheckpointPointer)
                slot = int((record.key or b"").rpartition(b"/")[2])
            except (BadRecord, ValueError) as error:
                logger.warning("checkpoint pointer at %d is not one: %s", record.offset, error)
                continue
            if (pointer.topic, pointer.partition) == mine:
                found[slot] = pointer
        return found


def _named(checkpoints: Iterable[Checkpoint]) -> set[str]:
    """Return the digests of all that the checkpoints are made of."""
    found: set[str] = set()
    for pointer, manifest in checkpoints:
        found.add(pointer.digest)
        found.update(entry.sha256 for entry in manifest.tenants)
    return found


def fingerprint(record: LogRecord) -> str:
    """Return the lower-case hex SHA-256 of a record's key and value."""
    key = record.key or b""
    return hashlib.sha256(len(key).to_bytes(8) + key + (record.value or b"")).hexdigest()
