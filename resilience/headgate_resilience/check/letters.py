"""I13: one dead letter for each bad input, with its bytes and coordinates, and none for a good one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headgate_resilience.check.facts import Letter, digest
from headgate_resilience.check.findings import Findings
from headgate_resilience.check.outputs import Outputs, Said
from headgate_streams.port import LogRecord

REFUSING_GOOD: Final = frozenset({"UNKNOWN_LIFETIME", "UNKNOWN_NODE", "CONFLICT"})
"""Reasons that cannot be for a result which was waited for."""
OF_FORM: Final = frozenset(
    {"EMPTY", "HEADER_MISSING", "TYPE_MISMATCH", "VERSION", "BAD_TENANT_ID", "WRONG_PARTITION"}
)
"""Reasons that a record has by itself: one that was found to be well formed cannot have them."""
LEAST_KEPT: Final = 1024
"""Bytes that a letter keeps of any value, if it has as many."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Letters:
    """Compares records that were refused, or should have been, with the dead letters about them."""

    def __init__(self, findings: Findings, outputs: Outputs) -> None:
        self._findings = findings
        self._outputs = outputs
        self._told: dict[Place, list[tuple[Said, Letter]]] = {}
        """The letters that the record in hand has led to, by what they are about."""

    def begin(self, said: Sequence[Said]) -> None:
        """Take up the letters that one record has led to."""
        self._told = {}
        for one in said:
            if isinstance(one.fact, Letter):
                place = (one.fact.topic, one.fact.partition, one.fact.offset)
                self._told.setdefault(place, []).append((one, one.fact))

    def end(self) -> None:
        """No letter is left that is about anything else than what was taken."""
        for letters in self._told.values():
            for said, letter in letters:
                what = f"is about {letter.topic[:64]}[{letter.partition}]@{letter.offset}, not its source"
                self._findings.fail("I13", self._outputs.where(said), what)

    def is_about(self, record: LogRecord) -> bool:
        """Whether a letter is about this record."""
        return bool(self._told) and _place(record) in self._told

    def refused(self, record: LogRecord, reason: str) -> None:
        """A record that must be refused by its form has led to exactly one letter."""
        self._findings.counts["bad records of the log"] += 1
        letters = self._told.pop(_place(record), [])
        if letters or not self._outputs.is_partial(Letter):
            self._one(record, reason, letters)

    def judged(self, record: LogRecord, is_good: bool) -> None:
        """A letter about a well-formed record does not say what cannot be said of it."""
        letters = self._told.pop(_place(record), [])
        self._one(record, "refused", letters)
        for said, letter in letters:
            wrong = letter.reason in OF_FORM or (is_good and letter.reason in REFUSING_GOOD)
            what = f"{letter.reason} is said of {where_of(record)}, which is good"
            self._findings.need("I13", not wrong, self._outputs.where(said), what)

    def _one(self, record: LogRecord, reason: str, letters: Sequence[tuple[Said, Letter]]) -> None:
        what = f"{reason}: {len(letters)} dead letters tell of it"
        self._findings.need("I13", len(letters) == 1, where_of(record), what)
        for said, letter in letters:
            self._findings.counts[f"dead letters {letter.reason}"] += 1
            fault = fault_of(letter, record)
            what = f"about {where_of(record)}: {fault}"
            self._findings.need("I13", not fault, self._outputs.where(said), what)


def check_worker_letters(outputs: Outputs, findings: Findings, *, settled: bool) -> None:
    """Bad inputs are put aside by workers: each letter shows its record, and when settled none is missing."""
    told: set[Place] = set()
    for where, letter in outputs.worker_letters:
        place = (letter.topic, letter.partition, letter.offset)
        told.add(place)
        bad = outputs.refused.get(place)
        if bad is not None:
            fault = fault_of(letter, bad[1])
            findings.need("I13", not fault, where, f"about {where_of(bad[1])}: {fault}")
    for place, (reason, record) in outputs.refused.items():
        findings.counts["bad records of other topics"] += 1
        if settled and outputs.is_input(place[0]) and not outputs.is_partial(Letter):
            findings.need("I13", place in told, where_of(record), f"{reason}, and no dead letter tells of it")


def fault_of(letter: Letter, record: LogRecord) -> str:
    """Return what of a letter is not its record's, empty when all is."""
    key, value = record.key or b"", record.value or b""
    key_kept, value_kept, size = letter.kept
    if size != len(value):
        return f"it says {size} bytes, the record has {len(value)}"
    if letter.key != digest(key[:key_kept]) or letter.value != digest(value[:value_kept]):
        return "its bytes are not the record's"
    if value_kept < min(len(value), LEAST_KEPT):
        return f"it keeps {value_kept} bytes of {len(value)}"
    return ""


def where_of(record: LogRecord) -> str:
    """Return topic[partition]@offset."""
    return f"{record.topic}[{record.partition}]@{record.offset}"


def _place(record: LogRecord) -> Place:
    return record.topic, record.partition, record.offset
