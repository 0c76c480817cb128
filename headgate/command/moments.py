"""Times as people give them on the command line: an age, or a moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from headgate_catalog.spend import Period
from headgate_graphs.errors import UserError
from headgate_graphs.units import parse_duration


def read_moment(given: str | None, option: str) -> int | None:
    """Return Unix milliseconds for an age such as 2h or a time in ISO 8601 (UTC without an offset).

    None for None; raises UserError.
    """
    if given is None:
        return None
    try:
        return int(time.time() * 1000) - parse_duration(given)
    except ValueError:
        pass  # no age: then it is a time
    try:
        when = datetime.fromisoformat(given)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UserError(
            f"{option}: {given[:40]!a} is neither an age such as 2h or 7d nor a time such as 2026-01-31T12:00"
        ) from None


def read_period(since: str | None, until: str | None) -> Period:
    """Return what `--from` and `--to` mean, everything without them; raises UserError."""
    first, end, everything = read_moment(since, "--from"), read_moment(until, "--to"), Period()
    within = Period(everything.from_ms if first is None else first, everything.to_ms if end is None else end)
    if within.to_ms <= within.from_ms:
        raise UserError("--to must be after --from")
    return within
