"""I10: what the groups have committed, against what is finished and where the topics end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headgate_resilience.check.findings import Findings
from headgate_resilience.check.model.ledger import Work
from headgate_resilience.check.records import Records

Groups = Mapping[tuple[str, str], Mapping[int, int]]
"""(group, topic) -> partition -> committed offset."""


def read_groups(records: Records) -> Groups:
    """Return what the gates and the workers of every queue have committed; to be asked before reading."""
    topics = records.topics
    asked = {(topics.gate_group, topics.executions)}
    named = dict(zip(topics.of_named_queues(), ("task", "plan"), strict=True))
    fixed = {topics.task_inputs(): "task", topics.plan_inputs(): "plan"}
    for name in records.names():
        if name in fixed:
            asked.add((topics.workers_group(fixed[name]), name))
        for prefix, kind in named.items():
            if name.startswith(prefix):
                asked.add((topics.workers_group(kind, name.removeprefix(prefix)), name))
    return {(group, topic): records.committed(group, topic) for group, topic in sorted(asked)}


def check_groups(groups: Groups, records: Records, findings: Findings, *, settled: bool) -> None:
    """No group has committed beyond the end; when settled nothing is left to read."""
    lag_of: dict[str, int] = {}
    for (group, topic), committed in groups.items():
        for partition, (first, end) in records.spans(topic).items():
            where = f"group {group} on {topic}[{partition}]"
            at = committed.get(partition)
            lag = end - max(at if at is not None else first, first)
            lag_of[group] = lag_of.get(group, 0) + max(lag, 0)
            if at is not None:
                findings.need("I10", at <= end, where, f"has committed {at}, the topic ends at {end}")
            if settled:
                findings.need("I10", lag <= 0, where, f"has {lag} records to read, the end is {end}")
    findings.figures["lag"] = lag_of


def check_finished(
    open_works: Iterable[tuple[str, Work]], groups: Groups, topics: list[str], findings: Findings
) -> None:
    """Nothing that is below a committed offset is unfinished: it would never be read again."""
    by_topic = {topic: committed for (_, topic), committed in groups.items()}
    for lifetime, work in open_works:
        number, partition, at = work.place
        committed = by_topic.get(topics[number], {}).get(partition, 0)
        lost = at < committed and not work.was_announced
        where = f"{topics[number]}[{partition}]@{at}"
        what = f"execution {work.execution_id} of {lifetime} is unfinished, and {committed} is committed"
        findings.need("I10", not lost, where, what)
