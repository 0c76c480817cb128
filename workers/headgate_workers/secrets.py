"""Keeps the worker's secrets out of what it reports: a failure's message may quote what a handler was given.

Filled by the ready handlers and by the worker; asked where a failure is made.
"""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 8
"""Shorter values are not taken out: they would blank out half of every message."""
_MOST: Final = 1_000
_known: set[str] = set()


def remember_secret(value: str | None) -> None:
    """Take this value, and each word of it, out of every failure from now on, until the process ends."""
    for part in {value or "", *(value or "").split()}:
        if len(part) >= SHORTEST and len(_known) < _MOST:
            _known.add(part)


def without_secrets(text: str) -> str:
    """Return `text` with *** in place of each value that was remembered."""
    for value in sorted(_known, key=len, reverse=True):
        if value in text:
            text = text.replace(value, "***")
    return text
