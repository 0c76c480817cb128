"""Starts runs and lists them: start, list; and finds one lifetime for the other verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb
from headgate.command.verbs.run import Priority
from headgate_graphs.ids import is_name

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.command.views.state import LifetimeState
    from headgate.lookup import Lookup
    from headgate_catalog.happening import Happening
    from headgate_protos.v1.execution_pb2 import LifetimeView

Lifetime = Annotated[
    str, typer.Argument(metavar="LIFETIME", help="Id of the lifetime, as `run` and `start` print it.")
]
SHOWN_QUESTION = 2_000
"""Characters of a question that are shown to people; `--json` has all of it."""


def start(
    place: Place,
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="Id of a registered graph.")],
    input: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="JSON|@FILE|TEXT", help="What the run works on: JSON, @file, or plain text."
        ),
    ] = None,
    lifetime: Annotated[
        str | None,
        typer.Option("--lifetime", metavar="ID", help="Its id; the same id twice is one lifetime."),
    ] = None,
    graph_version: Annotated[
        str, typer.Option("--graph-version", metavar="X.Y.Z", help="Default: the newest registered.")
    ] = "",
    priority: Priority = 0,
) -> None:
    """Ask for one run of a registered graph, and return at once.

    A gate and workers do the work, in whichever process they run; watch it with `status` and `timeline`.
    """
    from headgate.command.inputs import read_input
    from headgate.command.printing import say, say_json

    value = read_input(input)
    settings = place.settings()
    with place.client(settings) as client:
        _check_registered(client, settings.tenant, graph, graph_version)
        started = client.start(
            graph,
            value,
            tenant=settings.tenant,
            version=graph_version,
            lifetime_id=lifetime,
            priority=priority,
        )
    if place.json:
        say_json(started.model_dump(mode="json"))
    else:
        say(f"started {started.lifetime_id}: headgate status {started.lifetime_id}{place.as_options()}")


def list_lifetimes(
    place: Place,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only those: running, paused, completed, …"),
    ] = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="The people that are waited for, and what each is asked.")
    ] = False,
) -> None:
    """List the lifetimes of a tenant, oldest first; or the human tasks that wait, the most urgent first."""
    from headgate.words import status_word

    settings = place.settings()
    with place.lookup(settings) as client:
        views = client.lifetimes(settings.tenant)
    views = [view for view in views if status is None or status_word(view.status) == status.lower()]
    if waiting:
        _say_waiting(place, settings.tenant, views)
    else:
        _say_lifetimes(place, views)


def _say_lifetimes(place: Place, views: list[LifetimeView]) -> None:
    from headgate.command.printing import message_to_dict, say_json, say_table
    from headgate.words import moment, shortened, status_word, usd

    if place.json:
        say_json([message_to_dict(view) | {"status": status_word(view.status)} for view in views])
        return
    rows = [
        (
            view.lifetime_id, f"{view.graph_id} {view.graph_version}", status_word(view.status),
            moment(view.started_at), usd(view.usage.cost_nano_usd), f"{view.usage.tokens_used:,}",
            shortened(view.reason) or (view.parent_lifetime_id and f"sub-graph of {view.parent_lifetime_id}"),
        )
        for view in views
    ]  # fmt: skip
    columns = ("lifetime", "graph", "status", "started", "cost", "tokens", "why")
    say_table(columns, rows, right=("cost", "tokens"))


def _say_waiting(place: Place, tenant: str, views: list[LifetimeView]) -> None:
    """Show each human task that waits: two lines, the second of which answers it."""
    from headgate.command.printing import message_to_dict, say, say_json
    from headgate.command.views.advice import answer_command
    from headgate.overview import waiting_in
    from headgate.words import moment

    found = waiting_in(views)
    if place.json:
        answers = ((one, answer_command(place, one.view.lifetime_id, one.waiting)) for one in found)
        say_json(
            [
                {"lifetime_id": one.view.lifetime_id, "graph_id": one.view.graph_id}
                | message_to_dict(one.waiting)
                | {"answer_with": answer}
                for one, answer in answers
            ]
        )
        return
    if not found:
        say(f"nothing waits for a person of tenant {tenant}")
    for one in found:
        waiting, view = one.waiting, one.view
        where = f"{waiting.node_id} of {view.lifetime_id} (graph {view.graph_id})"
        until = f"execution {waiting.execution_id}, until {moment(waiting.deadline)}"
        say(f"{where}, {until}: {waiting.json_input[:SHOWN_QUESTION]}")
        say(f"  {answer_command(place, view.lifetime_id, waiting)}")


def state_of(history: list[Happening]) -> LifetimeState:
    """Return the state that a whole history leads to."""
    from headgate.command.views.state import LifetimeState

    state = LifetimeState()
    for happening in history:
        state.apply(happening)
    return state


def history_of(client: Lookup, tenant: str, lifetime: str) -> list[Happening]:
    """Return all that happened to a lifetime and its sub-graphs; raises UserError when it is not known."""
    found = client.history(tenant, lifetime, below=True) if is_name(lifetime) else []
    return _known(found, tenant, lifetime)


def progress_of(client: Lookup, tenant: str, lifetime: str) -> list[Happening]:
    """As `history_of`, and what was dispatched."""
    found = client.progress(tenant, lifetime, below=True) if is_name(lifetime) else []
    return _known(found, tenant, lifetime)


def _known(found: list[Happening], tenant: str, lifetime: str) -> list[Happening]:
    from headgate_graphs.errors import UserError

    if not found:
        raise UserError(f"no lifetime {lifetime[:128]!a} of tenant {tenant}: see `headgate list`")
    return found


def _check_registered(client: Client, tenant: str, graph: str, version: str) -> None:
    from headgate_graphs.errors import UserError

    known = [(one.graph_id, one.version) for one in client.observer.graphs(tenant)]
    if any(name == graph and version in ("", number) for name, number in known):
        return
    wanted = f"{graph} {version}".strip()
    names = ", ".join(f"{name} {number}" for name, number in known) or "none"
    raise UserError(
        f"graph {wanted[:160]!a} is not registered for tenant {tenant} (registered: {names}): "
        "register it with `headgate graph register PATH`"
    )


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    verb(app, "start", example="headgate start coding-agent --input @issue.json --tenant acme")(start)
    verb(
        app,
        "list",
        example="""headgate list --status paused --tenant acme
        headgate list --waiting""",
    )(list_lifetimes)
