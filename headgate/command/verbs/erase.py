"""Erasure of what was sealed: audit erase. The keys that seal are made by `keys data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headgate_protos.v1.execution_pb2 import LifetimeView
    from headgate_replay.erasure import Sealed


def erase(
    place: Place,
    lifetime: Annotated[
        str | None,
        typer.Argument(metavar="[LIFETIME]", help="Whose values; or give --all.", show_default=False),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every sealed value of the tenant, of all its lifetimes.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without it, say what would be erased and do nothing.")
    ] = False,
) -> int:
    """Erase the sealed values of an ended lifetime and its sub-graphs, or of a whole tenant, for ever.

    A fork is sealed with its origin's key: to erase one is to erase both.

    Their data keys are destroyed, so that nobody can read them: in topics, checkpoints, archives, backups
    and blobs. The log itself does not change: hash chains, spend and every decision still verify. Only what
    was sealed can be erased: lifetimes that were started with HEADGATE_SEAL_VALUES=true. Workers and clients
    remember a key for a minute.

    The exit code is 1 when some values were not sealed, and so stay.
    """
    from headgate.command.printing import say, say_json
    from headgate_graphs.errors import UserError
    from headgate_replay.erasure import erase as destroy
    from headgate_replay.erasure import find_sealed

    if (lifetime is None) != all_:
        raise UserError("name one LIFETIME, or say --all for every lifetime of the tenant")
    settings = place.settings()
    with place.client(settings) as client:
        views = {view.lifetime_id: view for view in client.lifetimes(settings.tenant)}
        if lifetime is not None and lifetime not in views:
            raise UserError(
                f"there is no lifetime {lifetime[:64]!a} of tenant {settings.tenant}: "
                "`headgate list` names them"
            )
        partitions = client.observer.partitions()
        found = find_sealed(client.log, client.topics, partitions, settings.tenant, lifetime or "")
        _refuse_living(views, {lifetime: None, **found.lifetimes} if lifetime is not None else views)
        whose = f"lifetime {lifetime}" if lifetime else f"tenant {settings.tenant}"
        if not found.keys:
            raise UserError(
                f"{whose} has no sealed values, so nothing can be erased: set HEADGATE_SEAL_VALUES=true for "
                "lifetimes to come"
            )
        if yes:
            destroy(found, client.blobs, settings.tenant, client.issued_by, everything=all_)
    if place.json:
        say_json({"tenant": settings.tenant, "lifetime": lifetime, "erased": yes, **_counts(found)})
    else:
        say(_words(whose, found, yes))
    return 1 if found.plain else 0


def _refuse_living(views: Mapping[str, LifetimeView], concerned: Iterable[str]) -> None:
    """Refuse what would take the values away from a lifetime that may need them still."""
    from headgate.words import TERMINAL, status_word
    from headgate_graphs.errors import UserError

    living = [one for one in concerned if one not in views or status_word(views[one].status) not in TERMINAL]
    if living:
        named = ", ".join(living[:3]) + (" …" if len(living) > 3 else "")
        raise UserError(
            f"not ended yet, and sealed with what would be destroyed: {named}; erase when they have, or "
            "`headgate control abort` them"
        )


def _counts(found: Sealed) -> dict[str, int]:
    return {
        "keys": len(found.keys),
        "lifetimes": len(found.lifetimes),
        "values": found.values,
        "blobs": len(found.blobs),
        "plain": found.plain,
    }


def _words(whose: str, found: Sealed, is_done: bool) -> str:
    done = "erased" if is_done else "would be erased (say --yes)"
    keys, blobs = len(found.keys), len(found.blobs)
    line = f"{whose}: {found.values:,} values of {keys:,} data keys {done}, {blobs:,} of them blobs"
    if len(found.lifetimes) > 1:
        line += (
            f"; they are of {len(found.lifetimes):,} lifetimes, which share keys: sub-graphs, forks, origins"
        )
    if found.plain:
        line += f"; {found.plain:,} values were never sealed and stay in the log"
    return line


def add_to(audit: typer.Typer) -> None:
    """Register the verb in the group `audit`."""
    verb(
        audit,
        "erase",
        example="""headgate audit erase support-42 --tenant acme
        headgate audit erase --all --tenant acme --yes""",
    )(erase)
