"""Pauses a source that yields dead letters faster than it may. Used at the edge of the gate and of workers.

Nothing here decides anything about a record: intake is only slower while a flood lasts, and what is said
about each record stays the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from headgate_streams.port import TopicPartition

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0
"""A pause is twice as long as the one before, until the source has been quiet for a minute."""


@dataclass(slots=True)
class _Source:
    room: float
    """Dead letters that may come at once."""
    filled_s: float
    """When `room` was last filled up."""
    next_pause_s: float
    until_s: float = 0.0
    """When its pause is over; 0 while it is read."""


class FloodLimit:
    """Counts the dead letters of each topic partition: so many a minute, and as many at once. One thread."""

    def __init__(self, limit_per_minute: int) -> None:
        """Take the limit; 0 for none."""
        self._limit = limit_per_minute
        self._sources: dict[TopicPartition, _Source] = {}

    def note(self, place: TopicPartition, now_s: float) -> float:
        """Count one dead letter; return for how many seconds the source must be paused now, 0 for not at all.

        `now_s` is monotonic. A source that is paused already is not paused again.
        """
        if not self._limit:
            return 0.0
        source = self._sources.get(place)
        if source is None:
            source = self._sources[place] = _Source(float(self._limit), now_s, FIRST_PAUSE_S)
        source.room = min(self._limit, source.room + (now_s - source.filled_s) * self._limit / 60)
        source.filled_s = now_s
        if source.room >= self._limit:
            source.next_pause_s = FIRST_PAUSE_S
        source.room -= 1
        if source.room >= 0 or source.until_s:
            return 0.0
        pause_s = source.next_pause_s
        source.until_s = now_s + pause_s
        source.next_pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s

    def over(self, now_s: float) -> list[TopicPartition]:
        """Return the sources whose pause is over: they are to be read again, and are told of once."""
        ended = [place for place, source in self._sources.items() if 0 < source.until_s <= now_s]
        for place in ended:
            self._sources[place].until_s = 0.0
        return ended

    def paused(self) -> list[TopicPartition]:
        """Return the sources that must not be read for now."""
        return [place for place, source in self._sources.items() if source.until_s]

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Drop what was counted of partitions that somebody else reads now."""
        for place in places:
            self._sources.pop(place, None)

    def warning(self, place: TopicPartition, pause_s: float) -> str:
        """Return the one line to log about a pause."""
        return (
            f"{place.topic}[{place.partition}] yields more than {self._limit} dead letters a minute:"
            f" it is not read for {pause_s:g} s; see `headgate dlq list --topic {place.topic}`"
        )
