"""What a gate says to one record, with a group that has a member and no gate."""

from __future__ import annotations

import time

import pytest

from headgate import orders
from headgate.client import Client
from headgate.command.answers import answer_or_refuse, outlook
from headgate_graphs.errors import BadRecord, UserError
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_streams.letters import dead_letter
from headgate_streams.port import Committed, Delivery, LogConsumer, LogRecord, TopicPartition
from tests.support import eventually
from tests.unit.headgate import records


@pytest.fixture
def gate(client: Client) -> LogConsumer:
    """A member of the gates' group that reads and decides nothing."""
    consumer = client.log.consumer("headgate.gate")
    consumer.subscribe([client.topics.executions])
    eventually(lambda: consumer.poll(0.01) or consumer.assignment())
    return consumer


def order(client: Client) -> tuple[Delivery, str]:
    command = orders.pause("odd")
    return client.order("default", "life", command), command.command_id


def commit(client: Client, gate: LogConsumer, delivery: Delivery) -> None:
    gate.commit(
        {TopicPartition(client.topics.executions, delivery.partition): Committed(delivery.offset + 1, "")}
    )


def test_without_a_gate_nobody_waits(client: Client) -> None:
    delivery, command_id = order(client)
    began = time.monotonic()
    answer = client.answer("default", delivery, command_id, timeout_s=30)
    assert time.monotonic() - began < 5
    assert (answer.gates, answer.is_read) == (0, False)
    assert "no gate is running" in outlook(answer)


def test_a_gate_that_says_nothing_is_waited_for_a_while(client: Client, gate: LogConsumer) -> None:
    delivery, command_id = order(client)
    answer = client.answer("default", delivery, command_id, timeout_s=0.1)
    assert (answer.gates, answer.is_read) == (1, False)
    assert "no gate has answered" in outlook(answer)


def test_what_a_gate_has_passed_without_a_letter_is_done(client: Client, gate: LogConsumer) -> None:
    delivery, command_id = order(client)
    event = records.event()
    event.command_id = command_id
    records.publish(
        client, ExecutionEvent(tenant_id="default", type=event.type), client.topics.control_events
    )
    records.publish(client, event, client.topics.control_events)
    commit(client, gate, delivery)
    answer = answer_or_refuse(client, "default", delivery, "pause of life", command_id)
    assert (answer.is_read, answer.refusal) == (True, None)
    assert [one.event_id for one in answer.events] == [event.event_id]


def test_a_letter_about_the_record_is_a_refusal(client: Client, gate: LogConsumer) -> None:
    for reason in ("UNKNOWN_LIFETIME", "BAD_COMMAND"):
        delivery, command_id = order(client)
        record = LogRecord(
            client.topics.executions, delivery.partition, delivery.offset, 0, b"default", b"value", ()
        )
        letter = dead_letter(record, BadRecord(reason, "no such thing"))
        letter.tenant_id = "default"
        records.publish(client, letter, client.topics.dead_letters)
        commit(client, gate, delivery)
        with pytest.raises(UserError, match=f"the gate refused pause of life: {reason}: no such thing"):
            answer_or_refuse(client, "default", delivery, "pause of life", command_id)
