"""Begins a new lifetime with another one's history: replay fork."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate_protos.v1.control_pb2 import RaiseBudget


def replay_fork(
    place: Place,
    lifetime: Annotated[str, typer.Argument(metavar="LIFETIME", help="The lifetime to fork.")],
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="EVENT",
            help="Repeat up to here: NODE#VISIT as the timeline names it, an execution id, or an offset.",
        ),
    ],
    new_id: Annotated[str, typer.Option("--as", metavar="ID", help="Id of the fork.")] = "",
    graph: Annotated[
        Path | None, typer.Option("--graph", metavar="PATH", help="Run this graph from there on.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE.PATH=VALUE", help="Change a node's config; VALUE: JSON or text."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NODE=NAME", help="The same as --set NODE.params.model=NAME."),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|TEXT", help="What the run works on from there on."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Judge the fork by this policy in place of the one of its name; its rules are of scope "
            "execution or lifetime.",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="POLICY.RULE.METRIC=VALUE", help="A cap that differs for the fork."),
    ] = None,
    allow_effects: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-effects", metavar="NODE", help="Let this task's external effects happen; `all` for all."
        ),
    ] = None,
) -> None:
    """Start a lifetime that repeats what another one did up to an event, and runs only what comes after.

    Nothing of the repeated part is run, judged or paid again. Tasks with `effects: external` are not run
    after it either: what the origin recorded for the same visit is taken, and without a record they are
    refused, unless they are allowed. `status` and `timeline` show where a fork comes from.
    """
    from headgate.command.inputs import read_input
    from headgate.command.printing import say, say_json
    from headgate.forking import ForkInput, fork
    from headgate_graphs.loading import load_graph
    from headgate_guardrails.policy import load_policy

    where = place.settings()
    with place.client(where) as client:
        done = fork(
            client,
            ForkInput(
                where.tenant,
                lifetime,
                at,
                new_id,
                load_graph(graph) if graph is not None else None,
                _values(settings or (), model or ()),
                read_input(input),
                input is not None,
                load_policy(policy) if policy is not None else None,
                [_budget(client, where.tenant, lifetime, one) for one in budget or ()],
                ["*" if one == "all" else one for one in allow_effects or ()],
            ),
        )
    if place.json:
        say_json(asdict(done))
        return
    say(
        f"forked {done.lifetime_id} from {lifetime} at offset {done.offset}: {done.repeated} visits "
        f"repeated, {done.spared} records in place of external effects, graph {done.graph_id} "
        f"{done.graph_version}"
    )
    for line in done.changes:
        say(f"  changed: {line}")
    say(f"  headgate status {done.lifetime_id}{place.as_options()}")


def _values(settings: list[str] | tuple[()], models: list[str] | tuple[()]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = {}
    for given in settings:
        path, text = _pair(given, "--set", "NODE.PATH=VALUE")
        try:
            found[path] = json.loads(text)
        except ValueError:
            found[path] = text
    for given in models:
        node, name = _pair(given, "--model", "NODE=NAME")
        found[f"{node}.params.model"] = name
    return found


def _budget(client: Client, tenant: str, lifetime: str, given: str) -> RaiseBudget:
    from headgate.command.verbs.budgets import cap_value, wire_metric
    from headgate_graphs.errors import UserError
    from headgate_protos.v1.control_pb2 import RaiseBudget

    name, value = _pair(given, "--budget", "POLICY.RULE.METRIC=VALUE")
    parts = name.rsplit(".", 2)
    if len(parts) != 3:
        raise UserError(f"--budget {given[:160]!a} is not POLICY.RULE.METRIC=VALUE")
    policy, rule, metric = parts
    wire = wire_metric(client, tenant, policy, rule, metric, lifetime)
    return RaiseBudget(policy=policy, rule=rule, metric=wire, value=cap_value(wire, value))


def _pair(given: str, option: str, form: str) -> tuple[str, str]:
    from headgate_graphs.errors import UserError

    name, equals, value = given.partition("=")
    if not (name and equals):
        raise UserError(f"{option} {given[:160]!a} is not {form}")
    return name, value


def add_to(group: typer.Typer) -> None:
    """Register the verb in the group `replay`."""
    verb(
        group,
        "fork",
        example="""headgate replay fork tour-1 --at review#2
        headgate replay fork tour-1 --at review#2 --model write=gpt-4.1 --budget tour.run-tokens.tokens_used=9
        headgate replay fork tour-1 --at review#2 --policy draft.yaml
        headgate replay fork order-7 --at 4711 --allow-effects send_mail""",
    )(replay_fork)
