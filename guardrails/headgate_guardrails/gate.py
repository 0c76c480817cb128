"""The gate as a process: reads the log, folds it, writes what must follow. Recovery is replay.

The order of effects, for each batch of records, is the whole of the protocol:

1. fold every record of the batch into the state (pure);
2. append the outputs, in source order, and flush them (`acks=all`);
3. commit the offset after what was flushed, under the assignment that folded it: at most every `commit_s`,
   as nobody waits for it, and once more before a partition is given up;
4. now and then, begin to capture a checkpoint at that committed offset S; write it in slices between batches
   (what a record is about to change is written first, so that it is the state at S); upload it off the loop;
   publish its pointer.

A crash before 3 repeats 1 and 2 with the same ids and sources, and whoever has seen them drops them. On
assignment the newest checkpoint S is restored and the log is folded from S, with outputs suppressed up to
max(C, S), where C is the committed offset: what was flushed before C is never written twice by its owner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf

from headgate_graphs.errors import HeadgateError, LogUnavailable, PartitionLost
from headgate_graphs.ids import EVERY_TENANT
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.turn import (
    CONTROL_EVENTS,
    DEAD_LETTERS,
    LIFETIMES,
    PLAN_INPUTS,
    TASK_INPUTS,
    Output,
)
from headgate_guardrails.folding import PartitionFold, surroundings
from headgate_guardrails.queues import PartitionQueues
from headgate_guardrails.settings import GateSettings
from headgate_guardrails.shard import EACH_S, SLICE_S, Shard
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LogicVersionActivated, Tick
from headgate_streams.blobs import BlobStore
from headgate_streams.codec import headers_of
from headgate_streams.crash import crash_point
from headgate_streams.flood import FloodLimit
from headgate_streams.letters import tell
from headgate_streams.port import Committed, Log, LogConsumer, LogProducer, LogRecord, TopicPartition
from headgate_streams.publisher import ExecutionPublisher
from headgate_streams.settings import StreamSettings
from headgate_streams.signing import ticket
from headgate_streams.topics import partition_for, spread

logger = logging.getLogger(__name__)

READ_AHEAD = 4
"""Batches that may have been read and wait: so a partition with a backlog does not hide what others have."""
GATHER_MS = 50
"""Outputs may wait for others of their batch, which ends with a flush that sends all at once."""
TICK_RETRY_S = 5.0
"""A tick that has not come back after this long is sent again."""


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
        self._topics = settings.topics()
        self._group = self._topics.gate_group
        self._checkpoints = CheckpointStore(log, blobs, self._topics)
        self._means = surroundings(log, self._topics.executions, settings)
        self._shards: dict[int, Shard] = {}
        self._names: dict[tuple[str, str], str] = {}
        """Topics by kind of output and queue."""
        self._slice_after = 0.0
        """Monotonic time before which nothing is done between batches."""
        self._flood = FloodLimit(self._settings.dead_letter_limit_per_minute)
        self._queues = PartitionQueues()
        self._next_commit_s = 0.0
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
        self._producer = self._log.producer(gather_ms=GATHER_MS)
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
        if over := self._flood.over(time.monotonic()):
            self._consumer.resume(over)
        self._read()
        if self._queues:
            self._fold(self._queues.take(self._settings.batch_records))
            crash_point("after-produce")
            self._flush()
            crash_point("after-flush")
        if time.monotonic() >= self._next_commit_s:
            self._commit()
        self._tick()
        self._between_batches(pool)

    def _read(self) -> None:
        """Take in what there is, as far as there is room; wait only when nothing is left to fold."""
        room = READ_AHEAD * self._settings.batch_records - len(self._queues)
        wait_s = 0.0 if self._queues else self._settings.poll_ms / 1000
        records = self._consumer.poll(wait_s, room)
        self._queues.add(record for record in records if record.partition in self._shards)

    # -- 1 and 2: fold, append ---------------------------------------------------------------------

    def _fold(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            shard = self._shards.get(record.partition)
            if shard is None or record.offset < shard.state.next_offset:
                continue
            outputs = shard.fold.apply(record)
            shard.last = record
            for output in outputs:
                self._append(output)
                if output.topic == DEAD_LETTERS:
                    self._on_letter(shard.place, output.message)
            if shard.fold.found:
                self._note(shard)
        crash_point("after-fold")

    def _note(self, shard: Shard) -> None:
        """Say in the log which tenants are held: flushed with the outputs, and so before the commit."""
        for hold in shard.fold.found:
            envelope = ExecutionEnvelope(tenant_id=hold.tenant_id)
            said = envelope.tenant_quarantined
            said.from_offset, said.error = hold.offset, hold.error
            if shard.state.ticket_key:
                secret = self._means.secrets[shard.state.ticket_key]
                said.ticket = ticket(secret, "quarantine", hold.tenant_id, str(hold.offset))
            self._publisher.publish_to(shard.place.partition, envelope)
        shard.fold.found.clear()
        shard.captured_at = -inf  # so that a restart need not come to the same fault again

    def _on_letter(self, place: TopicPartition, letter: DeadLetter) -> None:
        """Count it; what floods is read later, and what is said about each record stays the same."""
        tell(letter)
        pause_s = self._flood.note(place, time.monotonic())
        if pause_s:
            logger.warning("%s", self._flood.warning(place, pause_s))
            self._consumer.pause([place])

    def _append(self, output: Output) -> None:
        kind = output.topic
        if kind in (TASK_INPUTS, PLAN_INPUTS):
            partition = spread(output.key, self._partitions)
        else:
            partition = partition_for(output.tenant_id, self._partitions)
        self._producer.append(
            self._names.get((kind, output.queue)) or self._name(kind, output.queue),
            partition,
            key=output.key.encode(),
            value=output.value,
            headers=headers_of(output.kind.__name__, output.tenant_id),
        )

    def _name(self, kind: str, queue: str) -> str:
        """Return the name of a topic, which is made first when it is of a queue that is new here."""
        topics = self._topics
        if queue:
            self._log.create_topics(topics.descriptions(self._partitions, [queue]))
        names = {
            TASK_INPUTS: topics.task_inputs(queue),
            PLAN_INPUTS: topics.plan_inputs(queue),
            CONTROL_EVENTS: topics.control_events,
            LIFETIMES: topics.lifetimes,
            DEAD_LETTERS: topics.dead_letters,
        }
        self._names |= {(kind, queue): name for kind, name in names.items()}
        return names[kind]

    def _flush(self) -> None:
        self._producer.flush()
        for shard in self._shards.values():
            shard.flushed = max(shard.flushed, shard.state.next_offset)

    # -- 3: commit ---------------------------------------------------------------------------------

    def _commit(self) -> None:
        moved = {
            shard.place: Committed(shard.flushed, "")
            for shard in self._shards.values()
            if shard.flushed > shard.committed
        }
        if not moved:
            return
        self._next_commit_s = time.monotonic() + self._settings.commit_s
        try:
            self._consumer.commit(moved)
        except PartitionLost as error:
            # Somebody else owns one of them and has said, or will say, the same. The next poll tells which.
            logger.warning("not committed: %s", error)
            return
        for place, committed in moved.items():
            self._shards[place.partition].committed = committed.offset
        crash_point("after-commit")

    # -- 4: checkpoints ----------------------------------------------------------------------------

    def _between_batches(self, pool: ThreadPoolExecutor) -> None:
        """Use one slice of time for what can wait: captures first, then what can be laid to rest."""
        now = time.monotonic()
        if now < self._slice_after:
            return
        self._slice_after = now + EACH_S
        if not self._save_due(pool, now, now + SLICE_S):
            for shard in self._shards.values():
                shard.tidy(now, now + SLICE_S)

    def _save_due(self, pool: ThreadPoolExecutor, now: float, until: float) -> bool:
        """Go on with the capture that is under way, or begin one that is due; return whether there is one."""
        for shard in self._shards.values():
            if shard.is_capturing:
                self._go_on(shard, pool, until)
                return True
        for shard in self._shards.values():
            if shard.upload is not None:
                if shard.upload.done():
                    self._published(shard)
                continue
            fresh = shard.committed - shard.captured_offset
            old = now - shard.captured_at >= self._settings.checkpoint_s
            if fresh >= self._settings.checkpoint_records or (fresh > 0 and old):
                self._capture(shard, pool, until)
                return True  # one partition at a time
        return False

    def _capture(self, shard: Shard, pool: ThreadPoolExecutor, until: float) -> None:
        if shard.flushed > shard.committed:
            self._commit()
        if shard.state.next_offset != shard.committed:
            return  # not at a committed offset: still silent, or the commit was refused
        shard.begin_capture()
        crash_point("during-checkpoint")
        self._go_on(shard, pool, until)

    def _go_on(self, shard: Shard, pool: ThreadPoolExecutor, until: float) -> None:
        captured = shard.go_on(until)
        if captured is not None:
            shard.upload = pool.submit(self._checkpoints.store, *captured)

    def _published(self, shard: Shard) -> None:
        upload, shard.upload = shard.upload, None
        if upload is None:
            return
        try:
            checkpoint, shard.fold.known = upload.result(timeout=self._settings.stop_s)
            self._checkpoints.publish(self._producer, checkpoint)
        except (HeadgateError, TimeoutError) as error:
            # A checkpoint only saves time: the log and the older ones are still there.
            logger.warning("checkpoint of partition %d was not kept: %s", shard.place.partition, error)

    def _save_all(self, pool: ThreadPoolExecutor) -> None:
        self._commit()
        for shard in self._shards.values():
            self._published(shard)
            if shard.is_capturing:
                self._go_on(shard, pool, inf)
                self._published(shard)
            if shard.committed > shard.captured_offset:
                self._capture(shard, pool, inf)
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
            if state.next_offset < shard.fold.loud_from:
                continue  # still catching up: the log has what is needed
            left_s = max(0.0, (heap[0][0] - state.clock_ms) / 1000)
            shard.tick_after = now + min(TICK_RETRY_S, max(0.05, min(left_s, 1.0)))
            envelope = ExecutionEnvelope(tenant_id=EVERY_TENANT, tick=Tick())
            self._publisher.publish_to(shard.place.partition, envelope)
            self._producer.poll()

    # -- assignment --------------------------------------------------------------------------------

    def _assigned(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        committed = self._consumer.committed(places)
        starts: dict[TopicPartition, int] = {}
        for place in places:
            known = committed[place]
            at = known.offset if known else 0
            fold = PartitionFold(
                self._log, self._checkpoints, place, self._partitions, self._means, committed=at
            )
            fold.heed_notes()
            crash_point("during-restore")
            if known is None and fold.state.next_offset == 0:
                self._activate(place)
            self._shards[place.partition] = Shard(fold, at)
            starts[place] = fold.state.next_offset
            logger.info("partition %d is folded from %d", place.partition, fold.state.next_offset)
        return starts

    def _activate(self, place: TopicPartition) -> None:
        """Let a partition that nobody has folded yet be folded by the newest logic."""
        newest = LogicVersionActivated(version=self._means.newest_logic)
        envelope = ExecutionEnvelope(tenant_id=EVERY_TENANT, logic_version=newest)
        self._publisher.publish_to(place.partition, envelope)
        self._producer.flush()

    def _revoked(self, places: Sequence[TopicPartition]) -> None:
        """Commit what was flushed, and forget what somebody else will own."""
        try:
            self._commit()
        except LogUnavailable as error:
            logger.warning("what was flushed could not be committed and will be said again: %s", error)
        for place in places:
            self._shards.pop(place.partition, None)
            self._queues.drop(place.partition)
        self._flood.forget(places)
