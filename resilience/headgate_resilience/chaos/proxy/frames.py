"""As much of Kafka's protocol as a proxy needs: what a request is, and where brokers say that they are.

Requests and responses are length-prefixed; a request begins with its kind, version and number, a response
with the number (KIP-511, KIP-482). Addresses are found in Metadata responses and replaced wherever they
stand, so the brokers need not be told about the proxy.
"""

from __future__ import annotations

import struct
from asyncio import StreamReader
from typing import Final, NamedTuple

PRODUCE: Final = 0
METADATA: Final = 3
OFFSET_COMMIT: Final = 8
NAMES: Final = {PRODUCE: "produce", OFFSET_COMMIT: "commit"}
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
_FLEXIBLE_METADATA: Final = 9


class Request(NamedTuple):
    """What the head of a request says."""

    kind: int
    version: int
    number: int


class Address(NamedTuple):
    """Where a broker says that it listens."""

    host: str
    port: int


async def read_frame(reader: StreamReader) -> bytes:
    """Return one frame with its length.

    Raises IncompleteReadError at the end, ValueError when it is no frame.
    """
    head = await reader.readexactly(4)
    (size,) = struct.unpack(">i", head)
    if not 0 <= size <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes: this is not Kafka's protocol in the clear")
    return head + await reader.readexactly(size)


def request_of(frame: bytes) -> Request:
    """Return the head of a request frame."""
    return Request(*struct.unpack_from(">hhi", frame, 4))


def number_of(frame: bytes) -> int:
    """Return the number of the request that a response frame answers."""
    (number,) = struct.unpack_from(">i", frame, 4)
    return int(number)


def brokers_in(frame: bytes, version: int) -> list[Address]:
    """Return the brokers that a Metadata response names."""
    return _brokers(_at_brokers(frame, version), version)


def without_brokers(frame: bytes, version: int) -> bytes:
    """Return the Metadata response of a broker that is cut off from its cluster: it names no broker."""
    cursor = _at_brokers(frame, version)
    begin = cursor.at
    _brokers(cursor, version)
    nobody = b"\x01" if cursor.is_compact else struct.pack(">i", 0)
    body = frame[4:begin] + nobody + frame[cursor.at :]
    return struct.pack(">i", len(body)) + body


def _at_brokers(frame: bytes, version: int) -> _Cursor:
    cursor = _Cursor(frame, 8, is_compact=version >= _FLEXIBLE_METADATA)
    if cursor.is_compact:
        cursor.tags()
    if version >= 3:
        cursor.skip(4)  # throttle time
    return cursor


def _brokers(cursor: _Cursor, version: int) -> list[Address]:
    return [cursor.broker(has_rack=version >= 1) for _ in range(cursor.length())]


def moved(frame: bytes, places: dict[Address, Address]) -> bytes:
    """Return the frame with every broker's address replaced by where `places` says it is reached."""
    body = frame[4:]
    for real, ours in places.items():
        for write in (_compact, _classic):
            body = body.replace(write(real), write(ours))
    return struct.pack(">i", len(body)) + body


def _classic(address: Address) -> bytes:
    host = address.host.encode()
    return struct.pack(">h", len(host)) + host + struct.pack(">i", address.port)


def _compact(address: Address) -> bytes:
    host = address.host.encode()
    return _varint(len(host) + 1) + host + struct.pack(">i", address.port)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


class _Cursor:
    """Reads the fields of a response one after the other."""

    def __init__(self, frame: bytes, at: int, *, is_compact: bool) -> None:
        self._frame, self.at, self.is_compact = frame, at, is_compact

    def skip(self, size: int) -> None:
        self.at += size

    def broker(self, *, has_rack: bool) -> Address:
        self.skip(4)  # node id
        address = Address(self._text(), self._int("i"))
        if has_rack:
            self._text()
        if self.is_compact:
            self.tags()
        return address

    def length(self) -> int:
        """Return how many elements an array has."""
        return max(self._varint() - 1 if self.is_compact else self._int("i"), 0)

    def tags(self) -> None:
        for _ in range(self._varint()):
            self._varint()
            self.skip(self._varint())

    def _text(self) -> str:
        size = max(self._varint() - 1 if self.is_compact else self._int("h"), 0)
        text = self._frame[self.at : self.at + size]
        self.skip(size)
        return text.decode()

    def _int(self, kind: str) -> int:
        (number,) = struct.unpack_from(f">{kind}", self._frame, self.at)
        self.skip(struct.calcsize(f">{kind}"))
        return int(number)

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._frame[self.at]
            self.skip(1)
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
