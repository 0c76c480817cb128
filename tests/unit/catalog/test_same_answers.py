"""The catalog and the log give the same answers, whatever has happened; and spend is the ledger's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headgate.client import Client
from headgate.command.verbs.lifetimes import state_of
from headgate.command.views.tables import attempt_rows
from headgate.command.views.timeline import timeline_rows, tree_rows
from headgate.lookup import CatalogLookup, Lookup
from headgate.story.telling import tell
from headgate.story.tree import tree_of
from headgate_catalog.spend import AMOUNTS, Period, Spend, SpendBy
from headgate_graphs.loading import graph_from_json
from headgate_streams.local_log import LocalLog
from tests.unit.catalog.worlds import TENANTS, world

SEEDS = (1, 2, 7)
LOOKED_AT = 5
"""Lifetimes whose histories are compared, of each tenant: each reads the whole log some times."""


def answers(found: Lookup, tenant: str) -> dict[str, object]:
    """Return all that the commands ask of a lookup."""
    views = found.lifetimes(tenant)
    said: dict[str, object] = {"list": views, "frozen": found.frozen(tenant), "all": found.overview(tenant)}
    graphs = {
        (one.graph_id, one.version): graph_from_json(one.definition_json) for one in found.graphs(tenant)
    }
    said["between"] = timeline_rows(tell("all", tenant, found.between(tenant, 0, 2**50), graphs))
    said["quarantine"] = found.quarantine(tenant)
    for view in sorted(views, key=lambda one: (not one.parent_lifetime_id, one.lifetime_id))[:LOOKED_AT]:
        name = view.lifetime_id
        history, progress = (ask(tenant, name, below=True) for ask in (found.history, found.progress))
        state = state_of(progress)
        said[f"history {name}"] = [(one.order, type(one.message), one.depth) for one in history]
        said[f"alone {name}"] = [one.order for one in found.history(tenant, name)]
        story = tell(name, tenant, progress, graphs)
        said[f"timeline {name}"] = timeline_rows(story)
        said[f"tree {name}"] = tree_rows(tree_of(story, graphs))
        said[f"attempts {name}"] = attempt_rows(state)
        said[f"status {name}"] = (state.view, state.settled_total(), list(state.below), state.caps)
    for by in SpendBy:
        said[f"spend {by}"] = found.spend(by, Period(), tenant)
        said[f"all {by}"] = found.spend(by, Period())
    return said


@pytest.mark.parametrize("seed", SEEDS)
def test_catalog_answers_as_the_log_does(
    seed: int, log: LocalLog, client: Client, project: Callable[[], int], lookup: Callable[[], CatalogLookup]
) -> None:
    world(seed, 200, is_at_rest=seed == 7).keep(log)
    project()
    found = lookup()
    for tenant in TENANTS:
        assert answers(found, tenant) == answers(client, tenant)
    assert found.behind().records == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_spend_is_what_the_ledger_has(
    seed: int, log: LocalLog, project: Callable[[], int], lookup: Callable[[], CatalogLookup]
) -> None:
    made = world(seed, 500, is_at_rest=True)
    made.keep(log)
    project()
    sums = lookup().spend(SpendBy.TENANT, Period())
    for tenant in TENANTS:
        ledger = made.engine.state.tenants[tenant].spend
        held = Spend(
            ledger.cost,
            ledger.tokens,
            ledger.input_tokens,
            ledger.output_tokens,
            ledger.cached_tokens,
            ledger.latency_ms,
        )
        assert sums[tenant][: len(AMOUNTS)] == held[: len(AMOUNTS)]
        for by in SpendBy:
            parts = lookup().spend(by, Period(), tenant).values()
            assert [sum(part[n] for part in parts) for n in range(7)] == list(sums[tenant])
