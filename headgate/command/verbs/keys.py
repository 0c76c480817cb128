"""Keys of operators, of gates and of tenants: keys new, register, revoke, tickets, data, list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.everywhere import say_everywhere, send_everywhere
from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.standing import Standing

KeyFile = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A key in PEM, private or public; none means HEADGATE_SIGNING_KEY."),
]


def keys_new(
    place: Place,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write the private key, such as ops.pem.")
    ],
) -> None:
    """Make a key that signs orders, policies and graphs: FILE, for you alone, and its public part beside it.

    Nothing changes until the key is registered: `headgate keys register FILE`. A file is never written over.
    """
    from headgate.command.printing import say, say_json
    from headgate_graphs.errors import UserError
    from headgate_streams.signing import SigningKey

    public = file.with_suffix(".pub")
    if file.suffix == ".pub":
        raise UserError(f"{file}: .pub is the public part's: name the private one {file.with_suffix('.pem')}")
    key = SigningKey.new()
    _write_new(file, key.to_pem(), 0o600)
    _write_new(public, key.public_pem(), 0o644)
    if place.json:
        say_json({"key_id": key.key_id, "private": str(file), "public": str(public)})
    else:
        say(f"key {key.key_id}: {file} signs, keep it to yourself; {public} is for whoever registers it")


def keys_register(place: Place, file: KeyFile = None) -> None:
    """Let a key sign orders, policies, graphs and keys, in every partition.

    The first key is trusted as it comes, and turns the check on: from then on whatever is not signed by a
    registered key is refused, and HEADGATE_SIGNING_KEY names the PEM file that a command signs with. Every
    further key is signed by one that is registered. The same key again changes nothing.
    """
    from headgate import envelopes
    from headgate_graphs.errors import UserError
    from headgate_streams.signing import key_id_of, public_key_in

    settings = place.settings()
    path = file or settings.signing_key
    if path is None:
        raise UserError("name the FILE of a key, or set HEADGATE_SIGNING_KEY; `headgate keys new` makes one")
    public = public_key_in(path)
    key_id = key_id_of(public)
    with place.client(settings) as client:
        is_first = not _ready(client)
        sent = send_everywhere(client, envelopes.key_registered(key_id, public), f"key {key_id}")
    more = "; from now on HEADGATE_SIGNING_KEY must name a registered key" if is_first else ""
    say_everywhere(place, {"key_id": key_id, "first": is_first}, sent, f"key {key_id} may sign", more)


def keys_revoke(
    place: Place, key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")]
) -> None:
    """Take from a key the right to sign, for ever; the last one cannot be revoked.

    What it has signed before stays in force.
    """
    from headgate import envelopes
    from headgate.standing import keys_known
    from headgate_graphs.errors import UserError

    with place.client() as client:
        known = keys_known(client.standings())
        if not known.get(key_id):
            names = ", ".join(name for name, public in known.items() if public) or "none"
            said = "is revoked already" if key_id in known else "is not registered"
            raise UserError(f"key {key_id[:64]!a} {said} (registered: {names})")
        record = envelopes.key_registered(key_id, known[key_id], revoked=True)
        sent = send_everywhere(client, record, f"revoking key {key_id}")
    say_everywhere(place, {"key_id": key_id}, sent, f"key {key_id} signs no longer")


def keys_tickets(
    place: Place,
    new: Annotated[
        bool,
        typer.Option("--new", help="Print a fresh secret for HEADGATE_TICKET_KEYS, and do nothing else."),
    ] = False,
) -> None:
    """Let gates sign the inputs of lifetimes that start from now on; a result without its ticket is refused.

    Give every gate the secret first, in HEADGATE_TICKET_KEYS, and restart it: a gate that does not have it
    stops. Then run this with the same setting; it names the first secret of the list. Lifetimes that have
    begun keep the key they began with, so an old secret stays in the list, behind the new one, until they
    have ended. Workers need nothing.
    """
    from headgate import envelopes
    from headgate_graphs.errors import UserError
    from headgate_streams.signing import fingerprint

    if new:
        _say_new_secret(place)
        return
    settings = place.settings()
    if not settings.ticket_keys:
        raise UserError(
            "HEADGATE_TICKET_KEYS is not set: a JSON list of secrets that all gates have, the newest first; "
            "`headgate keys tickets --new` makes a secret"
        )
    name = fingerprint(settings.ticket_keys[0].get_secret_value().encode())
    with place.client(settings) as client:
        _ready(client)
        sent = send_everywhere(client, envelopes.ticket_key_registered(name), f"ticket key {name}")
    silent = "" if sent.is_done else "; a gate stops that does not have it in HEADGATE_TICKET_KEYS"
    say_everywhere(
        place, {"fingerprint": name}, sent, f"lifetimes that start now have tickets by {name}", silent
    )


def keys_data(place: Place) -> None:
    """Make the tenant's data key, with which values are sealed from now on where HEADGATE_SEAL_VALUES=true.

    It lies in the blob store, below the tenant's prefix, and wraps a data key for each lifetime. Whoever may
    read these keys can read the values; `headgate audit erase` destroys them. It is made once: doing it again
    changes nothing.
    """
    from headgate.command.printing import say, say_json

    settings = place.settings()
    with place.client(settings) as client:
        made = client.payloads.keys.create(settings.tenant)
    if place.json:
        say_json({"tenant": settings.tenant, "made": made})
    else:
        said = "has a data key now" if made else "has a data key already"
        say(f"tenant {settings.tenant} {said}; HEADGATE_SEAL_VALUES=true seals what is started with it")


def keys_list(place: Place) -> None:
    """List the keys that may sign and those revoked, and the key of tickets; says where partitions disagree.

    It folds the whole log, and needs none of the gates' secrets.
    """
    from headgate.command.printing import say, say_json, say_table
    from headgate.standing import keys_known

    with place.client() as client:
        found = client.standings()
    known = keys_known(found)
    rows = [(key_id, *_where(found, key_id)) for key_id in known]
    if place.json:
        say_json(
            {
                "keys": [
                    {"key_id": name, "status": status, "partitions": where} for name, status, where in rows
                ],
                "tickets": {str(one.partition): one.ticket_key for one in found},
                "agree": _agree(found),
            }
        )
        return
    if rows:
        say_table(("key", "status", "where"), rows)
    else:
        say("no key is registered: orders, policies and graphs need no signature")
    for line in _ticket_lines(found):
        say(line)
    if not _agree(found):
        say("the partitions disagree: give the command that was interrupted again")


def _ready(client: Client) -> bool:
    """Whether a key is registered; raises UserError for a log whose logic does not know keys yet."""
    from headgate.standing import keys_known, standings_with_keys

    return bool(keys_known(standings_with_keys(client)))


def _where(found: list[Standing], key_id: str) -> tuple[str, str]:
    """Return what a key is, and in which partitions when it is not the same everywhere."""
    from headgate.standing import partitions_words

    may = [one for one in found if one.keys.get(key_id)]
    revoked = [one for one in found if one.keys.get(key_id) == b""]
    if len(may) == len(found):
        return "registered", "everywhere"
    if len(revoked) == len(found):
        return "revoked", "everywhere"
    parts = {
        "registered": may,
        "revoked": revoked,
        "not known": [one for one in found if key_id not in one.keys],
    }
    return "unclear", "; ".join(f"{said} in {partitions_words(ones)}" for said, ones in parts.items() if ones)


def _ticket_lines(found: list[Standing]) -> list[str]:
    from headgate.standing import partitions_words

    by_key: dict[str, list[Standing]] = {}
    for one in found:
        by_key.setdefault(one.ticket_key, []).append(one)
    if list(by_key) == [""]:
        return ["no tickets: results need none"]
    shown = {
        name: "" if len(by_key) == 1 else f" in {partitions_words(ones)}" for name, ones in by_key.items()
    }
    return [f"{f'tickets by {name}' if name else 'no tickets'}{where}" for name, where in shown.items()]


def _agree(found: list[Standing]) -> bool:
    return len({(tuple(sorted(one.keys.items())), one.ticket_key) for one in found}) <= 1


def _say_new_secret(place: Place) -> None:
    import secrets

    from headgate.command.printing import say, say_json
    from headgate_streams.signing import fingerprint

    secret = secrets.token_urlsafe(32)
    if place.json:
        say_json({"secret": secret, "fingerprint": fingerprint(secret.encode())})
    else:
        say(secret)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; raises UserError."""
    import os

    from headgate_graphs.errors import UserError

    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise UserError(f"{path} exists: a key is never written over; name another file") from None
    except OSError as error:
        raise UserError(f"{path}: the key cannot be written: {error.strerror}") from None


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    keys = typer.Typer(
        no_args_is_help=True, help="Keys that sign orders, the key of gates' tickets, and tenants' data keys."
    )
    verb(keys, "new", example="headgate keys new ops.pem")(keys_new)
    verb(
        keys,
        "register",
        example="""headgate keys register ops.pem
        HEADGATE_SIGNING_KEY=ops.pem headgate keys register colleague.pub""",
    )(keys_register)
    verb(keys, "revoke", example="HEADGATE_SIGNING_KEY=ops.pem headgate keys revoke 8f4e2a90c1d37b65")(
        keys_revoke
    )
    verb(
        keys,
        "tickets",
        example="""headgate keys tickets --new
        HEADGATE_TICKET_KEYS='["a-secret"]' headgate keys tickets""",
    )(keys_tickets)
    verb(keys, "data", example="headgate keys data --tenant acme")(keys_data)
    verb(keys, "list", example="headgate keys list --json")(keys_list)
    app.add_typer(keys, name="keys")
