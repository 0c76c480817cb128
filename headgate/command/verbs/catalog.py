"""The catalog and what is asked of it alone: catalog, spend."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.moments import read_period
from headgate.command.place import Place
from headgate.command.verb import verb
from headgate.command.verbs.serve import Deadline, RetryFor
from headgate_catalog.spend import SpendBy

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.settings import HeadgateSettings
    from headgate_catalog.database import Database
    from headgate_catalog.projector import Projector

Since = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="From this time on: an age such as 2h, or ISO 8601 (UTC)."),
]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this age or time; so, too.")]
TOLD_S = 2.0
"""How often people are told how far a projection is."""


def catalog(
    place: Place,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. (HEADGATE_CATALOG_URL; default "
            "catalog.sqlite3 beside the embedded log)",
            show_default=False,
        ),
    ] = None,
    until_caught_up: Annotated[
        bool,
        typer.Option("--until-caught-up", "--once", help="End when all that the log holds is in it."),
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Drop the catalog's tables first.")] = False,
    deadline: Deadline = 10.0,
    retry_for: RetryFor = 60.0,
) -> None:
    """Project the log into SQL, until SIGTERM or Ctrl-C: one process for each database.

    `list`, `status`, `timeline` and `spend` ask the catalog where HEADGATE_CATALOG_URL names it, and give the
    same answers as without. It can be killed at any time, and made anew from the log whenever wanted.
    """
    from headgate_catalog.database import Database

    settings = place.settings()
    named = settings.catalog_url.get_secret_value() if settings.catalog_url is not None else None
    with place.client(settings) as client:
        database = Database(url or named or f"sqlite:///{settings.local / 'catalog.sqlite3'}")
        try:
            if rebuild:
                _projector(client, database).prepare(anew=True)
            if until_caught_up:
                _catch_up(place, client, database)
            else:
                _serve(place, client, database, (deadline, retry_for))
        finally:
            database.close()


def _projector(client: Client, database: Database) -> Projector:
    from headgate_catalog.projector import Projector

    return Projector(client.log, client.topics, database)


def _serve(place: Place, client: Client, database: Database, times_s: tuple[float, float]) -> None:
    from headgate.command.service import serve
    from headgate.embedding import Service

    def make() -> Service:
        projector = _projector(client, database)
        return Service("catalog", projector.run, projector.ready)

    serve(place, make, f"catalog ready: {client.topics.prefix}.* into {database.name}", *times_s)


def _catch_up(place: Place, client: Client, database: Database) -> None:
    from headgate.command.printing import say, say_json

    projector, began, told = _projector(client, database), time.monotonic(), [time.monotonic()]

    def progress(done: int, whole: int) -> None:
        if time.monotonic() - told[0] > TOLD_S:
            told[0] = time.monotonic()
            sys.stderr.write(f"headgate: catalog: {done:,} of {whole:,} records\n")

    projector.prepare()
    projector.catch_up(progress)
    seconds = time.monotonic() - began
    if place.json:
        say_json({"catalog": database.name, "records": projector.records, "seconds": round(seconds, 3)})
    else:
        say(f"{database.name} has caught up with the log: {projector.records:,} records in {seconds:.1f} s")


def spend(
    place: Place,
    by: Annotated[SpendBy, typer.Option("--by", help="What it is summed by.")] = SpendBy.GRAPH,
    since: Since = None,
    until: Until = None,
) -> None:
    """Show what a tenant has spent, by graph, node, model or hour, or what every tenant has.

    Each run counts once, as the gate's ledger has it, at the log time of its report. What the gate charged
    beyond the reports (a run that died, a model without a price) has no model.
    """
    from headgate.command.printing import say_json, say_table
    from headgate.command.views.spend import SPEND_NUMBERS, spend_columns, spend_data, spend_rows

    settings = place.settings()
    within = read_period(since, until)
    tenant = whose(place, settings, by)
    with place.lookup(settings) as found:
        sums = found.spend(by, within, tenant)
    if place.json:
        say_json(spend_data(sums, by, tenant))
    else:
        say_table(spend_columns(by), spend_rows(sums, by), right=SPEND_NUMBERS)


def whose(place: Place, settings: HeadgateSettings, by: SpendBy) -> str | None:
    """Return the tenant that is asked for: all of them by tenant, unless one is named."""
    return None if by is SpendBy.TENANT and place.tenant is None else settings.tenant


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    verb(
        app,
        "catalog",
        example="""headgate catalog --kafka localhost:9092 --url postgresql://headgate@db/headgate
        headgate catalog --once --json""",
    )(catalog)
    verb(
        app,
        "spend",
        example="""headgate spend --by model --from 2030-01-31 --tenant acme
        headgate spend --by tenant --json""",
    )(spend)
