"""Records that were read and are not folded yet: partitions take turns, so a full one delays no other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from headgate_streams.port import LogRecord


class PartitionQueues:
    """One queue for each partition in which something waits; each keeps the order of its log."""

    __slots__ = ("_count", "_queues")

    def __init__(self) -> None:
        self._queues: dict[int, deque[LogRecord]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many records wait."""
        return self._count

    def add(self, records: Iterable[LogRecord]) -> None:
        """Queue records behind those of their partitions."""
        for record in records:
            queue = self._queues.get(record.partition)
            if queue is None:
                queue = self._queues[record.partition] = deque()
            queue.append(record)
            self._count += 1

    def take(self, most: int) -> list[LogRecord]:
        """Return about `most` records, shared out evenly; what a short queue leaves goes to the longer ones.

        The shortest queue comes first, and no queue is left out.
        """
        taken: list[LogRecord] = []
        left = len(self._queues)
        most = max(most, left)
        for queue in sorted(self._queues.values(), key=len):
            share = -(-(most - len(taken)) // left)
            taken += [queue.popleft() for _ in range(min(share, len(queue)))]
            left -= 1
        self._queues = {partition: queue for partition, queue in self._queues.items() if queue}
        self._count -= len(taken)
        return taken

    def drop(self, partition: int) -> None:
        """Forget what waits of a partition that somebody else will read."""
        self._count -= len(self._queues.pop(partition, ()))
