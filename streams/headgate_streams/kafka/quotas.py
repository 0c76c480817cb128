"""What a user may send and read in a second (KIP-546), which the client library cannot say."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from headgate_graphs.errors import AccessRefused, LogUnavailable
from headgate_streams.kafka.wire import Answer, Connection, text

PRODUCE: Final = "producer_byte_rate"
CONSUME: Final = "consumer_byte_rate"
_DESCRIBE: Final = (48, 0)
_ALTER: Final = (49, 0)
_EXACTLY: Final = 0
_FORBIDDEN: Final = 31


def read_quotas(connection: Connection, users: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the quotas of each of `users` by name; empty for who has none."""
    return {user: _read(connection, user) for user in users}


def _read(connection: Connection, user: str) -> dict[str, float]:
    of_the_user = text("user") + struct.pack(">b", _EXACTLY) + text(user)
    answer = connection.ask(_DESCRIBE, struct.pack(">i", 1) + of_the_user + struct.pack(">?", True))
    answer.number("i")
    code, why = answer.number("h"), answer.text()
    _check(code, why, "the quotas cannot be read")
    found: dict[str, float] = {}
    for _ in range(max(0, answer.number("i"))):
        _skip_entity(answer)
        found |= {answer.text() or "": answer.real() for _ in range(max(0, answer.number("i")))}
    return found


def set_quotas(connection: Connection, wanted: Mapping[str, Mapping[str, float | None]]) -> None:
    """Set quotas (None removes one) of each user.

    Raises:
        AccessRefused: Who asks may not alter the cluster's configuration.
        LogUnavailable: The broker says something else than yes.
    """
    entries = [_entry(user, quotas) for user, quotas in wanted.items()]
    body = struct.pack(">i", len(entries)) + b"".join(entries) + struct.pack(">?", False)
    answer = connection.ask(_ALTER, body)
    answer.number("i")
    for _ in range(max(0, answer.number("i"))):
        code, why = answer.number("h"), answer.text()
        _check(code, why, f"the quotas of {_skip_entity(answer)} cannot be set")


def _entry(user: str, quotas: Mapping[str, float | None]) -> bytes:
    operations = [
        text(name) + struct.pack(">d?", 0.0 if rate is None else rate, rate is None)
        for name, rate in quotas.items()
    ]
    of_the_user = struct.pack(">i", 1) + text("user") + text(user)
    return of_the_user + struct.pack(">i", len(operations)) + b"".join(operations)


def _skip_entity(answer: Answer) -> str:
    names = [(answer.text(), answer.text()) for _ in range(max(0, answer.number("i")))]
    return ", ".join(str(name) for _, name in names)


def _check(code: int, why: str | None, what: str) -> None:
    if code == _FORBIDDEN:
        raise AccessRefused(f"{what}: the user of this process may not alter the cluster's configuration")
    if code:
        raise LogUnavailable(f"{what}: {why or 'error'} ({code})")
