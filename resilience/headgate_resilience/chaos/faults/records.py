"""F9, F10, F11: what comes twice, late, in disorder, or is no record of ours at all."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_resilience.chaos.faults.fault import fault
from headgate_resilience.chaos.stage import NotHere, Stage
from headgate_streams.codec import decode, encode
from headgate_streams.headers import SCHEMA, TENANT, TYPE
from headgate_streams.port import Committed, Headers, LogRecord, TopicPartition
from headgate_streams.ranges import read_range

REPEATED_S = 6.0
POISONED_S = 8.0
POISON_A_SECOND = 5
BACK_RECORDS = 200
"""How far an offset is set back."""
NOBODY = 10
"""Results that are sent for lifetimes that never were."""


def recent(stage: Stage, topic: str, most: int) -> list[LogRecord]:
    """Return the last records of every partition of a topic, at most so many of each."""
    found: list[LogRecord] = []
    for place, end in sorted(stage.timeline.seen.items()):
        if place.topic == topic:
            found += read_range(stage.log, place, max(0, end - most), end)
    return found


def append(stage: Stage, records: Iterable[LogRecord]) -> int:
    """Append records as they are to the partition they come from; return how many."""
    producer, count = stage.log.producer(), 0
    for record in records:
        producer.append(
            record.topic, record.partition, key=record.key, value=record.value, headers=record.headers
        )
        count += 1
    producer.close()
    return count


@fault(
    "F9",
    "twice",
    "For six seconds every record of the log and every input comes twice, one in twenty ten times.",
)
def everything_twice(stage: Stage, dice: random.Random) -> str:
    """Append what has come since the last look, each piece once more or nine times more."""
    known: set[bytes] = set()
    count, deadline = 0, time.monotonic() + REPEATED_S
    topics = (stage.topics.executions, stage.topics.task_inputs(), stage.topics.plan_inputs())
    while time.monotonic() < deadline and not stage.over.is_set():
        fresh = [
            one
            for topic in topics
            for one in recent(stage, topic, 60)
            if one.value and one.value not in known and not known.add(one.value)  # type: ignore[func-returns-value]
        ]
        count += append(stage, (one for one in fresh for _ in range(9 if dice.random() < 0.05 else 1)))
        stage.hold(0.5)
    return f"{count} records"


@fault("F9", "replay", "An old range of every partition of the log is appended again.")
def old_range(stage: Stage, dice: random.Random) -> str:
    """Append a hundred old records of each partition."""
    count = 0
    for place, end in sorted(stage.timeline.seen.items()):
        if place.topic == stage.topics.executions and end:
            first = dice.randrange(end)
            count += append(stage, list(read_range(stage.log, place, first, min(end, first + 100))))
    return f"{count} records"


@fault("F9", "offsets", "Committed offsets of workers and gates are set back, and their cursors are lost.")
def offsets_set_back(stage: Stage, dice: random.Random) -> str:
    """Join each group, commit something old for what is given, and leave."""
    moved = 0
    groups = {
        stage.topics.workers_group("task"): stage.topics.task_inputs(),
        stage.topics.workers_group("plan"): stage.topics.plan_inputs(),
        stage.topics.gate_group: stage.topics.executions,
    }
    for group, topic in groups.items():
        moved += _set_back(stage, group, topic, dice)
    return f"{moved} partitions"


def _set_back(stage: Stage, group: str, topic: str, dice: random.Random) -> int:
    member = stage.log.consumer(group)
    try:
        member.subscribe([topic])
        deadline = time.monotonic() + 15.0
        while not member.assignment() and time.monotonic() < deadline:
            member.poll(0.1, 1)
        mine = member.assignment()
        if not mine:
            raise NotHere(f"group {group} gave no partition within 15 s")
        known = member.committed(mine)
        back = {place: max(0, at.offset - dice.randint(1, BACK_RECORDS)) for place, at in known.items() if at}
        member.commit({place: Committed(offset, "") for place, offset in back.items()})
        return len(back)
    finally:
        member.close()


@fault("F10", "shuffled", "Recent results come again in disorder, those of ended lifetimes among them.")
def results_shuffled(stage: Stage, dice: random.Random) -> str:
    """Append recent results in another order."""
    results = [record for record, _ in _results(recent(stage, stage.topics.executions, 150))]
    dice.shuffle(results)
    return f"{append(stage, results)} results"


@fault("F10", "nobody", "Results come for lifetimes that never were.", is_alone=True)
def results_for_nobody(stage: Stage, dice: random.Random) -> str:
    """Append results with another lifetime's id; each must become a dead letter."""
    before = stage.timeline.letters["UNKNOWN_LIFETIME"]
    known = list(_results(recent(stage, stage.topics.executions, 50)))
    forged = [_for_nobody(*dice.choice(known), number) for number in range(NOBODY)] if known else []
    count = append(stage, forged)
    stage.expect(
        lambda: stage.timeline.letters["UNKNOWN_LIFETIME"] >= before + count,
        f"{count} results of unknown lifetimes are dead letters",
    )
    return f"{count} results"


def _results(records: Iterable[LogRecord]) -> Iterator[tuple[LogRecord, ExecutionEnvelope]]:
    for record in records:
        if dict(record.headers).get(TYPE) != b"ExecutionEnvelope" or record.key == b"*":
            continue
        try:
            envelope = decode(record, ExecutionEnvelope)
        except BadRecord:
            continue  # poison of another fault, with the headers of a good one
        if envelope.WhichOneof("payload") in ("task_execution", "plan_execution"):
            yield record, envelope


def _for_nobody(record: LogRecord, envelope: ExecutionEnvelope, number: int) -> LogRecord:
    envelope.lifetime_id = f"nobody-{number}"
    execution = getattr(envelope, str(envelope.WhichOneof("payload")))
    execution.headers.lifetime_id = envelope.lifetime_id
    execution.headers.execution_id = f"{number:032x}"
    value, headers = encode(envelope, envelope.tenant_id)
    return LogRecord(record.topic, record.partition, -1, 0, record.key, value, headers)


# Poison ----------------------------------------------------------------------------------------------------


def poison(tenant: str, dice: random.Random) -> tuple[bytes | None, bytes | None, Headers]:
    """Return key, value and headers of a record that is not what a topic carries."""
    honest: Headers = ((TYPE, b"ExecutionEnvelope"), (SCHEMA, b"1.0"), (TENANT, tenant.encode()))
    key = tenant.encode()
    forms: list[tuple[bytes | None, bytes | None, Headers]] = [
        (key, None, honest),
        (key, b"", honest),
        (key, dice.randbytes(dice.randint(1, 300)), honest),
        (key, b'{"lifetime_start": {"graph_id": "loop"}}', honest),
        (key, b"\x0a\x03abc", ()),
        (key, b"\x0a\x03abc", honest[1:]),
        (key, b"\x0a\x03abc", ((TYPE, b"LifetimeView"), *honest[1:])),
        (key, b"\x0a\x03abc", (honest[0], (SCHEMA, b"7.0"), honest[2])),
        (b"somebody-else", b"\x0a\x03abc", honest),
        (key, b"\x0a\x03abc", (*honest[:2], (TENANT, b"../etc"))),
        (None, b"\x00" * 100, tuple((f"h{n}", b"x") for n in range(100))),
    ]
    return dice.choice(forms)


@fault(
    "F11",
    "poison",
    "For eight seconds records that are none of ours come to the log and to the inputs.",
    is_alone=True,
)
def poisoned(stage: Stage, dice: random.Random) -> str:
    """Append poison beside the traffic; every piece must become a dead letter."""
    before, count = sum(stage.timeline.letters.values()), 0
    topics = (stage.topics.executions, stage.topics.task_inputs(), stage.topics.plan_inputs())
    places = [TopicPartition(t, n) for t in topics for n in range(stage.settings.partitions)]
    deadline = time.monotonic() + POISONED_S
    producer = stage.log.producer()
    while time.monotonic() < deadline and not stage.over.is_set():
        place = dice.choice(places)
        key, value, headers = poison(dice.choice(stage.driver.tenants), dice)
        producer.append(place.topic, place.partition, key=key, value=value, headers=headers)
        producer.poll()
        count += 1
        stage.hold(1 / POISON_A_SECOND)
    producer.close()
    stage.expect(
        lambda: sum(stage.timeline.letters.values()) >= before + count,
        f"{count} records of poison are dead letters",
    )
    return f"{count} records"
