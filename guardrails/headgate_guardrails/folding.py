"""Folding a partition from its newest checkpoint, again when a tenant must be held. Gates and audits call it.

A fold that raises for one tenant leaves a torn state. It is thrown away, and the log is folded again from a
checkpoint, silently, with that tenant held at that record. In what was folded before by somebody else, a
tenant may only be held where the log says so: a binary that fails where its predecessor did not is the one
that is wrong, and it is stopped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from headgate_graphs.errors import BadRecord, HeadgateError, LogTruncated
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold import engine
from headgate_guardrails.fold.engine import Surroundings
from headgate_guardrails.fold.quarantine import Hold, HoldNeeded, TenantFault, quarantine_said
from headgate_guardrails.fold.snapshot import Known
from headgate_guardrails.fold.state import LOGIC_VERSION, PartitionState
from headgate_guardrails.fold.turn import Output
from headgate_guardrails.planting import engine_of
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.codec import decode
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import FaultSettings, StreamSettings
from headgate_streams.signing import fingerprint

logger = logging.getLogger(__name__)

IS_COMPILED: Final = Path(engine.__file__).suffix != ".py"
"""Whether the fold is machine code (`make compiled`): the same decisions in nearly half the time."""
FOLD: Final = "compiled" if IS_COMPILED else "interpreted"
"""The same in a word, for people."""
MAX_HOLDS = 1_000
"""Tenants of one partition that may be held; a bug that hurts more of them hurts everybody."""
_TAG = ExecutionEnvelope.TENANT_QUARANTINED_FIELD_NUMBER << 3 | 2
NOTE = bytes((_TAG & 0x7F | 0x80, _TAG >> 7))
"""The bytes by which a note begins within its record: most others are told from it without decoding."""


class FoldFailed(HeadgateError):
    """The fold raised on a record: a bug, named with the record's coordinates."""


def surroundings(log: Log, topic: str, settings: StreamSettings) -> Surroundings:
    """Return what the fold of this installation needs besides the log."""

    def missed(partition: int, first: int, end: int) -> Iterable[LogRecord]:
        return read_range(log, TopicPartition(topic, partition), first, end)

    secrets = [key.get_secret_value().encode() for key in settings.ticket_keys]
    return Surroundings(
        missed=missed,
        secrets={fingerprint(secret): secret for secret in secrets},
        newest_logic=FaultSettings().newest_logic or LOGIC_VERSION,
    )


class PartitionFold:
    """The fold of one partition of the log, with the way back to its last checkpoint."""

    def __init__(
        self,
        log: Log,
        checkpoints: CheckpointStore,
        place: TopicPartition,
        partitions: int,
        means: Surroundings,
        committed: int | None = None,
    ) -> None:
        """Restore the newest checkpoint; nothing is folded yet.

        Records before `committed` were folded by another gate, or by this one before it was restarted; what
        comes after is said anew. None means that nothing is said: the fold of an audit.

        Raises LogTruncated when the log begins after the checkpoint, UnknownLogic and UnknownTicketKey.
        """
        self._log = log
        self._checkpoints = checkpoints
        self._partitions = partitions
        self._means = means
        self._committed = committed or 0
        self.place = place
        self.known: Known = {}
        """What the next checkpoint need not write again."""
        self.found: list[Hold] = []
        """Tenants that this fold had to hold and that the log does not say yet; the gate empties it."""
        self._holds: list[Hold] = []
        self._is_behind = False
        state = self._restored(None)
        self.loud_from = sys.maxsize if committed is None else max(committed, state.next_offset)
        """First offset whose outputs are said; those of records before it have been said."""
        self._begin(state)

    @property
    def state(self) -> PartitionState:
        """The folded state."""
        return self.engine.state

    def heed_notes(self) -> None:
        """Hold, before anything is said, the tenants that the rest of the log says are held."""
        end = self._log.offsets([self.place])[self.place][1]
        notes = [note for note in self._notes(self.loud_from, end) if note.offset >= self.loud_from]
        if notes:
            self._holds += notes
            self._begin(self._restored(None))

    def apply(self, record: LogRecord) -> Sequence[Output]:
        """Fold the next record; when a tenant must be held, fold again up to it first.

        Returns nothing for a record before `loud_from`.

        Raises FoldFailed for a bug that cannot be blamed on one tenant, or that this binary alone has.
        """
        for _ in range(MAX_HOLDS):
            try:
                if self._is_behind:
                    self._catch_up(record.offset)
                return self.engine.apply(record, is_silent=record.offset < self.loud_from)
            except TenantFault as fault:
                self._hold(self._judged(fault))
            except HoldNeeded as needed:
                self._hold(needed.hold)
            except HeadgateError:
                raise
            except Exception as error:
                raise FoldFailed(f"the fold failed on {_named(record)}: {error!r}") from error
        raise FoldFailed(f"the fold failed for more than {MAX_HOLDS} tenants at {_named(record)}")

    # -- beginning, and beginning again --------------------------------------------------------------

    def _restored(self, up_to: int | None) -> PartitionState:
        partition = self.place.partition
        found = self._checkpoints.newest(partition, up_to=up_to)
        state, self.known = found or (PartitionState(partition, self._partitions), {})
        beginning, end = self._log.offsets([self.place])[self.place]
        if max(self._committed, state.next_offset) > end:
            raise LogTruncated(
                f"{self.place.topic}[{partition}] ends at {end}, but it was folded up to "
                f"{max(self._committed, state.next_offset)}: the topic was made again, or has lost records; "
                "use another prefix, or delete the gate's group and checkpoints to begin anew"
            )
        if state.next_offset < beginning:
            raise LogTruncated(
                f"{self.place.topic}[{partition}] begins at {beginning}, but the newest checkpoint that "
                f"can be read is at {state.next_offset}: records that the gate still needs are gone"
            )
        return state

    def _begin(self, state: PartitionState) -> None:
        heeded = range(state.next_offset, self.loud_from)
        self.engine = engine_of(state, self._means, self._holds, heeded)

    def _hold(self, hold: Hold) -> None:
        logger.error("partition %d: tenant %s is held: %s", self.place.partition, hold.tenant_id, hold.error)
        self._holds.append(hold)
        self._begin(self._restored(hold.offset))
        self._is_behind = True

    def _catch_up(self, offset: int) -> None:
        for record in read_range(self._log, self.place, self.state.next_offset, offset):
            self.engine.apply(record, is_silent=True)
        self._is_behind = False

    def _judged(self, fault: TenantFault) -> Hold:
        """Return the hold that a fault asks for; raises FoldFailed where others have folded without it."""
        hold = fault.hold
        if self.state.logic_version < 2:
            raise FoldFailed(f"{fault} (logic version 2 would hold that tenant alone)") from fault.__cause__
        if hold.offset >= self.loud_from:
            self.found.append(hold)
            return hold
        end = self._log.offsets([self.place])[self.place][1]
        for note in self._notes(hold.offset, end):
            if note.tenant_id == hold.tenant_id and note.offset <= hold.offset:
                return note
        raise FoldFailed(
            f"{fault}; the gate before this one did not fail there: go back to its version"
        ) from fault.__cause__

    def _notes(self, first: int, end: int) -> Iterator[Hold]:
        """Yield what records in the range say about tenants that are held."""
        for record in read_range(self._log, self.place, first, end):
            if record.value and NOTE in record.value:
                try:
                    envelope = decode(record, ExecutionEnvelope)
                except BadRecord:
                    continue  # the fold makes a dead letter of it
                if envelope.WhichOneof("payload") == "tenant_quarantined":
                    yield quarantine_said(envelope)


def _named(record: LogRecord) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
