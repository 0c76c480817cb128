"""What counts as spent, priced again under other tables; pure. `headgate replay what-if` calls it.

What counts, once and at which time, is `headgate_catalog.spend`'s to say. A run is priced again when the
table names its model and its report tells input from output tokens; all else keeps its recorded cost, and is
counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from headgate_catalog.spend import NO_MODEL, NOTHING, Charge, Period, Spend, SpendBy, key_of
from headgate_graphs.errors import UserError
from headgate_replay.what_if.prices import ModelPrice, PriceTable

MILLION = 1_000_000
"""Tokens that a price is for."""


class Kept(StrEnum):
    """Why a cost stays as it was recorded."""

    UNNAMED = "unnamed_model"
    """The table does not name the run's model."""
    NO_SPLIT = "no_split"
    """The report does not tell which of its tokens were input and which output."""
    NO_MODEL = "no_model"
    """The run reports no model."""
    BEYOND = "beyond_reports"
    """The gate charged it beyond the reports, or took it back from a refused one: it belongs to no run."""


@dataclass(slots=True)
class Side:
    """The range under one table."""

    table: PriceTable
    cost: dict[str | int, int] = field(default_factory=dict)
    """Nano-USD by key, what is kept included."""
    repriced: Spend = NOTHING
    """The runs that have another price, with their recorded cost."""
    kept: dict[Kept, Spend] = field(default_factory=dict)
    """All else, by why."""
    unnamed: dict[str, Spend] = field(default_factory=dict)
    """Of it, that of each model which the table does not name."""

    def take(self, charge: Charge, key: str | int) -> None:
        """Add one amount that counts."""
        why, cost = kept_because(charge, self.table), charge.spend.cost_nano_usd
        if why is None:
            self.repriced = self.repriced.plus(charge.spend)
            cost = cost_of(charge.spend, self.table.models[charge.model])
        else:
            self.kept[why] = self.kept.get(why, NOTHING).plus(charge.spend)
        if why is Kept.UNNAMED:
            self.unnamed[charge.model] = self.unnamed.get(charge.model, NOTHING).plus(charge.spend)
        self.cost[key] = self.cost.get(key, 0) + cost


@dataclass(slots=True)
class WhatIf:
    """The range as it was recorded, and under each table."""

    sides: Sequence[Side]
    recorded: dict[str | int, Spend] = field(default_factory=dict)
    """By key, exactly the sums of `headgate spend`."""


def reprice(found: Iterable[Charge], tables: Sequence[PriceTable], by: SpendBy, within: Period) -> WhatIf:
    """Return the sums by key under each table; raises UserError when two tables have one name and version."""
    labels = [table.label for table in tables]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(f"--prices: two tables are {twice[0]}: give one of them another name or version")
    result = WhatIf([Side(table) for table in tables])
    for charge in found:
        if within.holds(charge.when_ms):
            key = key_of(charge, by)
            result.recorded[key] = result.recorded.get(key, NOTHING).plus(charge.spend)
            for side in result.sides:
                side.take(charge, key)
    return result


def kept_because(charge: Charge, table: PriceTable) -> Kept | None:
    """Return why an amount keeps its recorded cost; None when the table prices it."""
    if not charge.spend.runs:
        return Kept.BEYOND
    if charge.model == NO_MODEL:
        return Kept.NO_MODEL
    if charge.model not in table.models:
        return Kept.UNNAMED
    told = charge.spend.input_tokens + charge.spend.output_tokens
    is_split = told >= charge.spend.tokens_used and (told or not charge.spend.cost_nano_usd)
    return None if is_split else Kept.NO_SPLIT


def cost_of(spend: Spend, price: ModelPrice) -> int:
    """Return what a run costs in nano-USD, rounded once, half to even; its input includes cached tokens."""
    cached = min(spend.cached_tokens, spend.input_tokens)
    dear = (spend.input_tokens - cached) * price.input + spend.output_tokens * price.output
    cheap = cached * (price.input if price.cached is None else price.cached)
    return round(Fraction(dear + cheap, MILLION))
