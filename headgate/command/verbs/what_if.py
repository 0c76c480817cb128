"""Prices what has happened by other price tables: replay what-if."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.command.inputs import need_log
from headgate.command.moments import read_period
from headgate.command.place import Place
from headgate.command.verb import verb
from headgate.command.verbs.catalog import Since, Until, whose
from headgate_catalog.spend import SpendBy


def replay_what_if(
    place: Place,
    prices: Annotated[
        list[Path],
        typer.Option("--prices", metavar="FILE", help="A price table; give it again to compare several."),
    ],
    by: Annotated[SpendBy, typer.Option("--by", help="What it is summed by.")] = SpendBy.GRAPH,
    since: Since = None,
    until: Until = None,
) -> None:
    """Show what the runs of a range would have cost by another price table, and how much that differs.

    What counts, and when, is what `headgate spend` shows: each run once. A run whose model the table does not
    name, or whose report does not tell input from output tokens, keeps its recorded cost; how many those are
    is told. Nothing is written, no handler is called, no group is joined.
    """
    from headgate.client import Client
    from headgate.command.printing import say, say_json
    from headgate.command.views.what_if import say_what_if, what_if_data
    from headgate_replay.what_if import load_prices, reprice

    tables = [load_prices(path) for path in prices]
    settings, within = place.settings(), read_period(since, until)
    need_log(settings)
    tenant = whose(place, settings, by)
    with Client.open(settings) as client:
        found = reprice(client.charges(tenant), tables, by, within)
    if place.json:
        say_json(what_if_data(found, by, tenant))
    elif found.recorded:
        say_what_if(found, by)
    else:
        say(f"nothing to price: {f'tenant {tenant}' if tenant else 'nobody'} has spent nothing in this range")


def add_to(group: typer.Typer) -> None:
    """Register the verb in the group `replay`."""
    verb(
        group,
        "what-if",
        example="""headgate replay what-if --prices summer.yaml --by model --from 7d
        headgate replay what-if --prices now.yaml --prices next.yaml --by tenant --json""",
    )(replay_what_if)
