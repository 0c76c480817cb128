"""Where fold and topics differ, as it is found: records and outputs, before they are made readable."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from headgate_guardrails.fold.turn import Output
from headgate_streams.port import LogRecord, TopicPartition


class Point(NamedTuple):
    """A place in the order of what a partition leads to."""

    offset: int
    """Of the record."""
    index: int  # type: ignore[assignment]
    """Among its outputs, -1 before them; hides the tuple's own method, which nobody needs."""


NOWHERE = Point(-1, -1)
"""Of what was made from no record."""
LAST = 1 << 40
"""As `Point.index`: behind all outputs of the record."""


class Kind(enum.Enum):
    """In which way they differ."""

    DIFFERS = "differs"
    """Both are there, and are not the same."""
    MISSING = "missing"
    """The fold says it, and it was never written."""
    EXTRA = "extra"
    """It was written, and the fold does not say it."""
    REPEAT = "repeat"
    """It was written twice, with different bytes."""
    STATE = "state"
    """The state is not that of the checkpoint."""
    LOST = "lost"
    """A record of the log is gone from its middle."""
    FAILED = "failed"
    """The fold fails."""
    STRAY = "stray"
    """It was written, and not by a gate."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    kind: Kind
    partition: int
    point: Point
    place: TopicPartition | None = None
    """Where the output lies, or should."""
    output: Output | None = None
    """What the fold says."""
    record: LogRecord | None = None
    """What was written."""
    detail: str = ""


@dataclass(slots=True)
class Findings:
    """The first difference of each partition."""

    first: dict[int, Finding] = field(default_factory=dict)
    strays: int = 0
    """Records of output topics that no gate wrote."""
    stray: LogRecord | None = None
    """The first of them that says it was: those who read the topic would take it."""

    def add(self, finding: Finding) -> None:
        """Keep it, if it comes before what is known of its partition."""
        known = self.first.get(finding.partition)
        if known is None or finding.point < known.point:
            self.first[finding.partition] = finding

    def add_stray(self, record: LogRecord, *, is_believed: bool) -> None:
        """Count a record that no gate wrote."""
        self.strays += 1
        if is_believed and self.stray is None:
            self.stray = record
