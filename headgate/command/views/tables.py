"""Rows of the tables that `run` and `status` show; no colours, no widths, plain text cells."""

from __future__ import annotations

from headgate.command.views.state import LifetimeState, Spend
from headgate.words import clock, nested, shortened, usd

SPEND_COLUMNS = ("node", "visits", "runs", "tokens", "cost", "seconds")
SPEND_NUMBERS = SPEND_COLUMNS[1:]
ATTEMPT_COLUMNS = ("began", "node", "iteration", "attempt", "status", "tokens", "cost", "why")
BELOW_COLUMNS = ("sub-graph", "graph", "status", "cost", "tokens", "why")
BELOW_NUMBERS = ("cost", "tokens")
ATTEMPT_NUMBERS = ("iteration", "attempt", "tokens", "cost")


def spend_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per node that ran, most expensive first, and the total."""
    visits: dict[str, int] = {}
    for attempt in state.attempts.values():
        visits[attempt.node_id] = max(visits.get(attempt.node_id, 0), attempt.iteration)
    ordered = sorted(
        state.settled().items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].tokens_used, item[0])
    )
    rows = [_spend_row(node, str(visits.get(node, "")), spend) for node, spend in ordered]
    rows += [_spend_row(f"sub-graph {graph}", str(count), spent) for graph, count, spent in _below(state)]
    return [*rows, _spend_row("total", str(sum(visits.values())), state.settled_total())]


def _below(state: LifetimeState) -> list[tuple[str, int, Spend]]:
    """Return graph id, how many lifetimes, and their spend, of the sub-graphs."""
    found: dict[str, tuple[int, Spend]] = {}
    for one in state.below.values():
        graph = one.view.graph_id if one.view is not None else "?"
        count, spent = found.get(graph, (0, Spend()))
        for spend in one.settled().values():
            spent = spent.plus(spend)
        found[graph] = (count + 1, spent)
    return [(graph, count, spent) for graph, (count, spent) in found.items()]


def _spend_row(name: str, visits: str, spend: Spend) -> tuple[str, ...]:
    cost = usd(spend.cost_nano_usd) + (" + unpriced" if spend.unpriced else "")
    return (name, visits, str(spend.runs), f"{spend.tokens_used:,}", cost, f"{spend.latency_ms / 1000:.2f}")


def attempt_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per attempt, in the order in which they began; those of sub-graphs are indented."""
    found = [
        (nested(attempt.node_id, name, one.depth), attempt)
        for name, one in {"": state, **state.below}.items()
        for attempt in one.attempts.values()
    ]
    return [
        (
            clock(one.since_ms), node, str(one.iteration), str(one.attempt), one.status,
            f"{one.usage.tokens_used:,}", usd(one.usage.cost_nano_usd), shortened(one.why),
        )
        for node, one in (sorted(found, key=lambda item: item[1].since_ms) if state.below else found)
    ]  # fmt: skip


def below_rows(state: LifetimeState) -> list[tuple[str, ...]]:
    """Return one row per sub-graph, indented by its level, in the order in which they became known."""
    return [
        ("  " * (one.depth - 1) + name, f"{view.graph_id} {view.graph_version}", one.status,
         usd(view.usage.cost_nano_usd), f"{view.usage.tokens_used:,}", shortened(view.reason))
        for name, one in state.below.items()
        if (view := one.view) is not None
    ]  # fmt: skip
