"""Where the gate's checkpoints are kept: bytes in the blob store, pointers on a compacted topic.

A partition has K rotating slots. A damaged or missing newest checkpoint falls back to an older one, and in
the end to the log itself.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator

from headgate_graphs.errors import BadRecord, BlobIntegrity, BlobMissing
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.fold.snapshot import CheckpointUnreadable, restore
from headgate_guardrails.fold.state import LOGIC_VERSION, PartitionState
from headgate_protos.v1.common_pb2 import BlobReference
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_streams.blobs import BlobStore
from headgate_streams.codec import decode, encode
from headgate_streams.port import Log, LogProducer, TopicPartition
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

SLOTS = 3
"""Checkpoints kept of each partition: one that may be damaged, one that is being replaced, one more."""
READ_TIMEOUT_S = 30.0
"""How long reading the pointers may take before the log is folded from its beginning instead."""
MAX_STATE_BYTES = 1 << 30
"""A larger state is not read back; it would not fit beside the partition's traffic."""


class CheckpointStore:
    """Finds the newest usable checkpoint of a partition, and keeps new ones."""

    def __init__(self, log: Log, blobs: BlobStore, topics: Topics) -> None:
        self._log = log
        self._blobs = blobs
        self._topics = topics
        self._slots: dict[int, dict[int, CheckpointPointer]] = {}

    def newest(self, partition: int) -> PartitionState | None:
        """Return the newest state that can be read; None means fold the log from its beginning.

        Raises BlobUnavailable when the store does not answer: that is no reason to fold for hours.
        """
        self._slots[partition] = slots = self._read(partition)
        for pointer in sorted(slots.values(), key=lambda p: -p.next_offset):
            try:
                return self._load(pointer)
            except (BlobMissing, BlobIntegrity, CheckpointUnreadable) as error:
                logger.warning("checkpoint of partition %d at %d: %s", partition, pointer.next_offset, error)
        return None

    def store(self, state_bytes: bytes, next_offset: int, partition: int) -> CheckpointPointer:
        """Put the bytes into the blob store and return their pointer; call off the loop, then `publish`."""
        sha = hashlib.sha256(state_bytes).hexdigest()
        # No tenant id has a dot, so no tenant's blobs can be in this folder.
        key = f"checkpoints.v1/{self._topics.prefix}/{partition}/{sha}"
        self._blobs.put(key, state_bytes, "application/x-protobuf")
        pointer = CheckpointPointer(
            topic=self._topics.executions,
            partition=partition,
            next_offset=next_offset,
            digest=sha,
            logic_version=LOGIC_VERSION,
            blob=BlobReference(uri=key, size_bytes=len(state_bytes), sha256=sha),
        )
        pointer.captured_at.FromMilliseconds(int(time.time() * 1000))
        return pointer

    def publish(self, producer: LogProducer, pointer: CheckpointPointer) -> None:
        """Append the pointer in place of the oldest slot's, then forget what that slot held."""
        slots = self._slots.setdefault(pointer.partition, {})
        free = [slot for slot in range(SLOTS) if slot not in slots]
        slot = free[0] if free else min(slots, key=lambda s: slots[s].next_offset)
        replaced = slots.get(slot)
        slots[slot] = pointer
        value, headers = encode(pointer, EVERY_TENANT)
        key = f"{EVERY_TENANT}/{pointer.topic}/{pointer.partition}/{slot}".encode()
        producer.append(self._topics.checkpoints, 0, key=key, value=value, headers=headers)
        producer.flush()
        if replaced is not None and all(p.digest != replaced.digest for p in slots.values()):
            self._blobs.delete(replaced.blob.uri)

    def _load(self, pointer: CheckpointPointer) -> PartitionState:
        content = self._blobs.get(pointer.blob.uri, MAX_STATE_BYTES)
        if hashlib.sha256(content).hexdigest() != pointer.digest:
            raise BlobIntegrity("its bytes are not what its digest says")
        state = restore(content)
        if (state.partition, state.next_offset) != (pointer.partition, pointer.next_offset):
            raise CheckpointUnreadable("it is of another place than its pointer says")
        return state

    def _read(self, partition: int) -> dict[int, CheckpointPointer]:
        """Return the newest pointer in each slot of the partition."""
        mine = (self._topics.executions, partition)
        return {slot: p for slot, p in self._pointers() if (p.topic, p.partition) == mine}

    def _pointers(self) -> Iterator[tuple[int, CheckpointPointer]]:
        place = TopicPartition(self._topics.checkpoints, 0)
        position, end = self._log.offsets([place])[place]
        reader = self._log.reader()
        try:
            reader.assign({place: position})
            stop_at = time.monotonic() + READ_TIMEOUT_S
            while position < end and time.monotonic() < stop_at:
                for record in reader.poll(0.5):
                    position = record.offset + 1
                    try:
                        pointer = decode(record, CheckpointPointer)
                        yield int((record.key or b"").rpartition(b"/")[2]), pointer
                    except (BadRecord, ValueError) as error:
                        logger.warning("checkpoint pointer at %d is not one: %s", record.offset, error)
        finally:
            reader.close()
