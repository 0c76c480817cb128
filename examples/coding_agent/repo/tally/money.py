"""Amounts of money as whole cents, and as people write them."""

import re

_AMOUNT = re.compile(r"(\d+)(?:\.(\d\d))?")


def parse_cents(text: str) -> int:
    """Return the cents of "12.60" or "12"."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount such as 12.60")
    return int(match[1]) * 100 + int(match[2] or 0)


def format_cents(cents: int) -> str:
    """Return `cents` as people write it: 1260 is "12.60"."""
    return f"{cents // 100}.{cents % 100:02d}"
