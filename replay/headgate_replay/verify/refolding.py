"""The fold of one partition, once more: from its beginning or a checkpoint, with what was known then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headgate_graphs.errors import HeadgateError, UserError
from headgate_guardrails.checkpoints import CheckpointStore
from headgate_guardrails.fold.authority import UnknownTicketKey
from headgate_guardrails.fold.engine import Surroundings, UnknownLogic
from headgate_guardrails.fold.quarantine import Hold, TenantFault
from headgate_guardrails.fold.snapshot import Known, capture, seal
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import Output
from headgate_guardrails.planting import engine_of
from headgate_guardrails.shard import look
from headgate_protos.v1.state_pb2 import CheckpointPointer
from headgate_replay.reading.installation import Installation
from headgate_streams.codec import decode
from headgate_streams.port import LogRecord, TopicPartition
from headgate_streams.ranges import read_ranges

Digests = Mapping[int, Mapping[int, frozenset[str]]]
"""Partition -> offset of a checkpoint -> digests that were told of the state there."""


class FoldFails(Exception):
    """The fold raises on a record."""


class Refold:
    """A fold whose every output is wanted, from some offset on."""

    def __init__(
        self,
        state: PartitionState,
        means: Surroundings,
        holds: Iterable[Hold],
        first: int,
        digests: Mapping[int, frozenset[str]],
    ) -> None:
        """Fold into `state`; outputs of records before `first` are not made.

        Raises UserError when this process lacks a key or the logic.
        """
        try:
            self._engine = engine_of(state, means, holds, range(0))
        except (UnknownTicketKey, UnknownLogic) as error:
            raise UserError(f"partition {state.partition} cannot be folded here: {error}") from error
        self._first = first
        self._digests = digests
        self._known: Known = {}
        self.compared = 0
        """States that were compared with a checkpoint's."""

    @property
    def state(self) -> PartitionState:
        """The state so far."""
        return self._engine.state

    def apply(self, record: LogRecord) -> Sequence[Output]:
        """Return what follows from the next record.

        Raises FoldFails for what a gate would have held a tenant for, or stopped; UserError when this process
        lacks a key or the logic.
        """
        try:
            return self._engine.apply(record, is_silent=record.offset < self._first)
        except TenantFault as fault:
            raise FoldFails(f"for tenant {fault.hold.tenant_id}: {fault.hold.error}") from fault
        except (UnknownTicketKey, UnknownLogic) as error:
            place = f"{record.topic}[{record.partition}]@{record.offset}"
            raise UserError(f"{place} cannot be folded here: {error}") from error
        except HeadgateError:
            raise
        except Exception as error:
            raise FoldFails(repr(error)) from error

    def wrong_digest(self) -> str:
        """Return what is wrong when a checkpoint was made of this very state, and was of another."""
        told = self._digests.get(self.state.next_offset)
        if told is None:
            return ""
        for _ in look(self.state):  # those that are idle are written once, not for each checkpoint
            pass
        sealed = seal(capture(self.state, self._known))
        self._known = sealed.known
        self.compared += 1
        if sealed.digest in told:
            return ""
        return f"the checkpoint has digest {min(told)}, the fold comes to {sealed.digest}"


def checkpoint_digests(installation: Installation) -> Digests:
    """Return what the pointers on the checkpoints topic say of the states of this very log."""
    topics = installation.topics
    found: dict[int, dict[int, frozenset[str]]] = {}
    if topics.checkpoints not in installation.log.describe([topics.checkpoints]):
        return found
    own = installation.log.topic_id(topics.executions)
    place = TopicPartition(topics.checkpoints, 0)
    for record in read_ranges(installation.log, installation.log.offsets([place])):
        try:
            pointer = decode(record, CheckpointPointer)
        except HeadgateError:
            continue  # no pointer: the gate leaves it out, too
        if pointer.topic == topics.executions and pointer.topic_id in (own, ""):
            digests = found.setdefault(pointer.partition, {})
            known = digests.get(pointer.next_offset, frozenset())
            digests[pointer.next_offset] = known | {pointer.digest}
    return found


def starting_state(
    installation: Installation, store: CheckpointStore | None, place: TopicPartition, up_to: int | None
) -> PartitionState:
    """Return the state to begin with: of the newest checkpoint up to an offset, or of nothing.

    Raises UserError when the records after it are gone.
    """
    restored = store.newest(place.partition, up_to=up_to) if store is not None else None
    state = restored.state if restored else PartitionState(place.partition, installation.partitions)
    beginning = installation.log.offsets([place])[place][0]
    if state.next_offset < beginning:
        what = "use --from-checkpoint" if store is None else "there is no checkpoint after them, either"
        raise UserError(
            f"{place.topic}[{place.partition}] has lost its first {beginning} records, so it cannot be "
            f"folded from its beginning: {what}"
        )
    return state
