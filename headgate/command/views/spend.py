"""Rows of `headgate spend`, for people and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from headgate.words import moment, usd
from headgate_catalog.spend import NOTHING, Spend, SpendBy

SPEND_NUMBERS = ("runs", "tokens", "input", "output", "cached", "cost", "seconds")
Sums = Mapping[str | int, Spend]
K = TypeVar("K", bound=str | int)


def spend_columns(by: SpendBy) -> tuple[str, ...]:
    """Return the table's columns."""
    return (by.value, *SPEND_NUMBERS)


def spend_rows(sums: Sums, by: SpendBy) -> list[tuple[str, ...]]:
    """Return a row for each key, hours in order, all else the most expensive first; and the total."""
    return [_row(shown_key(key), spent) for key, spent in ordered(sums, by)] + [_row("total", total_of(sums))]


def spend_data(sums: Sums, by: SpendBy, tenant: str | None) -> dict[str, Any]:
    """Return the same as plain data; the tenant is null when all are meant."""
    rows = [
        {by.value: moment(key) if isinstance(key, int) else key} | spent._asdict()
        for key, spent in ordered(sums, by)
    ]
    return {"by": by.value, "tenant": tenant, "rows": rows, "total": total_of(sums)._asdict()}


def ordered(sums: Mapping[K, Spend], by: SpendBy) -> list[tuple[K, Spend]]:
    """Return hours in order, all else the most expensive first."""
    if by is SpendBy.HOUR:
        return sorted(sums.items())
    return sorted(sums.items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].tokens_used, item[0]))


def total_of(sums: Sums) -> Spend:
    """Return the sum of all."""
    total = NOTHING
    for spent in sums.values():
        total = total.plus(spent)
    return total


def shown_key(key: str | int) -> str:
    """Return a key as people read it."""
    return moment(key) if isinstance(key, int) else key or "(none)"


def _row(name: str, spent: Spend) -> tuple[str, ...]:
    tokens = (spent.tokens_used, spent.input_tokens, spent.output_tokens, spent.cached_tokens)
    numbers = (f"{number:,}" for number in (spent.runs, *tokens))
    return (name, *numbers, usd(spent.cost_nano_usd), f"{spent.latency_ms / 1000:.2f}")
