"""I10: what the groups have committed, against what is finished and where the topics end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headgate_resilience.check.findings import Findings
from headgate_resilience.check.model.ledger import Work
from headgate_resilience.check.records import Records


class Position(NamedTuple):
    """Where one group stands on one topic."""

    group: str
    topic: str
    ends: Mapping[int, int]
    """Partition -> end of the topic, read before `committed`."""
    committed: Mapping[int, int]
    """Partition -> offset; absent where the group has committed nothing."""


def read_positions(records: Records) -> list[Position]:
    """Return where the gates and the workers of every queue stand; to be asked before anything is read."""
    asked = sorted(records.topics.groups(records.names()))
    ends = {topic: records.ends(topic) for _, topic in asked}
    return [Position(group, topic, ends[topic], records.committed(group, topic)) for group, topic in asked]


def check_positions(
    positions: Iterable[Position], records: Records, findings: Findings, *, settled: bool
) -> None:
    """No group has committed beyond the end; when settled nothing is left to read."""
    lags: dict[str, int] = {}
    for group, topic, ends, committed in positions:
        now = records.ends(topic)
        for partition, end in ends.items():
            where = f"group {group} on {topic}[{partition}]"
            at = committed.get(partition, records.spans(topic).get(partition, (0, 0))[0])
            lags[group] = lags.get(group, 0) + max(end - at, 0)
            last = now.get(partition, end)
            findings.need("I10", at <= last, where, f"has committed {at}, the topic ends at {last}")
            if settled:
                what = f"has {end - at} records to read, from {at} to the end at {end}"
                findings.need("I10", at >= end, where, what)
    findings.figures["lag"] = lags


def check_finished(
    open_works: Iterable[tuple[str, Work]],
    positions: Iterable[Position],
    topics: list[str],
    findings: Findings,
) -> None:
    """Nothing that is below a committed offset is unfinished: it would never be read again."""
    committed = {one.topic: one.committed for one in positions}
    for lifetime, work in open_works:
        number, partition, offset = work.place
        at = committed.get(topics[number], {}).get(partition, 0)
        lost = offset < at and not work.was_announced
        what = f"execution {work.execution_id} of {lifetime} is unfinished, and {at} is committed"
        findings.need("I10", not lost, f"{topics[number]}[{partition}]@{offset}", what)
