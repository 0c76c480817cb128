"""The file format: what a chain is made of, and that the same records give the same bytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_graphs.errors import ArchiveBroken
from headgate_streams.archive.format import GENESIS, SCHEMA, FileDraft, link_after, read_file, record_bytes
from headgate_streams.archive.manifest import ArchivedFile
from headgate_streams.port import LogRecord, TopicPartition

FIRST = LogRecord("t", 2, 5, 1_700_000_000_123, b"k", b"value", (("h", b"x"), ("h", b"")))
SECOND = LogRecord("t", 2, 9, 1_700_000_000_124, None, None, ())


def drafted(*records: LogRecord) -> tuple[ArchivedFile, bytes]:
    draft = FileDraft(TopicPartition("t", 2), "id", 5, GENESIS)
    for record in records:
        draft.add(record)
    return draft.seal()


def test_what_is_hashed_of_a_record_is_written_down() -> None:
    spelled = (
        "00000001" "74" "00000002" "0000000000000005" "0000018bcfe5687b"
        "00000001" "6b" "00000005" "76616c7565" "00000002"
        "00000001" "68" "00000001" "78" "00000001" "68" "00000000"
    )  # fmt: skip
    assert record_bytes(FIRST).hex() == spelled
    assert link_after(GENESIS, FIRST) == hashlib.sha256(bytes(32) + bytes.fromhex(spelled)).digest()


names = st.sampled_from(["", "a", "aa", "\u00fc", "\0"])
values = st.sampled_from([None, b"", b"a", b"aa", b"\0\0\0\0"])
record = st.builds(
    LogRecord,
    topic=names,
    partition=st.integers(0, 3),
    offset=st.integers(0, 3),
    timestamp_ms=st.integers(-1, 2),
    key=values,
    value=values,
    headers=st.lists(st.tuples(names, values.filter(bool)), max_size=3).map(tuple),
)


@given(record, record)
def test_only_equal_records_give_equal_bytes(one: LogRecord, other: LogRecord) -> None:
    assert (record_bytes(one) == record_bytes(other)) == (one == other)


def test_a_file_gives_back_its_records() -> None:
    entry, content = drafted(FIRST, SECOND)
    assert list(read_file(content, entry)) == [FIRST, SECOND]
    assert (entry.first, entry.end, entry.records) == (5, 10, 2)
    assert (entry.earliest_ms, entry.latest_ms) == (FIRST.timestamp_ms, SECOND.timestamp_ms)


def test_the_same_records_give_the_same_bytes() -> None:
    assert drafted(FIRST, SECOND) == drafted(FIRST, SECOND)


def test_the_schema_has_no_maps() -> None:
    _, content = drafted(FIRST)
    rows = fastavro.reader(io.BytesIO(content))
    assert rows.codec == "deflate"
    assert "map" not in str(rows.writer_schema)
    assert [field["name"] for field in SCHEMA["fields"]] == [
        *("topic", "partition", "offset", "timestamp_ms", "key", "value", "headers", "chain")
    ]


def test_one_flipped_byte_is_noticed_wherever_it_is() -> None:
    entry, content = drafted(FIRST, SECOND)
    for at in range(len(content)):
        broken = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(ArchiveBroken, match=r"t/2/5-10\.avro"):
            list(read_file(broken, entry))


def forged(entry: ArchivedFile, content: bytes) -> ArchivedFile:
    """Return the entry with the sha256 of other bytes, as who can write the manifest would make it."""
    return entry.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ((replace(FIRST, value=b"other"), SECOND), r"t\[2\]@9 is not what its link|ends otherwise"),
        ((SECOND,), "ends otherwise|@9"),
        ((FIRST,), "ends otherwise"),
        ((replace(FIRST, topic="u"), SECOND), r"u\[2\]@5 is of another partition"),
        ((replace(FIRST, partition=1), SECOND), r"t\[1\]@5 is of another partition"),
        ((replace(FIRST, offset=4), SECOND), r"t\[2\]@4 is out of order"),
        ((SECOND, FIRST), r"t\[2\]@5 is out of order"),
        ((FIRST, replace(SECOND, offset=10)), r"t\[2\]@10 is out of order"),
    ],
)
def test_a_forged_file_is_noticed_by_its_chain(written: tuple[LogRecord, ...], where: str) -> None:
    entry, _ = drafted(FIRST, SECOND)
    _, other = drafted(*written)
    with pytest.raises(ArchiveBroken, match=where):
        list(read_file(other, forged(entry, other)))


def test_a_record_whose_link_is_of_another_is_named() -> None:
    entry, content = drafted(FIRST, SECOND)
    rows = list(fastavro.reader(io.BytesIO(content)))
    rows[1]["value"] = b"put in"
    changed = io.BytesIO()
    fastavro.writer(changed, SCHEMA, rows, codec="deflate")
    with pytest.raises(ArchiveBroken, match=r"t\[2\]@9 is not what its link"):
        list(read_file(changed.getvalue(), forged(entry, changed.getvalue())))


@pytest.mark.parametrize("content", [b"", b"Obj\x01", b"not avro at all"])
def test_bytes_that_are_no_file_are_broken(content: bytes) -> None:
    entry, _ = drafted(FIRST)
    with pytest.raises(ArchiveBroken, match="cannot be decoded"):
        list(read_file(content, forged(entry, content)))


def test_polars_reads_a_file() -> None:
    import polars

    _, content = drafted(FIRST, SECOND)
    frame = polars.read_avro(io.BytesIO(content))
    assert frame["offset"].to_list() == [5, 9]
    assert frame["value"].to_list() == [b"value", None]
    assert frame["headers"].to_list()[0] == [{"name": "h", "value": b"x"}, {"name": "h", "value": b""}]
    assert frame["timestamp_ms"].dt.epoch("ms").to_list() == [FIRST.timestamp_ms, SECOND.timestamp_ms]
    assert frame["chain"].to_list()[0] == link_after(GENESIS, FIRST)


QUERY = """select topic, "partition", "offset", epoch_ms(timestamp_ms), octet_length(value), headers[1].name
from {} order by "offset" """
ANSWER = [("t", 2, 5, FIRST.timestamp_ms, 5, "h"), ("t", 2, 9, SECOND.timestamp_ms, None, None)]


def test_duckdb_reads_a_file(tmp_path: Path) -> None:
    import duckdb
    import duckdb_extension_avro

    # What `INSTALL avro` fetches, and as it is signed by DuckDB's own makers; here it comes as a package.
    extension = f"extensions/v{duckdb.__version__}/avro.duckdb_extension"
    _, content = drafted(FIRST, SECOND)
    (tmp_path / "file.avro").write_bytes(content)
    with duckdb.connect() as connection:
        connection.load_extension(str(Path(duckdb_extension_avro.__file__).parent / extension))
        assert connection.sql(QUERY.format(f"read_avro('{tmp_path}/file.avro')")).fetchall() == ANSWER
