"""Waits a moment for what a gate says to one record just appended: acted on, refused, or nothing yet.

A gate writes what follows from a record before it commits beyond it, so once the group's offset has passed
the record, a dead letter with its coordinates is either there or will never be.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headgate.reading import read_to_now
from headgate_graphs.errors import BadRecord
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
    group = topics.gate_group
    gates = log.members(group)
    where = TopicPartition(topics.executions, delivery.partition)
    if gates == 0 or not _is_passed(log, group, where, delivery.offset, timeout_s):
        return Answer(gates)
    letters = _said(log, topics.dead_letters, tenant, delivery, DeadLetter)
    place = (*where, delivery.offset)
    refusal = next((one for one in letters if (one.topic, one.partition, one.offset) == place), None)
    events: Iterator[ExecutionEvent] = iter(())
    if command_id:
        events = _said(log, topics.control_events, tenant, delivery, ExecutionEvent)
    return Answer(gates, True, refusal, tuple(one for one in events if one.command_id == command_id))


def _is_passed(log: Log, group: str, where: TopicPartition, offset: int, timeout_s: float) -> bool:
    """Whether the gates have committed beyond a record, or do so in time."""
    consumer = log.consumer(group)
    give_up_at = time.monotonic() + timeout_s
    try:
        while True:
            committed = consumer.committed([where]).get(where)
            if committed is not None and committed.offset > offset:
                return True
            if time.monotonic() >= give_up_at:
                return False
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
