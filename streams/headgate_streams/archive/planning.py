"""Decides what an export reads: where it begins, where it ends, and whether the log is still the same one.

Order: what the groups have committed, then where the log ends, then where all else ends. So what is archived
holds all that was committed, and all that the log tells of.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from headgate_graphs.errors import UserError
from headgate_streams.archive.format import GENESIS
from headgate_streams.archive.manifest import (
    ArchivedPartition,
    ArchivedPosition,
    ArchivedTopic,
    Manifest,
    Plan,
    Target,
)
from headgate_streams.port import Log, TopicPartition
from headgate_streams.topics import Topics

Spans = Mapping[TopicPartition, tuple[int, int]]


def new_plan(log: Log, topics: Topics, base: Manifest | None, base_sha256: str) -> Plan:
    """Return the plan of an export that goes on where `base` ended.

    Raises UserError when the log has no such topics, or is not the one that was archived before.
    """
    found = _described(log, topics)
    check_prefix(topics, base)
    positions = _positions(log, topics, found)
    spans = _spans(log, topics, found)
    known = {one.place: one for one in base.partitions} if base is not None else {}
    _check_topics(found, base)
    partitions = [goes_on(known.get(place), place, span) for place, span in sorted(spans.items())]
    gone = [one for place, one in known.items() if place not in spans]
    draft = Manifest(
        export=base.export + 1 if base is not None else 1,
        created_ms=time.time_ns() // 1_000_000,
        headgate=version("headgate"),
        prefix=topics.prefix,
        previous=base_sha256,
        topics=_merged(found, base),
        partitions=sorted([*partitions, *gone], key=lambda one: one.place),
        positions=positions,
        pages=base.pages if base is not None else [],
        files=list(base.files) if base is not None else [],
    )
    targets = [Target(topic=p.topic, partition=p.partition, end=end) for p, (_, end) in sorted(spans.items())]
    return Plan(targets=targets, draft=draft)


def taken_up(plan: Plan, log: Log, topics: Topics) -> Plan:
    """Return a plan that was begun before, with partitions moved on that the log has cut off meanwhile.

    Raises UserError when the log is not the one that the plan was made for.
    """
    check_prefix(topics, plan.draft)
    found = _described(log, topics)
    _check_topics(found, plan.draft)
    wanted = [target for target in plan.targets if target.topic in found]
    spans = log.offsets([TopicPartition(one.topic, one.partition) for one in wanted])
    moved = [goes_on(one, one.place, spans.get(one.place)) for one in plan.draft.partitions]
    draft = plan.draft.model_copy(update={"partitions": moved})
    return plan.model_copy(update={"draft": draft, "targets": wanted})


def goes_on(
    known: ArchivedPartition | None, place: TopicPartition, span: tuple[int, int] | None
) -> ArchivedPartition:
    """Return where the export of a partition goes on, given (beginning, end) of the log, None if it is gone.

    Raises UserError when records were deleted before they were archived, or the log is shorter than what is.
    """
    if span is None and known is not None:
        return known
    beginning, end = span if span is not None else (0, 0)
    where = f"{place.topic}[{place.partition}]"
    if known is None or (not known.records and beginning > known.end):
        return ArchivedPartition(
            topic=place.topic,
            partition=place.partition,
            first=beginning,
            end=beginning,
            records=0,
            size_bytes=0,
            chain=GENESIS.hex(),
            last="",
        )
    if beginning > known.end:
        raise UserError(
            f"{where} has lost the records {known.end} to {beginning - 1} before they were archived: "
            "begin a new archive elsewhere, and export more often than records are deleted"
        )
    if end < known.end:
        raise UserError(another_log(f"{where} ends at {end}, and is archived up to {known.end}"))
    return known


def another_log(why: str) -> str:
    """Return the message for a log that is not the one of the archive."""
    return f"{why}: this is not the log that was archived here; begin a new archive elsewhere"


def check_prefix(topics: Topics, base: Manifest | None) -> None:
    """Raise UserError for an archive of other topics."""
    if base is not None and base.prefix != topics.prefix:
        raise UserError(
            f"the archive is of {base.prefix}, not of {topics.prefix}: "
            "set HEADGATE_TOPIC_PREFIX and --placement to what it was made with, or name another archive"
        )


def _described(log: Log, topics: Topics) -> dict[str, ArchivedTopic]:
    names = topics.own(log.topics(f"{topics.prefix}."))
    found = log.describe(names)
    if topics.executions not in found:
        raise UserError(f"there is no topic {topics.executions}: nothing to export")
    return {
        name: ArchivedTopic(
            name=name, partitions=one.partitions, topic_id=log.topic_id(name), config=dict(one.config)
        )
        for name, one in sorted(found.items())
    }


def _check_topics(found: Mapping[str, ArchivedTopic], base: Manifest | None) -> None:
    for known in base.topics if base is not None else ():
        now = found.get(known.name)
        if now is not None and known.topic_id != now.topic_id:
            raise UserError(another_log(f"topic {known.name} was deleted and made again since"))
        if now is not None and known.partitions != now.partitions:
            raise UserError(another_log(f"topic {known.name} has {now.partitions} partitions"))


def _merged(found: Mapping[str, ArchivedTopic], base: Manifest | None) -> list[ArchivedTopic]:
    """Return every topic that is archived or will be; a topic that is gone stays in the archive."""
    known = {one.name: one for one in base.topics} if base is not None else {}
    return sorted({**known, **found}.values(), key=lambda one: one.name)


def _positions(log: Log, topics: Topics, found: Mapping[str, ArchivedTopic]) -> list[ArchivedPosition]:
    made = []
    for group, topic in sorted(topics.groups(found)):
        places = [TopicPartition(topic, number) for number in range(found[topic].partitions)]
        consumer = log.consumer(group)
        try:
            committed = consumer.committed(places)
        finally:
            consumer.close()
        made += [
            ArchivedPosition(
                group=group, topic=topic, partition=place.partition, offset=one.offset, metadata=one.metadata
            )
            for place, one in sorted(committed.items())
            if one is not None
        ]
    return made


def _spans(log: Log, topics: Topics, found: Mapping[str, ArchivedTopic]) -> Spans:
    """Return (beginning, end) of each partition, the log's asked for before all others."""
    first = _places(found, [topics.executions])
    others = _places(found, [name for name in found if name != topics.executions])
    return {**log.offsets(first), **log.offsets(others)}


def _places(found: Mapping[str, ArchivedTopic], names: Sequence[str]) -> list[TopicPartition]:
    return [TopicPartition(name, number) for name in names for number in range(found[name].partitions)]
