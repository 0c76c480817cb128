"""Follows one lifetime as it goes: the log, the gate's dispatches, control events and views, merged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from headgate.family import Family
from headgate.reading import count_partitions, partitions_of
from headgate.words import TERMINAL, status_word
from headgate_catalog.happening import Happening, read_happening
from headgate_graphs.errors import UserError
from headgate_streams.port import Log, TopicPartition
from headgate_streams.topics import Topics, partition_for

POLL_S = 0.1
"""How long one poll waits; also how often a caller gets to look at its own clock."""
SETTLE_S = 5.0
"""How long after the end the last holds may take to close before following stops."""

__all__ = ["Happening", "follow", "starting_points"]


def starting_points(
    log: Log, topics: Topics, tenant: str, queues: Sequence[str] = (), since_ms: int | None = None
) -> dict[TopicPartition, int]:
    """Return where to begin to follow a tenant: each partition's end now, or its offset at `since_ms`.

    Views, control events and the log are read in the tenant's partition, inputs in every partition.
    """
    count = count_partitions(log, topics.executions)
    mine = partition_for(tenant, count)
    names = (topics.executions, topics.control_events, topics.lifetimes)
    inputs = [
        name for queue in ("", *queues) for name in (topics.task_inputs(queue), topics.plan_inputs(queue))
    ]
    partitions = [TopicPartition(name, mine) for name in names] + partitions_of(log, inputs)
    if since_ms is None:
        return {where: end for where, (_, end) in log.offsets(partitions).items()}
    return {where: log.offset_at(where, since_ms) for where in partitions}


def follow(
    log: Log,
    topics: Topics,
    tenant: str,
    lifetime_id: str,
    *,
    since: Mapping[TopicPartition, int] | None = None,
    timeout_s: float | None = None,
    below: bool = False,
) -> Iterator[Happening | None]:
    """Yield what happens to one lifetime; None about ten times a second while nothing does.

    With `below`, what happens to its sub-graphs too; a view of theirs names the one above it.

    Ends when the lifetime has and nothing more is there: once a terminal view has no open holds, or SETTLE_S
    after the last terminal view. Without `since` the whole history comes first. Raises UserError when the
    topics do not exist.
    """
    positions = since if since is not None else starting_points(log, topics, tenant, since_ms=0)
    if not positions:
        raise UserError("nothing to follow: make the topics first with `headgate topics create`")
    reader = log.reader()
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    closing = False
    family = Family(lifetime_id, below=below)
    try:
        reader.assign(dict(positions))
        while ends_at is None or time.monotonic() < ends_at:
            records = reader.poll(POLL_S)
            read = (read_happening(record, topics, tenant) for record in records)
            found = [own for one in read if one is not None for own in family.take(one)]
            for happening in sorted(found, key=lambda one: one.order):
                yield happening
                if _is_end(happening):
                    closing = closing or not happening.message.open_holds
                    settle_by = time.monotonic() + SETTLE_S
                    ends_at = settle_by if ends_at is None else min(ends_at, settle_by)
            if closing and not records:
                return
            yield None
    finally:
        reader.close()


def _is_end(happening: Happening) -> bool:
    view = happening.view
    return view is not None and not happening.depth and status_word(view.status) in TERMINAL
