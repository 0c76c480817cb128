"""One file of an archive: Avro records of one partition, each with its link of the hash chain.

Written by the export, read by the archive log; nothing else knows the schema.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fastavro
from fastavro.write import Writer

from headgate_graphs.errors import ArchiveBroken
from headgate_streams.archive.manifest import ArchivedFile
from headgate_streams.port import LogRecord, TopicPartition

FILE_RECORDS: Final = 20_000
"""Records of one file at most: a single record is found by reading its file, so files are kept short."""
FILE_BYTES: Final = 8_388_608
"""A file is closed when keys, values and headers come to so much, before compression (8 MiB)."""
GENESIS: Final = bytes(32)
"""What a partition's chain begins with."""
_BLOCK_BYTES: Final = 65_536
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)

_HEADER: Final = {
    "type": "record",
    "name": "Header",
    "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}],
}
# No maps: not every reader of Avro takes them.
SCHEMA: Final[Any] = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Record",
        "namespace": "headgate.archive.v1",
        "doc": "One record of a log as it was read; a partition's files hold its records in offset order.",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {
                "name": "timestamp_ms",
                "type": {"type": "long", "logicalType": "timestamp-millis"},
                "doc": "Append time of the log.",
            },
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {"name": "headers", "type": {"type": "array", "items": _HEADER}},
            {
                "name": "chain",
                "type": {"type": "fixed", "name": "Chain", "size": 32},
                "doc": "SHA-256 of the link before it and this record; 32 zero bytes come before the first.",
            },
        ],
    }
)


def record_bytes(record: LogRecord) -> bytes:
    """Return what the chain hashes of a record; two records that differ anywhere give different bytes.

    All numbers are big-endian: length and bytes of the topic, partition (4 bytes), offset and timestamp (8),
    key and value (each behind its length in 4 bytes, -1 for none), the number of headers, their names and
    values.
    """
    topic = record.topic.encode()
    parts = [
        struct.pack(">I", len(topic)) + topic,
        struct.pack(">iqq", record.partition, record.offset, record.timestamp_ms),
        _sized(record.key),
        _sized(record.value),
        struct.pack(">I", len(record.headers)),
    ]
    for name, value in record.headers:
        parts += (_sized(name.encode()), _sized(value))
    return b"".join(parts)


def _sized(content: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if content is None else struct.pack(">i", len(content)) + content


def link_after(before: bytes, record: LogRecord) -> bytes:
    """Return the next link of the chain, 32 bytes."""
    return hashlib.sha256(before + record_bytes(record)).digest()


def fingerprint(record: LogRecord) -> str:
    """Return the lower-case hex SHA-256 of a record, wherever it stands in a chain."""
    return hashlib.sha256(record_bytes(record)).hexdigest()


class FileDraft:
    """One file while it is written, in memory. The same records give the same bytes."""

    def __init__(self, place: TopicPartition, topic_id: str, first: int, chain: bytes) -> None:
        """Begin a file that covers `place` from offset `first` on, behind the link `chain`."""
        self._place = place
        self._topic_id = topic_id
        self._first = first
        self._before = self.chain = chain
        self._size = 0
        self._stamps: list[int] = []
        self.last: LogRecord | None = None
        """The record that was added last."""
        self._content = io.BytesIO()
        # Avro asks for 16 random bytes between blocks; these are as good and the same each time.
        marker = hashlib.sha256(f"{place.topic}/{place.partition}/{first}".encode() + chain).digest()[:16]
        self._writer = Writer(
            self._content, SCHEMA, codec="deflate", sync_interval=_BLOCK_BYTES, sync_marker=marker
        )
        self.records = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be closed now."""
        return self.records >= FILE_RECORDS or self._size >= FILE_BYTES

    def add(self, record: LogRecord) -> None:
        """Add the next record of the partition."""
        self.chain = link_after(self.chain, record)
        headers = [{"name": name, "value": value} for name, value in record.headers]
        row = (record.topic, record.partition, record.offset, record.timestamp_ms, record.key, record.value)
        self._writer.write(dict(zip(_NAMES, (*row, headers, self.chain), strict=True)))
        self._size += len(record.key or b"") + len(record.value or b"")
        self._size += sum(len(name) + len(value) for name, value in record.headers)
        stamp = record.timestamp_ms
        earliest, latest = self._stamps or (stamp, stamp)
        self._stamps = [min(earliest, stamp), max(latest, stamp)]
        self.last = record
        self.records += 1

    def seal(self) -> tuple[ArchivedFile, bytes]:
        """Return the finished file, of one record or more: what the manifest says of it, and its bytes."""
        if self.last is None:
            raise ValueError("a file has at least one record")
        self._writer.flush()
        content = self._content.getvalue()
        entry = ArchivedFile(
            topic=self._place.topic,
            partition=self._place.partition,
            topic_id=self._topic_id,
            first=self._first,
            end=self.last.offset + 1,
            records=self.records,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            chain_before=self._before.hex(),
            chain_after=self.chain.hex(),
            earliest_ms=self._stamps[0],
            latest_ms=self._stamps[1],
        )
        return entry, content


_NAMES: Final = tuple(field["name"] for field in SCHEMA["fields"])


def read_file(content: bytes, entry: ArchivedFile) -> Iterator[LogRecord]:
    """Yield the records of a file, each when its link of the chain holds.

    Raises ArchiveBroken at the first place that is not as the manifest says.
    """
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ArchiveBroken(f"{entry.key}: its bytes are not those that the manifest names (sha256)")
    chain, offset, count = bytes.fromhex(entry.chain_before), entry.first - 1, 0
    for row in _rows(content, entry):
        record = _record(row)
        where = f"{entry.key}: {record.topic[:80]}[{record.partition}]@{record.offset}"
        if (record.topic, record.partition) != (entry.topic, entry.partition):
            raise ArchiveBroken(f"{where} is of another partition than its file")
        if not offset < record.offset < entry.end:
            raise ArchiveBroken(f"{where} is out of order, or outside {entry.first} to {entry.end}")
        chain, offset, count = link_after(chain, record), record.offset, count + 1
        if chain != row["chain"]:
            raise ArchiveBroken(f"{where} is not what its link of the hash chain was made from")
        yield record
    if (chain.hex(), count, offset + 1) != (entry.chain_after, entry.records, entry.end):
        raise ArchiveBroken(f"{entry.key}: it ends otherwise than the manifest says, after offset {offset}")


def _rows(content: bytes, entry: ArchivedFile) -> Iterator[dict[str, Any]]:
    try:
        rows: Any = fastavro.reader(io.BytesIO(content))
        yield from rows
    except GeneratorExit:
        raise
    except Exception as error:  # whatever the decoder stumbles over, the file is not one of ours
        raise ArchiveBroken(f"{entry.key}: it cannot be decoded: {error!r}") from error


def _record(row: dict[str, Any]) -> LogRecord:
    headers = tuple((one["name"], one["value"]) for one in row["headers"])
    stamp_ms = (row["timestamp_ms"] - _EPOCH) // _MS
    return LogRecord(
        row["topic"], row["partition"], row["offset"], stamp_ms, row["key"], row["value"], headers
    )
