"""Asks the checker of the raw topics about what a load has left behind."""

from __future__ import annotations

import time

from headgate_loadtest.installation import Installation
from headgate_loadtest.result import LoadResult
from headgate_resilience.check import check_log
from headgate_streams.port import Committed, TopicPartition

_SETTLE_S = 15.0
"""How long the last commits may take."""


def check(installation: Installation, result: LoadResult, acknowledged: list[tuple[str, str]]) -> None:
    """Add what the checker says to a result: each invariant that does not hold is a fault."""
    wait_until_committed(installation)
    report = check_log(
        installation.log, installation.blobs, installation.settings, settled=True, acknowledged=acknowledged
    )
    result.check = [str(line) for line in report.lines()]
    if report.violated:
        broken = [one.id for one in report.invariants.values() if one.violations]
        result.faults.append(f"headgate check: violated: {', '.join(broken)}")


def wait_until_committed(installation: Installation) -> bool:
    """Return whether every group has committed all there is, waiting for a bounded time."""
    topics, log = installation.topics, installation.log
    groups = {
        f"{topics.prefix}.gate": topics.executions,
        f"{topics.prefix}.task-workers": topics.task_inputs(),
        f"{topics.prefix}.plan-workers": topics.plan_inputs(),
    }
    deadline = time.monotonic() + _SETTLE_S
    for group, topic in groups.items():
        consumer = log.consumer(group)
        try:
            while not _is_committed(
                installation, consumer.committed(installation.partitions_of(topic)), topic
            ):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)
        finally:
            consumer.close()
    return True


def _is_committed(
    installation: Installation, committed: dict[TopicPartition, Committed | None], topic: str
) -> bool:
    reached = {where: one.offset for where, one in committed.items() if one is not None}
    return all(reached.get(where, 0) >= end for where, end in installation.ends(topic).items())
