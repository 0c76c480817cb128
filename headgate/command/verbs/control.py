"""Gives orders to a lifetime: control pause, resume, abort, raise-budget, complete."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client

Lifetime = Annotated[str, typer.Argument(metavar="LIFETIME", help="Id of the lifetime.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")]


def pause(
    place: Place,
    lifetime: Lifetime,
    reason: Reason = "",
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", metavar="DURATION", help="After this time it is aborted, such as 1h."),
    ] = None,
) -> None:
    """Dispatch nothing more of a lifetime until it is resumed; what runs may end and is paid."""
    tenant, client = _open(place, lifetime)
    with client:
        command_id = client.pause(tenant, lifetime, reason, _duration_ms(ttl))
    _asked(place, "pause", lifetime, command_id)


def resume(place: Place, lifetime: Lifetime) -> None:
    """Go on with a paused lifetime; no call that was made is repeated."""
    tenant, client = _open(place, lifetime)
    with client:
        command_id = client.resume(tenant, lifetime)
    _asked(place, "resume", lifetime, command_id)


def abort(place: Place, lifetime: Lifetime, reason: Reason = "") -> None:
    """End a lifetime now and cancel what runs; what was spent is still counted."""
    tenant, client = _open(place, lifetime)
    with client:
        command_id = client.abort(tenant, lifetime, reason)
    _asked(place, "abort", lifetime, command_id)


def raise_budget(
    place: Place,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="Name of the policy.")],
    rule: Annotated[str, typer.Option("--rule", metavar="NAME", help="Name of its limit rule.")],
    value: Annotated[
        str,
        typer.Option("--value", metavar="NUMBER", help="The new cap, absolute; money in USD, such as 1.50."),
    ],
    lifetime: Annotated[
        str | None,
        typer.Argument(metavar="LIFETIME", help="Id of the lifetime; none means the whole tenant."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="METRIC", help="cost_usd, tokens_used, … (default: the rule's only one)"
        ),
    ] = None,
) -> None:
    """Give one cap of one rule a new absolute value, for a lifetime or for the whole tenant.

    It does not resume a paused lifetime: `control resume` does, when you have raised all that you want to.
    """
    tenant, client = _open(place, lifetime)
    with client:
        metric = _metric(client, tenant, policy, rule, metric)
        command_id = client.raise_budget(
            tenant, lifetime, policy=policy, rule=rule, metric=metric, value=_cap(metric, value)
        )
    _asked(place, "raise-budget", lifetime or f"tenant {tenant}", command_id)


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
    """Answer a human task that waits."""
    from headgate.command.inputs import read_input
    from headgate_graphs.errors import UserError

    if (approve and reject) or not (approve or reject or answer is not None):
        raise UserError("say one of --approve, --reject, --answer")
    value = read_input(answer)
    tenant, client = _open(place, lifetime)
    with client:
        waiting = _waiting(client, tenant, lifetime, execution)
        command_id = client.complete(tenant, lifetime, waiting, _outcome(approve, reject), value)
    _asked(place, "complete", lifetime, command_id)


def _outcome(approve: bool, reject: bool) -> int:
    from headgate_protos.v1.control_pb2 import HumanOutcome

    word = "APPROVED" if approve else "REJECTED" if reject else "ANSWERED"
    return int(HumanOutcome.Value(f"HUMAN_OUTCOME_{word}"))


def _open(place: Place, lifetime: str | None) -> tuple[str, Client]:
    """Return the tenant and a client, having checked that the lifetime exists and has not ended."""
    from headgate.command.verbs.lifetimes import state_of
    from headgate.words import TERMINAL
    from headgate_graphs.errors import UserError

    settings = place.settings()
    client = place.client(settings)
    if lifetime is None:
        return settings.tenant, client
    history = client.history(settings.tenant, lifetime)
    status = state_of(history).status
    if not history or status in TERMINAL:
        client.close()
        why = (
            f"has ended: {status}"
            if history
            else f"of tenant {settings.tenant} is not known: see `headgate list`"
        )
        raise UserError(f"lifetime {lifetime[:128]!a} {why}")
    return settings.tenant, client


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


def _metric(client: Client, tenant: str, policy: str, rule: str, metric: str | None) -> str:
    """Return the metric to raise, checked against the policies in force."""
    from headgate_graphs.errors import UserError
    from headgate_guardrails.policy import policy_from_json

    known = {one.name: policy_from_json(one.document_json) for one in client.observer.policies(tenant)}
    if policy not in known:
        names = ", ".join(known) or "none"
        raise UserError(f"no policy {policy[:64]!a} is in force for tenant {tenant} (in force: {names})")
    limits = {one.name: one.limit.caps() for one in known[policy].rules if one.limit is not None}
    caps = [("cost_usd" if name.startswith("cost") else name) for name in limits.get(rule, {})]
    if (
        rule not in limits
        or (metric is not None and metric not in caps)
        or (metric is None and len(caps) != 1)
    ):
        found = (
            f"rule {rule[:64]!a} limits {', '.join(caps)}"
            if caps
            else f"its limit rules: {', '.join(limits)}"
        )
        raise UserError(
            f"policy {policy} has no cap {rule[:64]!a} {metric or ''}: {found}; name one with --metric"
        )
    return metric or caps[0]


def _cap(metric: str, text: str) -> int:
    from headgate_graphs.errors import UserError

    try:
        number = Decimal(text.replace(",", "").removeprefix("$")) * (10**9 if metric == "cost_usd" else 1)
        if number.is_finite() and 0 <= number < 2**62 and number == int(number):
            return int(number)
    except InvalidOperation:
        pass
    unit = "an amount in USD such as 1.50" if metric == "cost_usd" else "a whole number"
    raise UserError(f"--value {text[:64]!a} is not {unit}")


def _duration_ms(text: str | None) -> int | None:
    from headgate_graphs.errors import UserError
    from headgate_graphs.units import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UserError(f"--ttl: {error}") from None


def _asked(place: Place, what: str, whom: str, command_id: str) -> None:
    from headgate.command.printing import say, say_json

    if place.json:
        say_json({"command": what, "lifetime_id": whom, "command_id": command_id})
    else:
        say(f"asked for {what} of {whom} (command {command_id}); the gate acts on it as soon as it reads it")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="Give orders: pause, resume, abort, raise a budget, answer."
    )
    verb(group, "pause", example="headgate control pause demo-1f2e --reason 'looks odd' --ttl 1h")(pause)
    verb(group, "resume", example="headgate control resume demo-1f2e")(resume)
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
    app.add_typer(group, name="control")
