"""Up to where each partition has been projected: read by the projector, and by who asks how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, select

from headgate_catalog.tables import POSITIONS
from headgate_streams.port import TopicPartition


class Position(NamedTuple):
    """Up to where a partition has been projected."""

    next_offset: int
    topic_id: str
    as_of_ms: int
    """Log time of the newest record before it, 0 for none."""


Positions = Mapping[TopicPartition, Position]


def positions_in(connection: Connection) -> dict[TopicPartition, Position]:
    """Return the position of every partition that is known to a catalog."""
    return {
        TopicPartition(row.topic, row.partition): Position(row.next_offset, row.topic_id, row.as_of_ms)
        for row in connection.execute(select(POSITIONS))
    }
