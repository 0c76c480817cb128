"""What each role may do on a broker with its authorizer on, of its own tenant and of another."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from headgate_graphs.errors import AccessRefused, UserError
from headgate_streams.port import Delivery, Log, TopicDescription, TopicPartition
from headgate_streams.roles import Role
from headgate_streams.topics import Topics
from tests.integration.security.conftest import Tenant
from tests.support import eventually

Tenants = tuple[Tenant, Tenant]

TOPICS: dict[str, Callable[[Topics], str]] = {
    "executions": lambda topics: topics.executions,
    "task-inputs": lambda topics: topics.task_inputs(),
    "plan-inputs": lambda topics: topics.plan_inputs(),
    "control-events": lambda topics: topics.control_events,
    "lifetimes": lambda topics: topics.lifetimes,
    "checkpoints": lambda topics: topics.checkpoints,
    "dead-letters": lambda topics: topics.dead_letters,
}

MAY_WRITE = {
    Role.GATE: set(TOPICS),
    Role.WORKER: {"executions", "dead-letters"},
    Role.CLIENT: {"executions"},
    Role.OPERATOR: {"executions", "dead-letters"},
    Role.AUDITOR: set[str](),
}
MAY_READ = {
    Role.GATE: {"executions", "checkpoints"},
    Role.WORKER: {"task-inputs", "plan-inputs", "control-events"},
    Role.CLIENT: {"executions", "lifetimes", "control-events", "dead-letters", "checkpoints"},
    Role.OPERATOR: {"executions", "lifetimes", "control-events", "dead-letters", "checkpoints"},
    Role.AUDITOR: set(TOPICS),
}


def can_write(log: Log, topic: str) -> bool:
    """Whether one record is taken; anything but the broker's refusal of the user is an error."""
    deliveries: list[Delivery] = []
    producer = log.producer()
    producer.append(topic, 0, key=b"k", value=b"x", on_delivery=deliveries.append)
    try:
        producer.flush()
    except AccessRefused:  # who may write nowhere cannot even begin
        return False
    error = deliveries[0].error
    assert error is None or "authorization failed" in str(error), error
    return error is None


def can_read(log: Log, topic: str) -> bool:
    """Whether records come; anything but the broker's refusal of the user is an error."""
    where = TopicPartition(topic, 0)
    reader = log.reader()
    try:
        log.offsets([where])
        reader.assign({where: 0})
        return bool(eventually(lambda: reader.poll(0.2), timeout_s=20))
    except UserError:  # refused, or the topic is not to be seen
        return False
    finally:
        reader.close()


def comes_without_asking(log: Log, topics: list[str]) -> bool:
    """Whether a reader that asks nothing first gets a record of one of the topics within three seconds."""
    reader = log.reader()
    reader.assign({TopicPartition(topic, 0): 0 for topic in topics})
    give_up_at = time.monotonic() + 3.0
    try:
        while time.monotonic() < give_up_at:
            if reader.poll(0.2):
                return True
    except AccessRefused:
        return False
    finally:
        reader.close()
    return False


@pytest.fixture(scope="module")
def filled(tenants: Tenants) -> Tenants:
    """Both tenants, with a record in partition 0 of every topic."""
    for tenant in tenants:
        log = tenant.log(None)
        assert all(can_write(log, name(tenant.topics)) for name in TOPICS.values())
        log.close()
    return tenants


@pytest.mark.parametrize("role", Role)
def test_role_writes_what_it_must_and_nothing_else(filled: Tenants, role: Role) -> None:
    mine, other = filled
    log = mine.log(role)
    assert {kind for kind, name in TOPICS.items() if can_write(log, name(mine.topics))} == MAY_WRITE[role]
    assert [kind for kind, name in TOPICS.items() if can_write(log, name(other.topics))] == []
    log.close()


@pytest.mark.parametrize("role", Role)
def test_role_reads_what_it_must_and_nothing_else(filled: Tenants, role: Role) -> None:
    mine, other = filled
    log = mine.log(role)
    assert {kind for kind, name in TOPICS.items() if can_read(log, name(mine.topics))} == MAY_READ[role]
    assert [kind for kind, name in TOPICS.items() if can_read(log, name(other.topics))] == []
    assert not comes_without_asking(log, [name(other.topics) for name in TOPICS.values()])
    log.close()


def groups_of(topics: Topics) -> dict[str, str]:
    return {
        "gate": topics.gate_group,
        "task": topics.workers_group("task"),
        "gpu": topics.workers_group("task", "gpu"),
    }


def is_kept_out(log: Log, group: str, topic: str) -> bool:
    """Whether a member of the group cannot become one, or cannot see the topic."""
    consumer = log.consumer(group)
    try:
        consumer.subscribe([topic])
        eventually(lambda: consumer.poll(0.2), timeout_s=20)
    except UserError:  # AccessRefused is one
        return True
    finally:
        consumer.close()
    return False


@pytest.mark.parametrize("role", [Role.WORKER, Role.CLIENT, Role.OPERATOR, Role.AUDITOR])
def test_nobody_commits_for_the_gate(filled: Tenants, role: Role) -> None:
    """Who could move the gate's offset could make it skip records."""
    log = filled[0].log(role)
    for tenant in filled:
        assert is_kept_out(log, tenant.topics.gate_group, tenant.topics.executions)
    log.close()


def test_gate_of_another_tenant_is_kept_out_too(filled: Tenants) -> None:
    mine, other = filled
    log = mine.log(Role.GATE)
    assert is_kept_out(log, other.topics.gate_group, mine.topics.executions)
    assert is_kept_out(log, mine.topics.gate_group, other.topics.executions)
    assert not is_kept_out(log, mine.topics.gate_group, mine.topics.executions)
    log.close()


def test_groups_of_another_tenant_are_not_to_be_seen(filled: Tenants) -> None:
    mine, other = filled
    for role in Role:
        log = mine.log(role)
        assert [log.members(group) for group in groups_of(other.topics).values()] == [None] * 3
        log.close()


def test_gate_makes_the_topics_of_a_named_queue_and_no_others(filled: Tenants) -> None:
    mine, other = filled
    log = mine.log(Role.GATE)
    wanted = TopicDescription(mine.topics.task_inputs("gpu"), 2, {})
    assert log.create_topics([wanted]) == [wanted.name]
    worker = mine.log(Role.WORKER)
    assert worker.offsets([TopicPartition(wanted.name, 0)])
    for name in (f"{mine.prefix}.mine", f"{mine.topics.prefix}.x", other.topics.task_inputs("gpu")):
        for refused in (log, worker):
            with pytest.raises(AccessRefused, match="no ACL"):
                refused.create_topics([TopicDescription(name, 2, {})])
    log.close()
    worker.close()


def test_topic_that_is_hidden_is_told_in_one_line(filled: Tenants) -> None:
    mine, other = filled
    log = mine.log(Role.WORKER)
    consumer = log.consumer(mine.topics.workers_group("task"))
    with pytest.raises(UserError, match="hidden from this user"):
        consumer.subscribe([other.topics.task_inputs()])
    consumer.close()
    log.close()
