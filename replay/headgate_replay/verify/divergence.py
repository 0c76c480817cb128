"""A difference as people read it: where it is, what the fold says, what was said, and by which rules."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.text_format import MessageToString

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.control_pb2 import ExecutionEvent
from headgate_replay.reading.installation import Installation
from headgate_replay.verify.findings import Finding, Kind
from headgate_streams.codec import decode_envelope, headers_of
from headgate_streams.port import Headers, LogRecord, TopicPartition
from headgate_streams.ranges import read_range


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference of one partition; `""` and None are what is not there."""

    kind: str
    """differs, missing, extra, repeat, state, lost, failed or stray."""
    partition: int
    """Of the log."""
    offset: int | None
    """Of the record that leads to it; None for what no gate wrote."""
    index: int | None
    """Among the outputs of the record; None when it is about the record or the state."""
    time_ms: int | None
    """Append time of the record."""
    record: str
    """What the record is: its kind, tenant and lifetime."""
    where: str
    """topic[partition]@offset of what was written, or topic[partition] where nothing was."""
    message: str
    """Class of the output."""
    folded: str
    """What the fold says now, as text."""
    written: str
    """What was written, as text."""
    differences: Sequence[str]
    """Lines of the two that differ: `- ` only written, `+ ` only folded."""
    rules: Sequence[str]
    """Policy, version and rule of each violation that either names."""
    logic_version: int
    """By which the fold decides there."""
    detail: str

    @property
    def source(self) -> str:
        """Where the record is."""
        return (
            f"record {self.offset} of partition {self.partition}" if self.offset is not None else "no record"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for people."""
        said = _SAYS[self.kind].format(what=self.message or "the state", where=self.where)
        index = f", output {self.index}" if self.index is not None else ""
        lines = [f"partition {self.partition}: {said}", f"  from {self.source}{index} ({self.record})"]
        if self.detail:
            lines.append(f"  {self.detail}")
        lines.append(f"  logic version {self.logic_version}{_by(self.rules)}")
        lines += [f"  {line}" for line in self.differences]
        return lines


_SAYS = {
    Kind.DIFFERS.value: "{what} at {where} is not what the fold says",
    Kind.MISSING.value: "{what} was never written to {where}",
    Kind.EXTRA.value: "{what} at {where} is not said by the fold",
    Kind.REPEAT.value: "{what} at {where} repeats an earlier one with other bytes",
    Kind.STATE.value: "the state is not that of its checkpoint",
    Kind.LOST.value: "a record of the log is gone",
    Kind.FAILED.value: "the fold fails",
    Kind.STRAY.value: "{where} was not written by a gate",
}


def readable(installation: Installation, finding: Finding, logic_version: int) -> Divergence:
    """Return a difference with all that is known of it; reads its record from the log once more."""
    kind = _kind_of(installation, finding)
    folded = _text_of(kind, finding.output.value, finding.output.key.encode()) if finding.output else []
    written = _text_of(kind, finding.record.value, finding.record.key) if finding.record else []
    if finding.output and finding.record:
        folded += _headers(headers_of(finding.output.kind.__name__, finding.output.tenant_id))
        written += _headers(finding.record.headers)
    what, time_ms = _record(installation, finding)
    values = (
        finding.output.value if finding.output else b"",
        (finding.record and finding.record.value) or b"",
    )
    is_output = finding.place is not None
    return Divergence(
        kind=finding.kind.value,
        partition=finding.partition,
        offset=finding.point.offset if finding.point.offset >= 0 else None,
        index=finding.point.index if is_output and finding.point.index >= 0 else None,
        time_ms=time_ms,
        record=what,
        where=_where(finding),
        message=kind.__name__ if kind is not None else "",
        folded="\n".join(folded),
        written="\n".join(written),
        differences=_differences(folded, written) if finding.output and finding.record else written or folded,
        rules=_rules(kind, values),
        logic_version=logic_version,
        detail=finding.detail or _same_text(finding, folded, written),
    )


def _kind_of(installation: Installation, finding: Finding) -> type[Any] | None:
    if finding.output is not None:
        return finding.output.kind
    return installation.outputs().get(finding.place.topic) if finding.place is not None else None


def _where(finding: Finding) -> str:
    if finding.record is not None:
        return f"{finding.record.topic}[{finding.record.partition}]@{finding.record.offset}"
    return f"{finding.place.topic}[{finding.place.partition}]" if finding.place is not None else ""


def _text_of(kind: type[Message] | None, value: bytes | None, key: bytes | None) -> list[str]:
    """Return a message as lines of protobuf text, with its key before; its bytes when it is none."""
    lines = [f"key: {(key or b'').decode(errors='backslashreplace')!a}"]
    try:
        message = kind.FromString(value or b"") if kind is not None else None
    except (DecodeError, ValueError):
        message = None
    if message is None:
        return [*lines, f"not to be read: {(value or b'')[:200].hex()}"]
    return lines + MessageToString(message, as_utf8=False).splitlines()


def _headers(headers: Headers) -> list[str]:
    return [f"header {name[:64]}: {(value or b'')[:64]!a}" for name, value in headers]


def _differences(folded: list[str], written: list[str]) -> list[str]:
    """Return the lines that differ, without the fields around them."""
    return [line for line in difflib.ndiff(written, folded) if line[:2] in ("- ", "+ ")]


def _same_text(finding: Finding, folded: list[str], written: list[str]) -> str:
    if finding.kind is Kind.DIFFERS and folded == written:
        return "the same fields in other bytes"
    return ""


def _rules(kind: type[Any] | None, values: Sequence[bytes]) -> list[str]:
    """Return `policy v1 rule` for each violation that one of the two events names."""
    found: dict[str, None] = {}
    for value in values if kind is ExecutionEvent else ():
        try:
            event = ExecutionEvent.FromString(value)
        except DecodeError:
            continue
        found |= dict.fromkeys(f"{one.policy} v{one.version} {one.rule}" for one in event.violations)
    return list(found)


def _by(rules: Sequence[str]) -> str:
    return f", by {'; '.join(rules)}" if rules else ""


def _record(installation: Installation, finding: Finding) -> tuple[str, int | None]:
    """Return what the record is, and when it was appended."""
    place = TopicPartition(installation.topics.executions, finding.partition)
    offset = finding.point.offset
    first, end = installation.log.offsets([place])[place]
    if finding.kind is Kind.LOST or not first <= offset < end:
        return "not in the log", None
    for record in read_range(installation.log, place, offset, offset + 1):
        return _described(record), record.timestamp_ms
    return "not in the log", None


def _described(record: LogRecord) -> str:
    try:
        envelope, tenant, kind, _ = decode_envelope(record)
    except BadRecord as error:
        return f"a record that is refused: {error.reason}"
    lifetime = f", lifetime {envelope.lifetime_id}" if envelope.lifetime_id else ""
    return f"{kind} of tenant {tenant}{lifetime}"
