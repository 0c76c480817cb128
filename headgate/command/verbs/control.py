"""Gives orders: control pause, resume, abort, raise-budget, complete, release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.orders import RELEASE_S, give, open_for
from headgate.command.place import Place
from headgate.command.verb import verb
from headgate.command.verbs.budgets import raise_budget

if TYPE_CHECKING:
    from headgate.client import Client

Lifetime = Annotated[str, typer.Argument(metavar="LIFETIME", help="Id of the lifetime.")]
LifetimeIfAny = Annotated[
    str | None,
    typer.Argument(metavar="LIFETIME", help="Id of the lifetime; none with --graph or --everything."),
]
Graph = Annotated[
    str | None, typer.Option("--graph", metavar="ID", help="Every lifetime of this graph, those to come too.")
]
Everything = Annotated[
    bool, typer.Option("--everything", help="All of the tenant, what is yet to start too.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")]


def pause(
    place: Place,
    lifetime: LifetimeIfAny = None,
    graph: Graph = None,
    everything: Everything = False,
    reason: Reason = "",
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="DURATION", help="After this time a lifetime is aborted, such as 1h."),
    ] = None,
) -> None:
    """Dispatch nothing more of a lifetime, a graph, or everything of a tenant, until it is resumed.

    What runs may end, and is paid; nothing is thrown away.
    """
    from headgate import orders
    from headgate_graphs.errors import UserError

    _check_target(lifetime, graph, everything)
    if ttl is not None and lifetime is None:
        raise UserError("--ttl belongs to a lifetime: a frozen graph or tenant waits for its resume")
    tenant, client = open_for(place, lifetime, graph or "")
    with client:
        order = orders.pause(reason, _duration_ms(ttl), graph or "")
        give(place, client, tenant, lifetime or "", order, _whom(tenant, lifetime, graph))


def resume(
    place: Place, lifetime: LifetimeIfAny = None, graph: Graph = None, everything: Everything = False
) -> None:
    """Go on with what an operator has paused; no call that was made is repeated.

    What a rule has paused goes on by itself when its budget is raised. Resuming a lifetime does not thaw its
    graph or tenant, nor the other way round.
    """
    from headgate import orders

    _check_target(lifetime, graph, everything)
    tenant, client = open_for(place, lifetime, graph or "")
    with client:
        order = orders.resume(graph_id=graph or "")
        give(place, client, tenant, lifetime or "", order, _whom(tenant, lifetime, graph))


def abort(place: Place, lifetime: Lifetime, reason: Reason = "") -> None:
    """End a lifetime now and cancel what runs; what was spent is still counted."""
    from headgate import orders

    tenant, client = open_for(place, lifetime)
    with client:
        give(place, client, tenant, lifetime, orders.abort(reason), lifetime)


def complete(
    place: Place,
    lifetime: Lifetime,
    execution: Annotated[
        str | None,
        typer.Argument(metavar="EXECUTION", help="The waiting execution; none when only one waits."),
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Go ahead.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="No.")] = False,
    answer: Annotated[
        str | None,
        typer.Option("--answer", metavar="JSON|@FILE|TEXT", help="The answer; alone it means: answered."),
    ] = None,
) -> None:
    """Answer a human task that waits; `list --waiting` shows all of them."""
    import json

    from headgate import orders
    from headgate.command.inputs import read_input
    from headgate_graphs.errors import UserError

    if (approve and reject) or not (approve or reject or answer is not None):
        raise UserError("say one of --approve, --reject, --answer")
    text = "" if answer is None else json.dumps(read_input(answer), ensure_ascii=False)
    tenant, client = open_for(place, lifetime)
    with client:
        waiting = _waiting(client, tenant, lifetime, execution)
        order = orders.complete(waiting, _outcome(approve, reject), text)
        give(place, client, tenant, lifetime, order, lifetime)


def release(
    place: Place,
    skip_failed: Annotated[
        bool,
        typer.Option(
            "--skip-failed", help="Leave out the record on which the gate failed: a dead letter, FOLD_FAILED."
        ),
    ] = False,
) -> None:
    """Let a quarantined tenant go on: the gate folds all that has waited, in its order.

    A tenant is quarantined when the gate failed on one of its records, which is a bug of the gate; see
    `headgate status --tenant TENANT`. Install the fix on all gates first. Nothing is lost meanwhile: its
    records wait in the log. Where there is no fix, --skip-failed goes on without that one record. A release
    on which the gate fails again changes nothing, and is exit code 1.
    """
    from headgate import orders
    from headgate_graphs.errors import HeadgateError

    tenant, client = open_for(place, None)
    with client:
        answer = give(
            place, client, tenant, "", orders.release(skip_failed), f"tenant {tenant}", timeout_s=RELEASE_S
        )
    if answer.held is not None:
        raise HeadgateError(
            f"tenant {tenant} is still quarantined: the gate failed again ({answer.held.reason}): "
            "install the fix on all gates, or leave the record out with --skip-failed"
        )


def _outcome(approve: bool, reject: bool) -> int:
    from headgate_protos.v1.control_pb2 import HumanOutcome

    word = "APPROVED" if approve else "REJECTED" if reject else "ANSWERED"
    return int(HumanOutcome.Value(f"HUMAN_OUTCOME_{word}"))


def _check_target(lifetime: str | None, graph: str | None, everything: bool) -> None:
    from headgate_graphs.errors import UserError

    if (lifetime is not None) + (graph is not None) + everything != 1:
        raise UserError("name one of: a LIFETIME, --graph ID, --everything")


def _whom(tenant: str, lifetime: str | None, graph: str | None) -> str:
    if lifetime is not None:
        return lifetime
    return f"graph {graph} of tenant {tenant}" if graph else f"everything of tenant {tenant}"


def _waiting(client: Client, tenant: str, lifetime: str, execution: str | None) -> str:
    from headgate_graphs.errors import UserError

    view = client.lifetime(tenant, lifetime)
    waiting = {one.execution_id: one.node_id for one in view.waiting} if view is not None else {}
    if execution is None and len(waiting) == 1:
        return next(iter(waiting))
    if execution in waiting:
        return str(execution)
    names = ", ".join(f"{name} ({node})" for name, node in waiting.items()) or "nothing"
    asked = f"execution {execution[:64]!a} does not wait" if execution else "name the execution"
    raise UserError(f"{asked}: in lifetime {lifetime} waits {names}")


def _duration_ms(text: str | None) -> int | None:
    from headgate_graphs.errors import UserError
    from headgate_graphs.units import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UserError(f"--ttl: {error}") from None


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="Give orders: pause, resume, abort, raise a budget, answer, release."
    )
    verb(
        group,
        "pause",
        example="""headgate control pause demo-1f2e --reason 'looks odd' --ttl 1h
        headgate control pause --graph demo --reason 'bad release'
        headgate control pause --everything --tenant acme""",
    )(pause)
    verb(
        group,
        "resume",
        example="""headgate control resume demo-1f2e
        headgate control resume --everything --tenant acme""",
    )(resume)
    verb(group, "abort", example="headgate control abort demo-1f2e --reason 'wrong repository'")(abort)
    verb(
        group,
        "raise-budget",
        example="""headgate control raise-budget demo-1f2e --policy demo --rule run-dollars --value 1.50
        headgate control raise-budget --policy demo --rule day-dollars --value 50 --tenant acme""",
    )(raise_budget)
    verb(
        group,
        "complete",
        example="""headgate control complete demo-1f2e --approve
        headgate control complete demo-1f2e 0a1b2c --answer '{"branch": "main"}'""",
    )(complete)
    verb(
        group,
        "release",
        example="""headgate control release --tenant acme
        headgate control release --tenant acme --skip-failed""",
    )(release)
    app.add_typer(group, name="control")
