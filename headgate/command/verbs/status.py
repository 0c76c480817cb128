"""Where things stand now: status, of one lifetime or of the whole tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.command.views.state import LifetimeState


def status(
    place: Place,
    lifetime: Annotated[
        str | None,
        typer.Argument(metavar="LIFETIME", help="Id of the lifetime; none shows the whole tenant."),
    ] = None,
) -> None:
    """Show where a lifetime stands, or the whole tenant.

    Of a lifetime: status, spend, executions so far, sub-graphs, people it waits for. Of a tenant: lifetimes
    by status, spend today, what is frozen, who is waited for, and how fast what was ended has stopped.
    """
    if lifetime is None:
        _tenant_status(place)
    else:
        _lifetime_status(place, lifetime)


def _lifetime_status(place: Place, lifetime: str) -> None:
    from headgate.command.verbs.lifetimes import history_of, state_of
    from headgate.words import TERMINAL

    settings = place.settings()
    with place.lookup(settings) as client:
        state = state_of(history_of(client, settings.tenant, lifetime))
        if state.status not in TERMINAL:
            state = state_of(client.progress(settings.tenant, lifetime, below=True))
            graph = state.view.graph_id if state.view is not None else ""
            freezes = client.frozen(settings.tenant)
            state.frozen = {one.graph_id: one.reason for one in freezes if one.graph_id in ("", graph)}
            held = client.quarantine(settings.tenant)
            state.quarantined = held.reason if held is not None else ""
    if place.json:
        _say_lifetime_json(settings.tenant, lifetime, state)
    else:
        _say_lifetime(place, lifetime, state)


def _say_lifetime_json(tenant: str, lifetime: str, state: LifetimeState) -> None:
    from headgate.command.printing import message_to_dict, say_json

    known = {"tenant": tenant, "lifetime_id": lifetime, "status": state.status, "frozen": state.frozen}
    known |= {"quarantined": state.quarantined}
    total = state.settled_total()
    spent = {"cost_nano_usd": total.cost_nano_usd, "tokens_used": total.tokens_used}
    view = message_to_dict(state.view) if state.view is not None else {}
    below = [message_to_dict(one.view) for one in state.below.values() if one.view is not None]
    attempts: list[dict[str, Any]] = [
        {
            "execution_id": one.execution_id, "node": one.node_id, "iteration": one.iteration,
            "attempt": one.attempt, "status": one.status, "why": one.why,
            "cost_nano_usd": one.usage.cost_nano_usd, "tokens_used": one.usage.tokens_used,
            "lifetime_id": name,
        }
        for name, whole in {lifetime: state, **state.below}.items()
        for one in whole.attempts.values()
    ]  # fmt: skip
    say_json(known | {"spent": spent, "view": view, "executions": attempts, "below": below})


def _say_lifetime(place: Place, lifetime: str, state: LifetimeState) -> None:
    from headgate.command.printing import say, say_table
    from headgate.command.views import tables
    from headgate.command.views.advice import (
        ending_lines,
        frozen_lines,
        held_lines,
        quarantine_lines,
        waiting_lines,
    )
    from headgate.words import usd

    graph = f" · graph {state.view.graph_id} {state.view.graph_version}" if state.view is not None else ""
    total = state.settled_total()
    spent = f"{usd(total.cost_nano_usd)}, {total.tokens_used:,} tokens in {total.runs} runs"
    say(f"{lifetime}: {state.status.upper()}{graph} · spent {spent}")
    lines = (*_kin_lines(state), *ending_lines(state), *held_lines(state), *frozen_lines(place, state.frozen))
    held = quarantine_lines(place, state.quarantined)
    for line in (*held, *lines, *waiting_lines(place, lifetime, state)):
        say(line)
    say_table(tables.ATTEMPT_COLUMNS, tables.attempt_rows(state), right=tables.ATTEMPT_NUMBERS)
    if state.below:
        say_table(tables.BELOW_COLUMNS, tables.below_rows(state), right=tables.BELOW_NUMBERS)


def _kin_lines(state: LifetimeState) -> list[str]:
    """Return what started it, and how fast it stopped."""
    from headgate.words import fork_words

    view, lines = state.view, []
    if view is not None and view.HasField("fork_of"):
        lines.append(fork_words(view.fork_of))
    if view is not None and view.parent_lifetime_id:
        lines.append(f"sub-graph of {view.parent_lifetime_id}, execution {view.parent_execution_id}")
    if view is not None and view.HasField("stop_latency"):
        lines.append(f"its last handler stopped {view.stop_latency.ToMilliseconds():,} ms after its end")
    return lines


def _tenant_status(place: Place) -> None:
    from headgate.command.printing import say, say_json
    from headgate.command.views.tenant import overview_data, overview_lines

    settings = place.settings()
    with place.lookup(settings) as client:
        made, running = client.overview(settings.tenant), client.running()
    if place.json:
        say_json(overview_data(made, running))
        return
    for line in overview_lines(place, made, running):
        say(line)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    verb(
        app,
        "status",
        example="""headgate status demo-1f2e3d4c5b6a
        headgate status --tenant acme""",
    )(status)
