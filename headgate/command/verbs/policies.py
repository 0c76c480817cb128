"""Guardrail policies: policy validate, test, apply, rollback, show, list, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

PolicyPath = Annotated[Path, typer.Argument(metavar="FILE", help="A policy in YAML.")]
EveryTenant = Annotated[
    bool, typer.Option("--every-tenant", help="The policy of the installation, in force for each tenant.")
]


def policy_validate(place: Place, file: PolicyPath) -> None:
    """Check a policy; a fault is shown with file, line and column."""
    from headgate.command.printing import say, say_json
    from headgate_guardrails.policy import load_policy

    policy = load_policy(file)
    if place.json:
        said = {"valid": True, "policy": policy.name, "version": policy.version}
        say_json(said | {"rules": len(policy.rules)})
    else:
        rules = f"{len(policy.rules)} rules, mode {policy.mode}"
        say(f"{file}: {policy.name} v{policy.version} is valid: {rules}")


def policy_test(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cases in YAML, kind PolicyCases.")],
) -> int:
    """Judge the cases written beside a policy, by the gate's own evaluator; one line for each.

    Exit code 1 when a case fails, 2 when the file or the policy does not load. Needs no log and no gate.
    """
    from dataclasses import asdict

    from headgate.command.faults import ExitCode
    from headgate.command.printing import say, say_json
    from headgate_guardrails.cases import run_cases

    results = run_cases(file)
    failed = sum(not one.passed for one in results)
    if place.json:
        say_json({"passed": not failed, "cases": [asdict(one) for one in results]})
    for one in () if place.json else results:
        why = f" ({one.reason})" if one.reason else ""
        wrong = "" if one.passed else f", expected {one.expected}"
        say(f"{'ok  ' if one.passed else 'FAIL'}  {one.case}: {one.said}{wrong}{why}")
    if not place.json:
        say(f"{len(results)} cases, {failed} failed" if failed else f"{len(results)} cases, all as expected")
    return int(ExitCode.BROKEN if failed else ExitCode.COMPLETED)


def policy_apply(place: Place, file: PolicyPath, every_tenant: EveryTenant = False) -> None:
    """Put a policy in force for a tenant; it replaces the one of the same name.

    A budget that was raised under another version of it no longer holds.
    """
    from headgate.definitions import apply_new
    from headgate_guardrails.policy import load_policy

    policy = load_policy(file)
    _put_in_force(
        place, policy.name, policy.version, every_tenant,
        lambda client, owner: apply_new(client, policy, owner),
    )  # fmt: skip


def policy_rollback(
    place: Place,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the policy.")],
    to: Annotated[int, typer.Option("--to", metavar="VERSION", min=1, help="A version that was set before.")],
    every_tenant: EveryTenant = False,
) -> None:
    """Put a version of a policy in force again, as it was; see `policy list` for those there are."""
    from headgate.definitions import roll_back

    _put_in_force(place, name, to, every_tenant, lambda client, owner: roll_back(client, owner, name, to))


def _put_in_force(place: Place, name: str, version: int, every_tenant: bool, send: Any) -> None:
    """Send a policy to whom it is for, and tell what the gate says."""
    from headgate.command.answers import answer_or_refuse, as_data, outlook
    from headgate.command.printing import say, say_json
    from headgate_graphs.ids import EVERY_TENANT

    settings = place.settings()
    owner = EVERY_TENANT if every_tenant else settings.tenant
    what = f"policy {name} v{version}"
    with place.client(settings) as client:
        delivery = send(client, owner)
        answer = answer_or_refuse(client, owner, delivery, what) if delivery is not None else None
    if place.json:
        said = {"policy": name, "version": version, "applied": answer is not None, "tenant": owner}
        say_json(said | (as_data(answer) if answer is not None else {}))
        return
    whom = "every tenant" if every_tenant else f"tenant {owner}"
    say(f"{what} for {whom}: {outlook(answer) if answer is not None else 'it is in force already'}")


def policy_show(place: Place) -> None:
    """Show the policies that are in force for a tenant, the platform's own among them."""
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views.rules import RULE_COLUMNS, rule_rows
    from headgate.definitions import policies_in_force

    settings = place.settings()
    with place.client(settings) as client:
        policies = policies_in_force(client, settings.tenant)
    if place.json:
        say_json([one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in policies])
    elif not policies:
        say(f"no policy is in force for tenant {settings.tenant}: headgate policy apply FILE")
    else:
        say_table(RULE_COLUMNS, [row for policy in policies for row in rule_rows(policy)])


def policy_list(place: Place) -> None:
    """List every policy version that was ever set: for whom, when, and which is in force since when."""
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views.rules import VERSION_COLUMNS, version_data, version_row

    settings = place.settings()
    with place.client(settings) as client:
        versions = client.policy_versions(settings.tenant)
    versions.sort(key=lambda one: (one.owner, one.policy.name, one.policy.version))
    if place.json:
        say_json([version_data(one) for one in versions])
    elif not versions:
        say(f"no policy was ever set for tenant {settings.tenant}: headgate policy apply FILE")
    else:
        say_table(VERSION_COLUMNS, [version_row(one) for one in versions], right=("version", "rules"))


def policy_explain(
    place: Place,
    lifetime: Annotated[str, typer.Argument(metavar="LIFETIME", help="Id of the lifetime.")],
) -> None:
    """Show where each rule stands for a lifetime: its value, what is held, its limit, what it does next.

    It folds the log as the gate does, and changes nothing. A lifetime that ended is known for five minutes.
    """
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views.rules import STANDING_COLUMNS, STANDING_NUMBERS, standing_data, standing_row

    settings = place.settings()
    with place.client(settings) as client:
        standings = client.explain(settings.tenant, lifetime)
        view = client.lifetime(settings.tenant, lifetime)
    broken = list(view.violations) if view is not None else []
    if place.json:
        say_json([standing_data(one, broken) for one in standings])
    elif not standings:
        say(f"no policy is in force for tenant {settings.tenant}: nothing limits {lifetime}")
    else:
        say_table(STANDING_COLUMNS, [standing_row(one, broken) for one in standings], right=STANDING_NUMBERS)


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    policy = typer.Typer(no_args_is_help=True, help="Check, test, apply, list and explain policies.")
    verb(policy, "validate", example="headgate policy validate demo/policy.yaml")(policy_validate)
    verb(policy, "test", example="headgate policy test demo/policy_cases.yaml")(policy_test)
    verb(
        policy,
        "apply",
        example="""headgate policy apply demo/policy.yaml --tenant acme
        headgate policy apply platform.yaml --every-tenant""",
    )(policy_apply)
    verb(policy, "rollback", example="headgate policy rollback demo --to 1 --tenant acme")(policy_rollback)
    verb(policy, "show", example="headgate policy show --tenant acme")(policy_show)
    verb(policy, "list", example="headgate policy list --tenant acme")(policy_list)
    verb(policy, "explain", example="headgate policy explain demo-1f2e3d4c5b6a")(policy_explain)
    app.add_typer(policy, name="policy")
