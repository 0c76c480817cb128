"""Raises one cap of one rule: control raise-budget."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.orders import give, open_for
from headgate.command.place import Place

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate_guardrails.policy import Rule


def raise_budget(
    place: Place,
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help="Name of the policy; '*NAME' is the platform's.")
    ],
    rule: Annotated[str, typer.Option("--rule", metavar="NAME", help="Name of its limit rule.")],
    value: Annotated[
        str,
        typer.Option(
            "--value", metavar="NUMBER", help="The new cap, absolute; money in USD, such as 1.50; time as 2h."
        ),
    ],
    lifetime: Annotated[
        str | None,
        typer.Argument(metavar="LIFETIME", help="Id of the lifetime; none for a rule at scope tenant."),
    ] = None,
    whole_tenant: Annotated[
        bool, typer.Option("--whole-tenant", help="The same as leaving the lifetime out.")
    ] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="METRIC", help="cost_usd, tokens_used, … (default: the rule's only one)"
        ),
    ] = None,
) -> None:
    """Give one cap of one rule a new absolute value; what that rule had paused goes on by itself.

    For a rule at scope tenant leave the lifetime out. `policy explain` shows what is left of each cap.
    """
    from headgate import orders
    from headgate_graphs.errors import UserError

    if whole_tenant and lifetime is not None:
        raise UserError("a lifetime and --whole-tenant exclude each other: give one of them")
    tenant, client = open_for(place, lifetime)
    with client:
        wire = wire_metric(client, tenant, policy, rule, metric, lifetime)
        order = orders.raise_budget(policy, rule, wire, cap_value(wire, value))
        give(place, client, tenant, lifetime or "", order, lifetime or f"tenant {tenant}")


def wire_metric(
    client: Client, tenant: str, policy: str, rule: str, metric: str | None, lifetime: str | None
) -> str:
    """Return the metric to raise as the wire names it, checked against the policies in force."""
    from headgate_graphs.errors import UserError

    limits = _limit_rules(client, tenant, policy)
    if rule not in limits:
        names = ", ".join(limits) or "none"
        raise UserError(f"policy {policy} has no limit rule {rule[:64]!a} (its limit rules: {names})")
    is_tenants = limits[rule].scope == "tenant"
    if is_tenants and lifetime is not None:
        raise UserError(f"rule {rule} caps the whole tenant: leave the lifetime out")
    if not is_tenants and lifetime is None:
        raise UserError(f"rule {rule} is at scope {limits[rule].scope}: name the lifetime")
    limit = limits[rule].limit
    caps = {_written(name): name for name in (limit.caps() if limit is not None else ())}
    if metric is None and len(caps) == 1:
        return next(iter(caps.values()))
    named = {**{name: name for name in caps.values()}, **caps}
    if metric not in named:
        asked = f"it has no cap {metric[:64]!a}" if metric else "name one with --metric"
        raise UserError(f"rule {rule} limits {', '.join(caps)}: {asked}")
    return named[metric]


def _limit_rules(client: Client, tenant: str, policy: str) -> dict[str, Rule]:
    """Return the limit rules of a policy in force: the tenant's own, else (or as "*NAME") the platform's."""
    from headgate_graphs.errors import UserError
    from headgate_guardrails.policy import policy_from_json

    known: dict[str, str] = {}
    for one in client.policy_versions(tenant):
        if one.is_in_force:
            names = [one.policy.name] if one.owner == tenant else [f"*{one.policy.name}"]
            known |= dict.fromkeys(names, one.policy.document_json)
    document = known.get(policy, known.get(f"*{policy}"))
    if document is None:
        there = ", ".join(known) or "none"
        raise UserError(f"no policy {policy[:64]!a} is in force for tenant {tenant} (in force: {there})")
    return {one.name: one for one in policy_from_json(document).rules if one.limit is not None}


def _written(metric: str) -> str:
    """Return a metric as a policy names it."""
    return {"cost_nano_usd": "cost_usd", "wall_time_ms": "wall_time"}.get(metric, metric)


def cap_value(metric: str, text: str) -> int:
    """Return a cap in its wire unit; raises UserError. Money is written in USD, time also as a duration."""
    from headgate_graphs.errors import UserError
    from headgate_graphs.units import parse_duration

    try:
        if metric.endswith("_ms") and not text.strip().isdecimal():
            return parse_duration(text)
        number = Decimal(text.replace(",", "").removeprefix("$")) * (
            10**9 if metric.startswith("cost") else 1
        )
        if number.is_finite() and 0 <= number < 2**62 and number == int(number):
            return int(number)
    except (InvalidOperation, ValueError):
        pass
    unit = "a whole number"
    if metric.startswith("cost"):
        unit = "an amount in USD such as 1.50"
    elif metric.endswith("_ms"):
        unit = "a time such as 90s, or milliseconds"
    raise UserError(f"--value {text[:64]!a} is not {unit}")
