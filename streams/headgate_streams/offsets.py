"""What a consumer may commit and what it has already seen. Used by workers and readers of outputs."""

from __future__ import annotations

from collections import deque
from typing import Final

from headgate_graphs.errors import UserError
from headgate_protos.v1.common_pb2 import Source
from headgate_streams.port import Committed

_VERSION: Final = "1"


class SourceCursor:
    """The highest source seen per source partition.

    Outputs of one source partition are written in (offset, index) order, so whatever is not above the
    cursor is a repeat; that is how repeats are dropped for ever in finite memory.
    """

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[int, tuple[int, int]] = {}

    def is_new(self, source: Source) -> bool:
        """Whether `source` is above everything seen of its partition."""
        highest = self._highest.get(source.partition)
        return highest is None or (source.offset, source.index) > highest

    def advance(self, source: Source) -> bool:
        """Remember `source` and return whether it was new; one that is not changes nothing."""
        partition, place = source.partition, (source.offset, source.index)
        highest = self._highest.get(partition)
        if highest is not None and place <= highest:
            return False
        self._highest[partition] = place
        return True

    def copy(self) -> SourceCursor:
        """Return an independent cursor at the same place."""
        twin = SourceCursor()
        twin._highest = dict(self._highest)
        return twin

    def encode(self) -> str:
        """Return the text for commit metadata, `1;partition:offset.index,…`; about 20 bytes a partition."""
        parts = (f"{p}:{offset}.{index}" for p, (offset, index) in sorted(self._highest.items()))
        return f"{_VERSION};{','.join(parts)}" if self._highest else ""

    @classmethod
    def decode(cls, text: str) -> SourceCursor:
        """Return the cursor of `encode`; the empty text is the empty cursor.

        Raises:
            UserError: The text is not a cursor, so another program has committed for this group.
        """
        cursor = cls()
        if not text:
            return cursor
        try:
            version, parts = text.split(";")
            if version != _VERSION:
                raise ValueError(version)
            for part in parts.split(","):
                partition, place = part.split(":")
                offset, index = place.split(".")
                cursor._highest[int(partition)] = (int(offset), int(index))
        except ValueError:
            raise UserError(
                f"the group's commit metadata {text[:64]!a} is not ours: something else commits for it"
            ) from None
        return cursor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceCursor) and self._highest == other._highest

    __hash__ = None  # type: ignore[assignment]


class OffsetTracker:
    """Finds what may be committed of one partition while its records finish out of order.

    Records are tracked in offset order; gaps in the offsets (compaction) are fine. One thread.
    """

    __slots__ = ("_cursor", "_finished", "_next", "_open", "_reported")

    def __init__(self, cursor: SourceCursor | None = None) -> None:
        """Start from the cursor that came with the committed offset."""
        self._cursor = cursor.copy() if cursor is not None else SourceCursor()
        self._open: deque[tuple[int, Source | None]] = deque()
        self._finished: set[int] = set()
        self._next = -1
        self._reported = -1

    @property
    def in_flight(self) -> int:
        """How many tracked records are not done."""
        return len(self._open) - len(self._finished)

    @property
    def committed(self) -> int:
        """The next offset as of the last commit that succeeded here; -1 before the first."""
        return self._reported

    def track(self, offset: int, source: Source | None = None) -> None:
        """Take up one record; `source` joins the cursor once the record is part of the finished prefix."""
        if self._open and offset <= self._open[-1][0]:
            raise ValueError(f"offset {offset} is tracked after {self._open[-1][0]}")
        self._open.append((offset, source))

    def done(self, offset: int) -> None:
        """Mark a tracked record as finished; an offset that is already part of the prefix changes nothing."""
        waiting, finished = self._open, self._finished
        if not waiting or offset < waiting[0][0]:
            return
        finished.add(offset)
        while waiting and waiting[0][0] in finished:
            first, source = waiting.popleft()
            finished.remove(first)
            self._next = first + 1
            if source is not None:
                self._cursor.advance(source)

    def committable(self) -> Committed | None:
        """Return the offset after the longest finished prefix, with the cursor as of it.

        None when that is what `committed_ok` has been told already.
        """
        return self.position() if self._next > self._reported else None

    def position(self) -> Committed:
        """Return what `committable` does, or, when that is None, what is committed, with its cursor."""
        return Committed(max(self._next, self._reported), self._cursor.encode())

    def committed_ok(self, committed: Committed | None = None) -> None:
        """Remember that a commit succeeded: the given one, or the newest committable."""
        self._reported = max(self._reported, committed.offset if committed is not None else self._next)
