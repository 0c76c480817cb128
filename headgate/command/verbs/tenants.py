"""A tenant on topics of its own: tenant create, show, policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.settings import HeadgateSettings
    from headgate.tenancy import Account, Issued, Tenancy
    from headgate_streams.roles import Grant

Name = Annotated[
    str, typer.Argument(metavar="TENANT", help="The tenant's id; `shared` means the topics that all share.")
]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", metavar="NAME", help="A named queue that nodes use; give it again for more."),
]
ProduceRate = Annotated[
    int | None,
    typer.Option(
        "--produce-rate", metavar="BYTES", min=0,
        help="What each user may send in a second, to each broker; 0 is no limit. (default 10 MiB)",
    ),
]  # fmt: skip
ConsumeRate = Annotated[
    int | None,
    typer.Option(
        "--consume-rate", metavar="BYTES", min=0,
        help="What each user may read in a second, of each broker; 0 is no limit. (default 20 MiB)",
    ),
]  # fmt: skip
Rotate = Annotated[
    list[str] | None,
    typer.Option("--rotate", metavar="ROLE", help="Give this role's user a new password; `all` for all."),
]
Passwords = Annotated[
    Path | None,
    typer.Option(
        "--passwords", metavar="DIR", help="Write new passwords to files here in place of showing them."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is missing, and change nothing.")]


def create(
    place: Place,
    name: Name,
    queue: Queues = None,
    produce_rate: ProduceRate = None,
    consume_rate: ConsumeRate = None,
    rotate: Rotate = None,
    passwords: Passwords = None,
    dry_run: DryRun = False,
) -> None:
    """Make a tenant's own topics, a user for each role, and its ACLs and quotas; what is there stays.

    Run it as an administrator of the Kafka cluster. The roles are gate, worker, client, operator and auditor;
    each may do what it must and no more. A password is shown once, when it is made: keep it, or write it to
    a file with --passwords, which HEADGATE_KAFKA_PASSWORD_FILE can name.
    """
    from headgate.client import Client
    from headgate.tenancy import CONSUME, PRODUCE, issue, look, make
    from headgate_streams.opening import open_accounts

    settings, queues, roles = _settings(place, name), tuple(queue or ()), _roles(rotate or [])
    rates = {PRODUCE: produce_rate, CONSUME: consume_rate}
    given = {rate: float(value) for rate, value in rates.items() if value is not None}
    accounts = open_accounts(settings)
    with Client.open(settings) as client:
        seen = look(client.log, accounts, settings, queues)
        if not dry_run:
            make(client.log, accounts, settings, seen, given, queues)
    due = [one.user for one in seen.accounts if not one.exists or one.role.value in roles]
    issued = [] if dry_run else list(issue(accounts, settings, due, passwords))
    if place.json:
        _say_json(seen, given, issued, due, dry_run=dry_run)
    else:
        _say(seen, given, issued, due, dry_run=dry_run)


def _settings(place: Place, name: str) -> HeadgateSettings:
    """Return the settings of the placement that is meant; there, the tenant is the one of that name."""
    return replace(place, placement=name, tenant=None).settings()


def _roles(given: list[str]) -> set[str]:
    from headgate_graphs.errors import UserError
    from headgate_streams.roles import Role

    known = {role.value for role in Role}
    if unknown := sorted(set(given) - known - {"all"}):
        raise UserError(f"{unknown[0][:64]!a} is no role: {', '.join(sorted(known))}, or all")
    return known if "all" in given else set(given)


def _say(
    seen: Tenancy, rates: dict[str, float], issued: list[Issued], due: list[str], *, dry_run: bool
) -> None:
    from headgate.command.printing import say

    word = "would be made" if dry_run else "made"
    say(f"topics {seen.topics.prefix}.*: {len(seen.existing)} there, {len(seen.missing)} {word}")
    for account in seen.accounts:
        parts = [f"{len(account.missing)} ACLs {word}"] if account.missing else []
        parts += [f"{kind} {_rate(rate)}" for kind, rate in account.changes(rates).items()]
        parts += [f"a new password {word}"] if dry_run and account.user in due else []
        parts += [f"{len(account.surplus)} ACLs that it does not need"] if account.surplus else []
        say(f"user {account.user}: {'; '.join(parts) or 'nothing to do'}")
    for one in issued:
        said = one.password if one.file is None else f"in {one.file}"
        say(f"password of {one.user}: {said}")
    if any(one.file is None for one in issued):
        say("these passwords are kept nowhere: keep them now")


def _rate(rate: float | None) -> str:
    return "without limit" if rate is None else f"{rate:,.0f} bytes/s"


def _say_json(
    seen: Tenancy, rates: dict[str, float], issued: list[Issued], due: list[str], *, dry_run: bool
) -> None:
    from headgate.command.printing import say_json

    passwords = {one.user: _secret(one) for one in issued}
    users = [
        _account(account) | {"quota_changes": account.changes(rates), "new_password": account.user in due}
        | passwords.get(account.user, {})
        for account in seen.accounts
    ]  # fmt: skip
    say_json({"dry_run": dry_run, **_topics(seen), "users": users})


def _secret(issued: Issued) -> dict[str, str]:
    file = issued.file
    return {"password": issued.password or ""} if file is None else {"password_file": str(file)}


def _topics(seen: Tenancy) -> dict[str, Any]:
    names = {"existing": list(seen.existing), "missing": list(seen.missing)}
    return {"prefix": seen.topics.prefix, "topics": names}


def _account(account: Account) -> dict[str, Any]:
    return {
        "role": account.role.value,
        "user": account.user,
        "exists": account.exists,
        "missing_acls": [_said(one) for one in sorted(account.missing)],
        "surplus_acls": [_said(one) for one in sorted(account.surplus)],
        "quotas": dict(account.quotas),
    }


def _said(grant: Grant) -> str:
    return f"{grant.operation} {grant.kind} {grant.name}{'*' if grant.is_prefix else ''}"


def show(place: Place, name: Name, queue: Queues = None) -> None:
    """Show a tenant's own topics, users, ACLs and quotas beside what they should be."""
    from headgate.client import Client
    from headgate.command.printing import say, say_json, say_table
    from headgate.tenancy import look
    from headgate_streams.opening import open_accounts
    from headgate_streams.roles import grants_of

    settings = _settings(place, name)
    accounts = open_accounts(settings)
    with Client.open(settings) as client:
        seen = look(client.log, accounts, settings, tuple(queue or ()))
    if place.json:
        say_json({**_topics(seen), "users": [_account(one) for one in seen.accounts]})
        return
    missing = ", ".join(seen.missing) or "none"
    say(f"topics {seen.topics.prefix}.*: {len(seen.existing)} there, missing: {missing}")
    rows = []
    for one in seen.accounts:
        needed = len(grants_of(seen.topics, one.role))
        quotas = "; ".join(f"{kind} {_rate(rate)}" for kind, rate in sorted(one.quotas.items())) or "none"
        has = f"{needed - len(one.missing)} of {needed}"
        rows.append((one.user, "yes" if one.exists else "no", has, str(len(one.surplus)), quotas))
    say_table(("user", "exists", "ACLs", "not needed", "quotas"), rows, right=("ACLs", "not needed"))
    for one in seen.accounts:
        for what, grants in (("lacks", one.missing), ("does not need", one.surplus)):
            for grant in sorted(grants):
                say(f"{one.user} {what} {_said(grant)}")


def policy(
    place: Place,
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="Whose policy: gate, worker, client, operator or auditor."
        ),
    ] = "worker",
) -> None:
    """Print the S3 policy that keeps a role to the tenant's part of the bucket of HEADGATE_BLOB_URL."""
    from headgate.command.printing import say_json
    from headgate_graphs.errors import UserError
    from headgate_streams.blob_access import bucket_policy
    from headgate_streams.roles import Role

    if role == "all":
        raise UserError("a policy is for one role: gate, worker, client, operator or auditor")
    (chosen,) = _roles([role])
    settings = _settings(place, name)
    say_json(bucket_policy(settings, Role(chosen)))


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    tenant = typer.Typer(
        no_args_is_help=True, help="Give a tenant topics, users, ACLs and quotas of its own on Kafka."
    )
    verb(
        tenant,
        "create",
        example="""headgate tenant create acme --dry-run
        headgate tenant create acme --queue gpu --passwords ./secrets
        headgate tenant create acme --rotate worker --passwords ./secrets""",
    )(create)
    verb(tenant, "show", example="headgate tenant show acme")(show)
    verb(tenant, "policy", example="headgate tenant policy acme --role worker")(policy)
    app.add_typer(tenant, name="tenant")
