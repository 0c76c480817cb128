"""What each role may do on the topics of one placement, and nothing more. Read by `headgate tenant`.

A grant allows one operation on one topic or group. Kafka lets who may read or write something describe it,
and lets who may write to any topic write idempotently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, Literal, NamedTuple

from headgate_streams.topics import Topics

Operation = Literal["READ", "WRITE", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS"]


class Role(Enum):
    """Who speaks to the broker."""

    GATE = "gate"
    """Reads the log, says what follows; the only one who writes inputs and control events."""
    WORKER = "worker"
    """Reads inputs and control events, reports to the log."""
    CLIENT = "client"
    """Asks for runs, gives orders, follows what comes of them."""
    OPERATOR = "operator"
    """Does what a client does, and puts dead letters back or deletes them."""
    AUDITOR = "auditor"
    """Reads everything, writes nothing."""


class Grant(NamedTuple):
    """One operation on one topic or group, or on all whose names begin so."""

    kind: Literal["TOPIC", "GROUP"]
    name: str
    is_prefix: bool
    operation: Operation


def user_of(topics: Topics, role: Role) -> str:
    """Return the name of a role's user in a placement."""
    return f"{topics.prefix}.{role.value}"


def grants_of(topics: Topics, role: Role) -> frozenset[Grant]:
    """Return all that a role may do in a placement."""
    return frozenset(_MADE[role](topics))


def _topics(names: Iterable[str], *operations: Operation) -> Iterator[Grant]:
    return (Grant("TOPIC", name, False, operation) for name in names for operation in operations)


def _named_queues(topics: Topics, *operations: Operation) -> Iterator[Grant]:
    # The dot at the end of the prefix keeps tenants apart whose names begin alike.
    names = topics.of_named_queues()
    return (Grant("TOPIC", name, True, operation) for name in names for operation in operations)


def _groups(names: Iterable[str], operation: Operation, *, are_prefixes: bool = False) -> Iterator[Grant]:
    return (Grant("GROUP", name, are_prefixes, operation) for name in names)


def _every_group(topics: Topics) -> tuple[str, str, str]:
    return topics.gate_group, topics.workers_group("task"), topics.workers_group("plan")


def _gate(topics: Topics) -> Iterator[Grant]:
    yield from _topics([topics.executions, topics.checkpoints], "READ", "WRITE")
    said = (topics.control_events, topics.lifetimes, topics.dead_letters)
    yield from _topics([*said, topics.task_inputs(), topics.plan_inputs()], "WRITE")
    # A graph may name a queue that nobody has made: that must not end the gate.
    yield from _named_queues(topics, "WRITE", "CREATE")
    yield from _groups([topics.gate_group], "READ")


def _worker(topics: Topics) -> Iterator[Grant]:
    yield from _topics([topics.task_inputs(), topics.plan_inputs(), topics.control_events], "READ")
    yield from _named_queues(topics, "READ")
    yield from _topics([topics.executions, topics.dead_letters], "WRITE")
    yield from _groups([topics.workers_group("task"), topics.workers_group("plan")], "READ")
    yield from _groups(topics.groups_of_named_queues(), "READ", are_prefixes=True)


def _client(topics: Topics) -> Iterator[Grant]:
    yield from _topics([topics.executions], "WRITE")
    read = (topics.executions, topics.lifetimes, topics.control_events, topics.dead_letters)
    yield from _topics(read, "READ", "DESCRIBE_CONFIGS")
    # What rules, keys and logic are in force is folded from the newest checkpoint on.
    yield from _topics([topics.checkpoints], "READ")
    yield from _groups(_every_group(topics), "DESCRIBE")


def _operator(topics: Topics) -> Iterator[Grant]:
    yield from _client(topics)
    # A record that is put back is marked beside its letter; to purge is to delete the oldest records.
    yield from _topics([topics.dead_letters], "WRITE", "DELETE")


def _auditor(topics: Topics) -> Iterator[Grant]:
    every = [one.name for one in topics.descriptions(1)]
    yield from _topics(every, "READ", "DESCRIBE_CONFIGS")
    yield from _named_queues(topics, "READ", "DESCRIBE_CONFIGS")
    yield from _groups(_every_group(topics), "DESCRIBE")
    yield from _groups(topics.groups_of_named_queues(), "DESCRIBE", are_prefixes=True)


_MADE: Final = {
    Role.GATE: _gate,
    Role.WORKER: _worker,
    Role.CLIENT: _client,
    Role.OPERATOR: _operator,
    Role.AUDITOR: _auditor,
}
