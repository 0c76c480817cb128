"""Durations as people write them, and back. Used by graph and policy definitions."""

from __future__ import annotations

import re

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
DURATION_PATTERN = r"^(\d{1,12}(ms|d|h|m|s))+$"
"""Durations as text, for schemas."""
_TEXT = re.compile(r"(?:[0-9]{1,12}(?:ms|d|h|m|s))+")
_PART = re.compile(r"([0-9]+)(ms|d|h|m|s)")
MAX_DURATION_MS = 10 * 366 * 86_400_000
"""Ten years: longer is a typing error, not a duration."""


def parse_duration(value: object) -> int:
    """Return milliseconds from "500ms", "30s", "5m", "1h30m", "7d" or a bare number of seconds.

    Raises ValueError, which pydantic reports with its place.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is written like 30s or 1h30m")
    if isinstance(value, int | float):
        ms = round(value * 1000) if value == value and abs(value) < 1e12 else -1
    elif isinstance(value, str) and _TEXT.fullmatch(value):
        ms = sum(int(n) * _UNITS_MS[unit] for n, unit in _PART.findall(value))
    else:
        raise ValueError(f"{str(value)[:40]!a} is not a duration such as 500ms, 30s, 5m, 1h30m or 7d")
    if not 0 <= ms <= MAX_DURATION_MS:
        raise ValueError(f"a duration is between 0 and ten years, not {str(value)[:40]!a}")
    return ms


def format_duration(ms: int) -> str:
    """Return the shortest text that `parse_duration` reads back as `ms`; "0s" for 0."""
    parts = []
    for unit, size in _UNITS_MS.items():
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
