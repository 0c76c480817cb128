"""What has happened: timeline, of one lifetime or of a tenant within a time range."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.lookup import Lookup
    from headgate.story.model import Story
    from headgate.story.telling import Graphs

DEFAULT_FROM = "1h"
"""How far back a tenant's timeline begins when nothing else is said."""


def timeline(
    place: Place,
    lifetime: Annotated[
        str | None,
        typer.Argument(metavar="LIFETIME", help="Id of the lifetime; none shows the whole tenant."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHEN", help="Of a tenant: from an age such as 2h, or a time in ISO 8601 (1h)."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", help="Of a tenant: up to then. Default: now.")
    ] = None,
    as_tree: Annotated[
        bool | None,
        typer.Option(
            "--tree/--table", help="Executions as a tree (the default), or one line for each event."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write one page that needs nothing beside it instead."),
    ] = None,
) -> None:
    """Show who did what, when, at what cost and why: of a lifetime, or of all that a tenant ran.

    The tree has one line for each execution, with the edge, the plan's decision or the rule behind it;
    branches and sub-graphs stand below what started them. The table has every event in the order in which
    the gate saw it. The page has both, and draws executions, spend against caps, and control events.

    With --json it is the table as a list; add --tree for the tree.
    """
    from headgate.command.printing import say

    settings = place.settings()
    with place.lookup(settings) as found:
        graphs = _graphs(found, settings.tenant)
        story = _story(found, settings.tenant, lifetime, (since, until), graphs)
    if html is not None:
        with place.client(settings) as client:
            html.write_text(_page(client, story, lifetime or ""), encoding="utf-8")
        say(f"wrote {html}")
        return
    _show(place, story, graphs, as_tree=not place.json if as_tree is None else as_tree)


def _story(
    client: Lookup, tenant: str, lifetime: str | None, range_: tuple[str | None, str | None], graphs: Graphs
) -> Story:
    from headgate.command.moments import read_moment
    from headgate.command.verbs.lifetimes import progress_of
    from headgate.story.telling import tell
    from headgate.words import moment
    from headgate_graphs.errors import UserError

    since, until = range_
    if lifetime is not None:
        if since or until:
            raise UserError("--from and --to belong to a tenant's timeline: leave LIFETIME out")
        return tell(lifetime, tenant, progress_of(client, tenant, lifetime), graphs)
    since_ms = read_moment(since or DEFAULT_FROM, "--from") or 0
    until_ms = read_moment(until, "--to") or int(time.time() * 1000)
    if since_ms > until_ms:
        raise UserError(f"--from {moment(since_ms)} is later than --to {moment(until_ms)}")
    title = f"tenant {tenant}, {moment(since_ms)} to {moment(until_ms)}"
    return tell(title, tenant, client.between(tenant, since_ms, until_ms), graphs)


def _show(place: Place, story: Story, graphs: Graphs, *, as_tree: bool) -> None:
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views import timeline as views
    from headgate.story.tree import tree_of

    if not story.happenings and not place.json:
        say(f"nothing happened: {story.title}")
    elif as_tree:
        roots = tree_of(story, graphs)
        if place.json:
            say_json(views.tree_data(roots))
        else:
            say_table(views.TREE_COLUMNS, views.tree_rows(roots), right=views.TREE_NUMBERS)
    elif place.json:
        say_json(views.timeline_rows(story))
    else:
        cells = map(views.timeline_cells, views.timeline_rows(story))
        say_table(views.TIMELINE_COLUMNS, cells, right=views.TIMELINE_NUMBERS)


def _page(client: Client, story: Story, lifetime: str) -> str:
    from headgate.story.page import story_page

    return story_page(story, list(client.observer.records(story.tenant)), lifetime)


def _graphs(client: Lookup, tenant: str) -> Graphs:
    from headgate_graphs.loading import graph_from_json

    found = client.graphs(tenant)
    return {(one.graph_id, one.version): graph_from_json(one.definition_json) for one in found}


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    verb(
        app,
        "timeline",
        example="""headgate timeline demo-1f2e3d4c5b6a
        headgate timeline demo-1f2e3d4c5b6a --html run.html
        headgate timeline --tenant acme --from 2h --table
        headgate timeline demo-1f2e3d4c5b6a --json | jq '.[].status'""",
    )(timeline)
