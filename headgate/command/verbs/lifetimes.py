"""Starts runs and looks at them: start, status, timeline, list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.command.views.state import LifetimeState
    from headgate.happening import Happening

Lifetime = Annotated[
    str, typer.Argument(metavar="LIFETIME", help="Id of the lifetime, as `run` and `start` print it.")
]


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
            graph, value, tenant=settings.tenant, version=graph_version, lifetime_id=lifetime
        )
    if place.json:
        say_json(started.model_dump(mode="json"))
    else:
        say(f"started {started.lifetime_id}: headgate status {started.lifetime_id}{place.as_options()}")


def status(place: Place, lifetime: Lifetime) -> None:
    """Show where a lifetime stands: status, spend, executions so far, people it waits for."""
    from headgate.words import TERMINAL

    settings = place.settings()
    with place.client(settings) as client:
        state = state_of(_history(client, settings.tenant, lifetime))
        if state.status not in TERMINAL:
            state = state_of(client.progress(settings.tenant, lifetime))
    if place.json:
        _status_json(settings.tenant, lifetime, state)
    else:
        _status_text(place, lifetime, state)


def timeline(place: Place, lifetime: Lifetime) -> None:
    """Show everything that happened to a lifetime, in the order in which the gate saw it."""
    from headgate.command.printing import say_json, say_table
    from headgate.command.views.tables import TIMELINE_COLUMNS, TIMELINE_NUMBERS, timeline_row

    settings = place.settings()
    with place.client(settings) as client:
        rows = [timeline_row(happening) for happening in _history(client, settings.tenant, lifetime)]
    if place.json:
        say_json(rows)
    else:
        cells = [[str(row[column]) for column in TIMELINE_COLUMNS] for row in rows]
        say_table(TIMELINE_COLUMNS, cells, right=TIMELINE_NUMBERS)


def list_lifetimes(
    place: Place,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only those: running, paused, completed, …"),
    ] = None,
) -> None:
    """List the lifetimes of a tenant, oldest first."""
    from headgate.command.printing import message_to_dict, say_json, say_table
    from headgate.words import moment, status_word, usd

    settings = place.settings()
    with place.client(settings) as client:
        views = client.lifetimes(settings.tenant)
    views = [view for view in views if status is None or status_word(view.status) == status.lower()]
    if place.json:
        say_json([message_to_dict(view) | {"status": status_word(view.status)} for view in views])
        return
    rows = [
        (
            view.lifetime_id, f"{view.graph_id} {view.graph_version}", status_word(view.status),
            moment(view.started_at), usd(view.usage.cost_nano_usd), f"{view.usage.tokens_used:,}",
            view.reason,
        )
        for view in views
    ]  # fmt: skip
    say_table(
        ("lifetime", "graph", "status", "started", "cost", "tokens", "why"), rows, right=("cost", "tokens")
    )


def state_of(history: list[Happening]) -> LifetimeState:
    """Return the state that a whole history leads to."""
    from headgate.command.views.state import LifetimeState

    state = LifetimeState()
    for happening in history:
        state.apply(happening)
    return state


def _history(client: Client, tenant: str, lifetime: str) -> list[Happening]:
    from headgate_graphs.errors import UserError
    from headgate_graphs.ids import is_name

    found = client.history(tenant, lifetime) if is_name(lifetime) else []
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


def _status_json(tenant: str, lifetime: str, state: LifetimeState) -> None:
    from headgate.command.printing import message_to_dict, say_json

    view = message_to_dict(state.view) if state.view is not None else {}
    attempts: list[dict[str, Any]] = [
        {
            "execution_id": one.execution_id, "node": one.node_id, "iteration": one.iteration,
            "attempt": one.attempt, "status": one.status, "why": one.why,
            "cost_nano_usd": one.usage.cost_nano_usd, "tokens_used": one.usage.tokens_used,
        }
        for one in state.attempts.values()
    ]  # fmt: skip
    known = {"tenant": tenant, "lifetime_id": lifetime, "status": state.status}
    total = state.settled_total()
    spent = {"cost_nano_usd": total.cost_nano_usd, "tokens_used": total.tokens_used}
    say_json(known | {"spent": spent, "view": view, "executions": attempts})


def _status_text(place: Place, lifetime: str, state: LifetimeState) -> None:
    from headgate.command.printing import say, say_table
    from headgate.command.views.advice import ending_lines, held_lines, waiting_lines
    from headgate.command.views.tables import ATTEMPT_COLUMNS, ATTEMPT_NUMBERS, attempt_rows
    from headgate.words import usd

    graph = f" · graph {state.view.graph_id} {state.view.graph_version}" if state.view is not None else ""
    total = state.settled_total()
    spent = f"{usd(total.cost_nano_usd)}, {total.tokens_used:,} tokens in {total.runs} runs"
    say(f"{lifetime}: {state.status.upper()}{graph} · spent {spent}")
    for line in (*ending_lines(state), *held_lines(state), *waiting_lines(place, lifetime, state)):
        say(line)
    say_table(ATTEMPT_COLUMNS, attempt_rows(state.attempts.values()), right=ATTEMPT_NUMBERS)


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    verb(app, "start", example="headgate start coding-agent --input @issue.json --tenant acme")(start)
    verb(app, "status", example="headgate status demo-1f2e3d4c5b6a")(status)
    verb(app, "timeline", example="headgate timeline demo-1f2e3d4c5b6a --json | jq '.[].status'")(timeline)
    verb(app, "list", example="headgate list --status paused --tenant acme")(list_lifetimes)
