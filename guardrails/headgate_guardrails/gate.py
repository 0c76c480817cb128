"""The gate as a process: reads the log, folds it, writes what must follow. Recovery is replay.

The order of effects, for each batch of records, is the whole of the protocol:

1. fold every record of the batch into the state (pure);
2. append the outputs, in source order, and flush them (`acks=all`);
3. commit the offset after the batch, under the assignment that folded it;
4. now and then, capture a checkpoint at that committed offset; upload it off the loop; publish its pointer.

A crash before 3 repeats 1 and 2 with the same ids and sources, and whoever has seen them drops them. On
assignment the newest checkpoint S is restored and the log is folded from S, with outputs suppressed up to
max(C, S), where C is the committed offset: what was flushed before C is never written twice by its owner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from headgate_graphs.errors import HeadgateError, LogTruncated, PartitionLost
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.snapshot import capture
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import (
    CONTROL_EVENTS,
    LIFETIMES,
    PLAN_INPUTS,
    TASK_INPUTS,
    Output,
)
from headgate_guardrails.settings import GateSettings
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, Tick
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_streams.blobs import BlobStore
from headgate_streams.codec import encode
from headgate_streams.crash import crash_point
from headgate_streams.port import Committed, Log, LogConsumer, LogProducer, LogRecord, TopicPartition
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics, partition_for

logger = logging.getLogger(__name__)

TICK_RETRY_S = 5.0
"""A tick that has not come back after this long is sent again."""


class FoldFailed(HeadgateError):
    """The fold raised on a record: a bug, named with the record's coordinates."""


class Shard:
    """One partition this gate owns."""

    __slots__ = (
        "captured_at",
        "captured_offset",
        "committed",
        "engine",
        "loud_from",
        "place",
        "tick_after",
        "upload",
    )

    def __init__(self, place: TopicPartition, state: PartitionState, committed: int) -> None:
        self.place = place
        self.engine = GuardrailEngine(state)
        self.committed = committed
        """The group's offset: never moved back."""
        self.loud_from = max(committed, state.next_offset)
        """First offset whose outputs are written; what is before was written already."""
        self.captured_offset = state.next_offset
        self.captured_at = time.monotonic()
        self.upload: Future[CheckpointPointer] | None = None
        self.tick_after = 0.0
        """Monotonic time before which no further tick is sent."""

    @property
    def state(self) -> PartitionState:
        """The folded state."""
        return self.engine.state


class Gate:
    """A long-lived guardrail stream processor; several share the partitions of the log."""

    def __init__(
        self,
        log: Log,
        blobs: BlobStore,
        settings: StreamSettings,
        gate_settings: GateSettings | None = None,
    ) -> None:
        self._log = log
        self._settings = gate_settings or GateSettings()
        self._partitions = settings.partitions
        self._topics = Topics(settings.topic_prefix)
        self._group = f"{settings.topic_prefix}.gate"
        self._checkpoints = CheckpointStore(log, blobs, self._topics)
        self._shards: dict[int, Shard] = {}
        self._queues: set[str] = {""}
        self._consumer: LogConsumer
        self._producer: LogProducer
        self._publisher: ExecutionPublisher
        self.ready = threading.Event()
        """Set when the group has been joined and the first poll is over."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then save checkpoints and leave the group.

        Makes missing topics first. Raises what ends a gate: a failed delivery, a truncated log, a bug in the
        fold, a topic with another partition count.
        """
        self._log.create_topics(self._topics.descriptions(self._partitions))
        self._producer = self._log.producer()
        self._publisher = ExecutionPublisher(self._producer, self._topics, self._partitions)
        self._consumer = self._log.consumer(self._group)
        pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        try:
            self._consumer.subscribe([self._topics.executions], self._assigned, self._revoked)
            while not stop.is_set():
                self._turn(pool)
                self.ready.set()
            self._save_all(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._consumer.close()
            self._producer.close()

    def _turn(self, pool: ThreadPoolExecutor) -> None:
        records = self._consumer.poll(self._settings.poll_ms / 1000, self._settings.batch_records)
        if records:
            self._fold(records)
            crash_point("after-produce")
            self._producer.flush()
            crash_point("after-flush")
            self._commit()
            crash_point("after-commit")
        self._tick()
        self._save_due(pool)

    # -- 1 and 2: fold, append ---------------------------------------------------------------------

    def _fold(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            shard = self._shards.get(record.partition)
            if shard is None or record.offset < shard.state.next_offset:
                continue
            try:
                outputs = shard.engine.apply(record)
            except HeadgateError:
                raise
            except Exception as error:
                where = f"{record.topic}[{record.partition}]@{record.offset}"
                raise FoldFailed(f"the fold failed on {where}: {error!r}") from error
            if record.offset >= shard.loud_from:
                for output in outputs:
                    self._append(output)
        crash_point("after-fold")

    def _append(self, output: Output) -> None:
        topic, key = self._address(output)
        value, headers = encode(output.message, output.tenant_id)
        self._producer.append(
            topic,
            partition_for(key, self._partitions),
            key=output.key.encode(),
            value=value,
            headers=headers,
        )

    def _address(self, output: Output) -> tuple[str, str]:
        """Return the topic, and the text that chooses the partition."""
        kind, topics = output.topic, self._topics
        if kind in (TASK_INPUTS, PLAN_INPUTS):
            if output.queue not in self._queues:
                self._log.create_topics(topics.descriptions(self._partitions, [output.queue]))
                self._queues.add(output.queue)
            make = topics.task_inputs if kind == TASK_INPUTS else topics.plan_inputs
            return make(output.queue), output.key
        if kind == CONTROL_EVENTS:
            return topics.control_events, output.tenant_id
        if kind == LIFETIMES:
            return topics.lifetimes, output.tenant_id
        return topics.dead_letters, output.tenant_id

    # -- 3: commit ---------------------------------------------------------------------------------

    def _commit(self) -> None:
        moved = {
            shard.place: Committed(shard.state.next_offset, "")
            for shard in self._shards.values()
            if shard.state.next_offset > shard.committed
        }
        if not moved:
            return
        try:
            self._consumer.commit(moved)
        except PartitionLost as error:
            # Somebody else owns one of them and has said, or will say, the same. The next poll tells which.
            logger.warning("not committed: %s", error)
            return
        for place, committed in moved.items():
            self._shards[place.partition].committed = committed.offset

    # -- 4: checkpoints ----------------------------------------------------------------------------

    def _save_due(self, pool: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        for shard in self._shards.values():
            if shard.upload is not None:
                if shard.upload.done():
                    self._published(shard)
                continue
            fresh = shard.committed - shard.captured_offset
            old = now - shard.captured_at >= self._settings.checkpoint_s
            if fresh >= self._settings.checkpoint_records or (fresh > 0 and old):
                self._capture(shard, pool)

    def _capture(self, shard: Shard, pool: ThreadPoolExecutor) -> None:
        if shard.state.next_offset != shard.committed:
            return  # not at a committed offset: still silent, or the commit was refused
        content = capture(shard.state)
        shard.captured_offset, shard.captured_at = shard.committed, time.monotonic()
        crash_point("during-checkpoint")
        shard.upload = pool.submit(self._checkpoints.store, content, shard.committed, shard.place.partition)

    def _published(self, shard: Shard) -> None:
        upload, shard.upload = shard.upload, None
        if upload is None:
            return
        try:
            pointer = upload.result(timeout=self._settings.stop_s)
            self._checkpoints.publish(self._producer, pointer)
        except (HeadgateError, TimeoutError) as error:
            # A checkpoint only saves time: the log and the older ones are still there.
            logger.warning("checkpoint of partition %d was not kept: %s", shard.place.partition, error)

    def _save_all(self, pool: ThreadPoolExecutor) -> None:
        for shard in self._shards.values():
            self._published(shard)
            if shard.committed > shard.captured_offset:
                self._capture(shard, pool)
        for shard in self._shards.values():
            self._published(shard)

    # -- time --------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Move the clock of a partition in which a timer is due and nothing else arrives.

        This machine's clock only says when to ask; the tick's append time is what the fold sees.
        """
        now_ms, now = int(time.time() * 1000), time.monotonic()
        for shard in self._shards.values():
            heap, state = shard.state.heap, shard.state
            if not heap or heap[0][0] > now_ms or now < shard.tick_after:
                continue
            if state.next_offset < shard.loud_from:
                continue  # still catching up: the log has what is needed
            left_s = max(0.0, (heap[0][0] - state.clock_ms) / 1000)
            shard.tick_after = now + min(TICK_RETRY_S, max(0.05, min(left_s, 1.0)))
            envelope = ExecutionEnvelope(tenant_id=EVERY_TENANT, tick=Tick())
            self._publisher.publish_to(shard.place.partition, envelope)
            self._producer.poll()

    # -- assignment --------------------------------------------------------------------------------

    def _assigned(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        committed = self._consumer.committed(places)
        ends = self._log.offsets(places)
        starts: dict[TopicPartition, int] = {}
        for place in places:
            known = committed[place]
            beginning = ends[place][0]
            state = self._checkpoints.newest(place.partition) or PartitionState(
                place.partition, self._partitions
            )
            if state.next_offset < beginning:
                raise LogTruncated(
                    f"{place.topic}[{place.partition}] begins at {beginning}, but the newest checkpoint that "
                    f"can be read is at {state.next_offset}: records that the gate still needs are gone"
                )
            crash_point("during-restore")
            self._shards[place.partition] = Shard(place, state, known.offset if known else 0)
            starts[place] = state.next_offset
            logger.info("partition %d is folded from %d", place.partition, state.next_offset)
        return starts

    def _revoked(self, places: Sequence[TopicPartition]) -> None:
        """Forget what somebody else will own; everything folded here is flushed and committed already."""
        for place in places:
            self._shards.pop(place.partition, None)
