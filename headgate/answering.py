"""Waits a moment for what a gate says to one record just appended: acted on, refused, or nothing yet.

A gate writes what follows from a record before it commits beyond it, so once the group's offset has passed
the record, a dead letter with its coordinates is either there or will never be.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headgate.quarantine import Quarantine
from headgate.reading import read_to_now
from headgate_graphs.errors import BadRecord, UserError
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_protos.v1.execution_pb2 import DeadLetter
from headgate_streams.codec import decode
from headgate_streams.port import Delivery, Log, TopicPartition
from headgate_streams.topics import Topics, partition_for

ANSWER_S = 2.0
"""How long a command waits for a gate; a gate that is up to date answers in a tenth of it."""
_ASK_EVERY_S = 0.05
_CLOCK_SLACK_MS = 60_000
"""How much earlier than the record, by the broker's clock, a gate's answer to it is looked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gate has said to one record."""

    gates: int | None
    """How many gates run; None when the log does not tell."""
    is_read: bool = False
    """Whether a gate has acted on the record."""
    refusal: DeadLetter | None = None
    """Why it was put aside, if it was."""
    events: tuple[ExecutionEvent, ...] = ()
    """Control events that name the record's command."""
    held: Quarantine | None = None
    """The quarantine of the record's tenant in which it waits, as far as somebody has looked."""

    def accepted(self, asked: str) -> Answer:
        """Return this; raises UserError when a gate has refused what was `asked` for."""
        if self.refusal is not None:
            reason = self.refusal.reason
            raise UserError(
                f"the gate refused {asked}: {reason}: {self.refusal.detail}{_HINTS.get(reason, '')}"
            )
        return self


_HINTS = {"SIGNATURE": "; HEADGATE_SIGNING_KEY names the PEM file of a registered key (`headgate keys list`)"}
"""What a refusal's reader may do, where the refusal itself cannot say it."""


def wait_for_answer(
    log: Log,
    topics: Topics,
    tenant: str,
    delivery: Delivery,
    command_id: str = "",
    timeout_s: float = ANSWER_S,
) -> Answer:
    """Return what a gate says to the record at `delivery`, waiting up to `timeout_s`.

    Returns at once when no gate runs. `tenant` is the record's, "*" included. Raises LogUnavailable when the
    log does not answer.
    """
    (answer,) = wait_for_answers(log, topics, tenant, [delivery], timeout_s)
    if not command_id or not answer.is_read:
        return answer
    events = _said(log, topics.control_events, tenant, delivery, ExecutionEvent)
    return replace(answer, events=tuple(one for one in events if one.command_id == command_id))


def wait_for_answers(
    log: Log, topics: Topics, tenant: str, deliveries: Sequence[Delivery], timeout_s: float = ANSWER_S
) -> list[Answer]:
    """As `wait_for_answer`, for several records of one tenant, or one in every partition of "*"."""
    group = topics.gate_group
    gates = log.members(group)
    places = {(TopicPartition(topics.executions, one.partition), one.offset): one for one in deliveries}
    passed = _passed(log, group, list(places), timeout_s) if gates != 0 else set()
    read = [places[place] for place in passed]
    refusals: dict[tuple[int, int], DeadLetter] = {}
    if read:
        first = min(read, key=lambda one: one.timestamp_ms)
        for letter in _said(log, topics.dead_letters, tenant, first, DeadLetter):
            if letter.topic == topics.executions:
                refusals.setdefault((letter.partition, letter.offset), letter)
    return [
        Answer(gates, place in passed, refusals.get((one.partition, one.offset)))
        for place, one in places.items()
    ]


_Place = tuple[TopicPartition, int]


def _passed(log: Log, group: str, places: Sequence[_Place], timeout_s: float) -> set[_Place]:
    """Return the records that the gates have committed beyond, waiting for all of them."""
    consumer = log.consumer(group)
    give_up_at = time.monotonic() + timeout_s
    try:
        while True:
            committed = consumer.committed([where for where, _ in places])
            passed = {
                (where, offset)
                for where, offset in places
                if (found := committed.get(where)) is not None and found.offset > offset
            }
            if len(passed) == len(places) or time.monotonic() >= give_up_at:
                return passed
            time.sleep(_ASK_EVERY_S)
    finally:
        consumer.close()


def _said(log: Log, topic: str, tenant: str, delivery: Delivery, kind: Any) -> Iterator[Any]:
    """Yield the tenant's messages of one of the gate's topics since shortly before the record."""
    count = log.describe([topic])[topic].partitions
    where = TopicPartition(topic, partition_for(tenant, count))
    since_ms = max(0, delivery.timestamp_ms - _CLOCK_SLACK_MS)
    for record in read_to_now(log, [where], lambda one, first: max(first, log.offset_at(one, since_ms))):
        try:
            yield decode(record, kind)
        except BadRecord:
            continue
