"""A range under other price tables, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.command.printing import say, say_table
from headgate.command.views.spend import ordered, shown_key, total_of
from headgate.words import moment, usd
from headgate_catalog.spend import Spend, SpendBy
from headgate_replay.what_if.repricing import Kept

if TYPE_CHECKING:
    from headgate_replay.what_if import Side, WhatIf

SHOWN_MODELS = 8
"""Models that a table does not name, which are shown; the JSON has all."""
_WHY = {
    Kept.UNNAMED: "of models that the table does not name",
    Kept.NO_SPLIT: "whose report does not tell input from output tokens",
    Kept.NO_MODEL: "that report no model",
}


def say_what_if(found: WhatIf, by: SpendBy) -> None:
    """Write the sums by key, and what each table does not price."""
    names = [name for side in found.sides for name in (side.table.label, "difference")]
    total = total_of(found.recorded)
    rows = [_row(shown_key(key), spent, _costs(found, key)) for key, spent in ordered(found.recorded, by)]
    rows.append(_row("total", total, [sum(side.cost.values()) for side in found.sides]))
    say_table((by.value, "runs", "recorded", *names), rows, right=("runs", "recorded", *names))
    for side in found.sides:
        changed = sum(side.cost.values()) - total.cost_nano_usd
        say(f"{side.table.label}: {side.repriced.runs:,} runs are priced anew, {_signed(changed)} in all")
        _say_kept(side)


def what_if_data(found: WhatIf, by: SpendBy, tenant: str | None) -> dict[str, Any]:
    """Return the same as plain data; money in nano-USD, the tenant is null when all are meant."""
    total = total_of(found.recorded)
    rows = [
        {by.value: moment(key) if isinstance(key, int) else key} | _priced(found, spent, _costs(found, key))
        for key, spent in ordered(found.recorded, by)
    ]
    return {
        "by": by.value,
        "tenant": tenant,
        "tables": [_side_data(side) for side in found.sides],
        "rows": rows,
        "total": _priced(found, total, [sum(side.cost.values()) for side in found.sides]),
    }


def _costs(found: WhatIf, key: str | int) -> list[int]:
    return [side.cost[key] for side in found.sides]


def _row(name: str, spent: Spend, costs: list[int]) -> tuple[str, ...]:
    cells = [cell for cost in costs for cell in (usd(cost), _signed(cost - spent.cost_nano_usd))]
    return (name, f"{spent.runs:,}", usd(spent.cost_nano_usd), *cells)


def _signed(nano: int) -> str:
    """Return a difference with its sign."""
    return f"{'-' if nano < 0 else '+' if nano else ''}{usd(abs(nano))}"


def _say_kept(side: Side) -> None:
    for why, words in _WHY.items():
        if why in side.kept:
            kept = side.kept[why]
            say(f"  {kept.runs:,} runs {words} keep {usd(kept.cost_nano_usd)}{_models(side, why)}")
    if Kept.BEYOND in side.kept:
        beyond = usd(side.kept[Kept.BEYOND].cost_nano_usd)
        say(f"  what the gate charged beyond the reports stays as it was: {beyond}")


def _models(side: Side, why: Kept) -> str:
    if why is not Kept.UNNAMED:
        return ""
    names = [name for name, _ in ordered(side.unnamed, SpendBy.MODEL)]
    more = f" and {len(names) - SHOWN_MODELS:,} more" if len(names) > SHOWN_MODELS else ""
    return f": {', '.join(names[:SHOWN_MODELS])}{more}"


def _priced(found: WhatIf, spent: Spend, costs: list[int]) -> dict[str, Any]:
    repriced = [
        {
            "table": side.table.label,
            "cost_nano_usd": cost,
            "difference_nano_usd": cost - spent.cost_nano_usd,
        }
        for side, cost in zip(found.sides, costs, strict=True)
    ]
    return {"runs": spent.runs, "cost_nano_usd": spent.cost_nano_usd, "repriced": repriced}


def _side_data(side: Side) -> dict[str, Any]:
    return {
        "table": side.table.label,
        "repriced_runs": side.repriced.runs,
        "kept": {why.value: _part(side.kept[why]) for why in Kept if why in side.kept},
        "unnamed_models": {model: _part(one) for model, one in ordered(side.unnamed, SpendBy.MODEL)},
    }


def _part(spent: Spend) -> dict[str, int]:
    return {"runs": spent.runs, "cost_nano_usd": spent.cost_nano_usd}
