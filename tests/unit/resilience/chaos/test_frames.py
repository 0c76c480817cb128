"""What the proxy understands of Kafka's protocol: heads, brokers in a Metadata response, new addresses."""

from __future__ import annotations

import asyncio
import struct

import pytest

from headgate_resilience.chaos.proxy.frames import (
    Address,
    Request,
    brokers_in,
    moved,
    number_of,
    read_frame,
    request_of,
    without_brokers,
)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def classic(host: str, port: int, rack: bytes | None = None) -> bytes:
    written = struct.pack(">i", 1) + struct.pack(">h", len(host)) + host.encode() + struct.pack(">i", port)
    return written + (struct.pack(">h", -1) if rack is None else struct.pack(">h", len(rack)) + rack)


def compact(host: str, port: int) -> bytes:
    return (
        struct.pack(">i", 1) + bytes([len(host) + 1]) + host.encode() + struct.pack(">i", port) + b"\x00\x00"
    )


def test_the_head_of_a_request_is_read() -> None:
    assert request_of(framed(struct.pack(">hhi", 3, 12, 77) + b"rest")) == Request(3, 12, 77)
    assert number_of(framed(struct.pack(">i", 77) + b"rest")) == 77


def test_brokers_of_an_old_response_are_found() -> None:
    body = struct.pack(">iii", 9, 0, 2) + classic("a.example", 9092) + classic("b", 9093, b"rack-1")
    assert brokers_in(framed(body), 8) == [Address("a.example", 9092), Address("b", 9093)]


def test_brokers_of_a_flexible_response_are_found() -> None:
    head = struct.pack(">i", 9) + b"\x00" + struct.pack(">i", 0) + b"\x03"
    body = head + compact("127.0.0.1", 9092) + compact("127.0.0.1", 9093)
    assert brokers_in(framed(body), 12) == [Address("127.0.0.1", 9092), Address("127.0.0.1", 9093)]


def test_brokers_are_taken_out_of_an_old_response_and_the_rest_stays() -> None:
    head, rest = struct.pack(">ii", 9, 0), b"cluster and topics"
    old = head + struct.pack(">i", 2) + classic("a", 1) + classic("b", 2, b"rack") + rest
    assert without_brokers(framed(old), 8) == framed(head + struct.pack(">i", 0) + rest)


def test_brokers_are_taken_out_of_a_flexible_response_and_the_rest_stays() -> None:
    head, rest = struct.pack(">i", 9) + b"\x00" + struct.pack(">i", 0), b"cluster and topics"
    assert without_brokers(framed(head + b"\x02" + compact("a", 1) + rest), 13) == framed(
        head + b"\x01" + rest
    )


@pytest.mark.parametrize("written", [classic("far.example", 9092), compact("far.example", 9092)])
def test_an_address_is_replaced_and_the_length_with_it(written: bytes) -> None:
    frame = moved(
        framed(b"before" + written + b"after"), {Address("far.example", 9092): Address("near", 1234)}
    )
    assert struct.unpack(">i", frame[:4]) == (len(frame) - 4,)
    assert b"far.example" not in frame
    assert b"near" + struct.pack(">i", 1234) in frame
    assert frame.startswith(frame[:4] + b"before")
    assert frame.endswith(b"after")


def test_another_port_of_the_same_host_is_left_alone() -> None:
    frame = framed(compact("127.0.0.1", 9094))
    assert moved(frame, {Address("127.0.0.1", 9092): Address("127.0.0.1", 1)}) == frame


def test_what_is_no_frame_is_refused() -> None:
    async def read(content: bytes) -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_frame(reader)

    assert asyncio.run(read(framed(b"body"))) == framed(b"body")
    with pytest.raises(ValueError, match="not Kafka"):
        asyncio.run(read(b"\xff" * 8))
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(read(framed(b"body")[:-1]))
