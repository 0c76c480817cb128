"""Logic versions: logic show, activate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.standing import Standing

Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for every partition's gate.")
]


def logic_show(place: Place) -> None:
    """Show by which version of its logic each partition's fold decides, and which ones this binary knows.

    A log that is new begins with the newest of its first gate. It folds the whole log.
    """
    from headgate.command.printing import say, say_json
    from headgate.standing import partitions_words

    with place.client() as client:
        found = client.standings()
    oldest, newest = known_versions()
    if place.json:
        active = {str(one.partition): one.logic_version or None for one in found}
        say_json({"active": active, "known": [oldest, newest]})
        return
    say(f"this binary knows logic versions {oldest} and {newest}")
    for version, ones in by_version(found).items():
        where = f"all {len(found)} partitions" if len(ones) == len(found) else partitions_words(ones)
        newer = "newer than this binary knows: install a newer headgate"
        say(f"{where}: {f'version {version}' if version else newer}")


def logic_activate(
    place: Place,
    version: Annotated[int, typer.Argument(metavar="N", min=1, help="The logic version.")],
    timeout: Timeout = "60s",
) -> int:
    """Let every partition decide by a logic version from here on; there is no way back.

    Roll the new binaries out first, to all gates: one that does not know the version stops at the record.
    What happened before it is folded as it was. Exit code 6 when a partition has not answered in time.
    """
    from headgate import envelopes
    from headgate.command.everywhere import say_everywhere, send_everywhere
    from headgate.command.faults import ExitCode
    from headgate.command.printing import say, say_json
    from headgate_graphs.errors import UserError

    oldest, newest = known_versions()
    if not oldest <= version <= newest:
        raise UserError(f"this binary knows logic versions {oldest} and {newest}, not {version}")
    wait_s = _seconds(timeout)
    with place.client() as client:
        found = client.standings()
        ahead = [one for one in found if one.logic_version > version or not one.logic_version]
        if ahead:
            raise UserError(f"a later logic version is active, which stays: {_active(ahead)}")
        if all(one.logic_version == version for one in found):
            text = f"logic version {version} is active in all {len(found)} partitions already"
            say_json({"version": version, "done": True, "already": True}) if place.json else say(text)
            return int(ExitCode.COMPLETED)
        what = f"logic version {version}"
        sent = send_everywhere(client, envelopes.logic_activated(version), what, wait_s)
    more = "" if sent.is_done or sent.gates == 0 else f"; see whether their gates know version {version}"
    say_everywhere(place, {"version": version, "already": False}, sent, f"{what} is active", more)
    return int(ExitCode.COMPLETED if sent.is_done or sent.gates == 0 else ExitCode.UNFINISHED)


def known_versions() -> tuple[int, int]:
    """Return the oldest and the newest logic version that this binary can decide by."""
    from headgate_guardrails.fold.state import LOGIC_VERSION
    from headgate_streams.settings import FaultSettings

    newest = FaultSettings().newest_logic or LOGIC_VERSION
    return max(1, newest - 1), newest


def by_version(found: list[Standing]) -> dict[int, list[Standing]]:
    """Return the partitions by their logic version, the oldest first; 0 for one that is not known here."""
    return {
        version: [one for one in found if one.logic_version == version]
        for version in sorted({one.logic_version for one in found})
    }


def _active(found: list[Standing]) -> str:
    from headgate.standing import partitions_words

    return "; ".join(f"{ones[0].words} in {partitions_words(ones)}" for ones in by_version(found).values())


def _seconds(text: str) -> float:
    from headgate_graphs.errors import UserError
    from headgate_graphs.units import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise UserError(f"--timeout: {error}") from None


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    logic = typer.Typer(no_args_is_help=True, help="By which version of its logic the gate decides.")
    verb(logic, "show", example="headgate logic show --kafka localhost:9092")(logic_show)
    verb(logic, "activate", example="headgate logic activate 2 --kafka localhost:9092")(logic_activate)
    app.add_typer(logic, name="logic")
