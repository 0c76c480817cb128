from __future__ import annotations

import pytest

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import Source
from headgate_protos.v1.execution_pb2 import DeadLetter, LetterRequeued
from headgate_streams.codec import decode, encode
from headgate_streams.letters import counted, dead_letter, headers_of, tell
from headgate_streams.port import Headers, LogRecord

ERROR = BadRecord("HEADER_MISSING", "no header")


def record(value: bytes | None, headers: Headers, key: bytes | None = b"acme") -> LogRecord:
    return LogRecord("t", 3, 42, 1_700_000_000_123, key, value, headers)


def test_letter_holds_bytes_coordinates_and_reason() -> None:
    bad = record(b"v" * 100_000, (("hg-tenant", b"acme"),), b"k" * 5000)
    letter = dead_letter(bad, BadRecord("DECODE", "two\nlines \x1b[31m ü"), Source(partition=3, offset=42))
    assert (letter.topic, letter.partition, letter.offset) == ("t", 3, 42)
    assert letter.appended_at.ToMilliseconds() == 1_700_000_000_123
    assert (len(letter.key), len(letter.value), letter.value_size_bytes) == (1024, 65536, 100_000)
    assert (letter.reason, letter.detail) == ("DECODE", "two\\nlines \\x1b[31m \\xfc")
    assert (letter.tenant_id, letter.source.offset) == ("acme", 42)
    assert not letter.is_whole


def test_letter_of_a_usual_record_is_whole() -> None:
    headers = (("hg-type", b"X"), ("traceparent", b"00-1"), ("hg-type", b"twice"))
    letter = dead_letter(record(b"v" * 65_536, headers, b"k" * 1024), ERROR)
    assert letter.is_whole
    assert headers_of(letter) == headers
    assert (letter.has_no_key, letter.has_no_value) == (False, False)


def test_letter_tells_nothing_from_empty() -> None:
    letter = dead_letter(record(None, (), None), ERROR)
    assert (letter.has_no_key, letter.has_no_value, letter.is_whole) == (True, True, True)


def test_headers_are_kept_up_to_what_a_sound_record_may_have() -> None:
    many = tuple((f"h{i}", b"x") for i in range(1000))
    letter = dead_letter(record(b"", many), ERROR)
    assert (len(letter.headers), letter.is_whole) == (32, False)
    letter = dead_letter(record(b"", (("a", b"1"), ("b", b"x" * 20_000), ("c", b"3"))), ERROR)
    assert (headers_of(letter), letter.is_whole) == ((("a", b"1"),), False)


def test_a_null_header_ends_nobody() -> None:
    null: Headers = (("hg-tenant", None),)  # type: ignore[assignment]
    letter = dead_letter(record(b"v", null), ERROR)
    assert (letter.tenant_id, headers_of(letter)) == ("acme", (("hg-tenant", b""),))


def test_letter_names_a_tenant_only_when_it_is_sure() -> None:
    assert dead_letter(record(None, (), b"acme/life"), ERROR).tenant_id == "acme"
    assert dead_letter(record(None, (("hg-tenant", b"../x"),), b"\xff"), ERROR).tenant_id == "*"
    spoof = BadRecord("TENANT_SPOOF", "two tenants")
    assert dead_letter(record(b"", (("hg-tenant", b"acme"),)), spoof).tenant_id == "*"


def test_letters_and_what_became_of_them_travel_for_one_tenant_and_for_all() -> None:
    for tenant in ("acme", "*"):
        letter = DeadLetter(topic="t", tenant_id=tenant, reason="DECODE")
        assert decode(record(*encode(letter, tenant), tenant.encode()), DeadLetter) == letter
        mark = LetterRequeued(letter_offset=3, requeue_id="r", tenant_id=tenant)
        assert decode(record(*encode(mark, tenant), tenant.encode()), LetterRequeued) == mark


def test_letters_are_counted_and_a_suspicious_one_is_said_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted.clear()
    tell(dead_letter(record(b"v", ()), ERROR))
    tell(dead_letter(record(b"v", ()), BadRecord("TENANT_SPOOF", "a\nb\x1b[31m %s")))
    tell(dead_letter(record(b"v", ()), BadRecord("BLOB_REF", "../x")))
    assert counted == {"HEADER_MISSING": 1, "TENANT_SPOOF": 1, "BLOB_REF": 1}
    said = [(one.name, one.getMessage()) for one in caplog.records]
    assert [name for name, _ in said] == ["headgate.security"] * 2
    assert said[0][1] == "TENANT_SPOOF in t[3]@42, which says it is of tenant *: a\\nb\\x1b[31m %s"
