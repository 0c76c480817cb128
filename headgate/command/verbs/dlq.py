"""Dead letters, records that could not be acted on: dlq list, show, requeue, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.client import Client
    from headgate.dead_letters import DeadLetters, FoundLetter, LetterFilter, Purge

EveryTenant = Annotated[
    bool, typer.Option("--every-tenant", help="Of every tenant, and those that name none.")
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="CODE", help="Only those put aside for this, such as DECODE."),
]
Topic = Annotated[
    str | None, typer.Option("--topic", metavar="NAME", help="Only those whose record was on this topic.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="WHEN", help="Only newer ones: an age such as 2h, or a time in ISO 8601."
    ),
]
Before = Annotated[
    str | None,
    typer.Option(
        "--before", metavar="WHEN", help="Only older ones: an age such as 7d, or a time in ISO 8601."
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many, the newest.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said what would be done.")]


def dlq_list(
    place: Place,
    every_tenant: EveryTenant = False,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    limit: Limit = 100,
) -> None:
    """List the records that could not be acted on, and why, the newest last; `dlq show` shows one whole."""
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views.letters import COLUMNS, as_data, row

    wanted = _filter(place, every_tenant, reason, topic, since)
    with place.client() as client:
        every = _letters(client).find(wanted)
    found = every[-limit:]
    if place.json:
        say_json([as_data(one) for one in found])
    elif not found:
        say(f"no dead letters{_of(wanted)}")
    else:
        say_table(COLUMNS, [row(one) for one in found])
        if len(every) > len(found):
            say(f"{len(every) - len(found)} older ones are not shown: --limit {len(every)}")


def dlq_show(
    place: Place,
    letter: Annotated[str, typer.Argument(metavar="ID", help="The id that `dlq list` shows, such as 3:17.")],
) -> None:
    """Show one dead letter whole: where the record stood, why it was put aside, what to do, its bytes."""
    from headgate.command.printing import say, say_json
    from headgate.command.views.letters import as_data, page

    with place.client() as client:
        found = _letters(client).named(letter)
    if place.json:
        say_json(as_data(found))
        return
    for line in page(found):
        say(line)


def dlq_requeue(
    place: Place,
    letter: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids that `dlq list` shows, such as 3:17.")
    ] = None,
    every_tenant: EveryTenant = False,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    limit: Limit = 100,
    again: Annotated[bool, typer.Option("--again", help="Also what was put back before.")] = False,
    yes: Yes = False,
) -> int:
    """Put records back where they were: the same bytes, key and headers. First correct what was wrong.

    By ids, or all that the filters find; those need --yes, and without it are only listed. What was put back
    before is not put back again unless you say --again. Each record gets one more header, hg-requeued, with
    the letter's id.
    """
    from headgate_graphs.errors import UserError

    by_filter = not letter
    with place.client() as client:
        letters = _letters(client)
        if by_filter:
            found = letters.find(_filter(place, every_tenant, reason, topic, since))[-limit:]
        elif every_tenant or reason or topic or since:
            raise UserError("give ids, or filters: not both")
        else:
            found = [letters.named(one) for one in dict.fromkeys(letter or ())]
        if by_filter and not yes:
            return _only_said(place, found)
        done = [_put_back(client, letters, one, again) for one in found]
    return _told(place, done)


def dlq_purge(
    place: Place,
    every_tenant: EveryTenant = False,
    reason: Reason = None,
    topic: Topic = None,
    before: Before = None,
    yes: Yes = False,
) -> int:
    """Delete dead letters, the oldest of each partition, as far as all of them match.

    A log can lose nothing but its oldest records. Letters that match and lie behind one that does not are
    kept, and counted. Without --yes it is only said what would go. What nobody purges goes by itself when
    the topic's retention is over (90 days).
    """
    from headgate.command.printing import say, say_json

    wanted = _filter(place, every_tenant, reason, topic, None, before)
    with place.client() as client:
        letters = _letters(client)
        plans = letters.plan_purge(wanted)
        if yes:
            letters.purge(plans)
    gone, kept = sum(one.letters for one in plans), sum(one.kept for one in plans)
    if place.json:
        say_json(
            {"deleted": gone if yes else 0, "would_delete": gone, "kept": kept, "partitions": _said(plans)}
        )
    else:
        blocked = f"; {kept} more match, but lie behind letters that do not" if kept else ""
        say(f"{'deleted' if yes else 'would delete'} {gone} dead letters{_of(wanted)}{blocked}")
        if gone and not yes:
            say("nothing is deleted yet: add --yes")
    return 0


def _letters(client: Client) -> DeadLetters:
    from headgate.dead_letters import DeadLetters

    return DeadLetters(client.log, client.topics)


def _filter(
    place: Place,
    every_tenant: bool,
    reason: str | None,
    topic: str | None,
    since: str | None,
    before: str | None = None,
) -> LetterFilter:
    from headgate.command.moments import read_moment
    from headgate.dead_letters import LetterFilter

    tenant = None if every_tenant else place.settings().tenant
    known = reason.upper() if reason is not None else None
    return LetterFilter(tenant, known, topic, read_moment(since, "--since"), read_moment(before, "--before"))


def _of(wanted: LetterFilter) -> str:
    return (f" of tenant {wanted.tenant}" if wanted.tenant else "") + (
        f" with reason {wanted.reason}" if wanted.reason else ""
    )


def _only_said(place: Place, found: list[FoundLetter]) -> int:
    from headgate.command.printing import say, say_json, say_table
    from headgate.command.views.letters import COLUMNS, row

    if place.json:
        say_json({"would_requeue": [one.id for one in found]})
        return 0
    if found:
        say_table(COLUMNS, [row(one) for one in found])
    say(f"would put back {len(found)} records{'; nothing is done yet: add --yes' if found else ''}")
    return 0


def _put_back(client: Client, letters: DeadLetters, found: FoundLetter, again: bool) -> dict[str, Any]:
    """Put one record back; return what came of it, for people and for scripts."""
    from headgate.answering import wait_for_answer
    from headgate_graphs.errors import UserError

    said: dict[str, Any] = {"id": found.id, "done": False, "where": None, "answer": ""}
    try:
        delivery = letters.requeue(found, again=again)
    except UserError as refused:
        return said | {"answer": str(refused)}
    said |= {"done": True, "where": f"{found.letter.topic}/{delivery.partition}@{delivery.offset}"}
    answer = wait_for_answer(client.log, client.topics, found.letter.tenant_id, delivery)
    if answer.refusal is not None:
        return said | {"answer": f"put aside again: {answer.refusal.reason}: {answer.refusal.detail}"}
    return said | {"answer": "a gate has acted on it" if answer.is_read else "no gate has read it yet"}


def _told(place: Place, done: list[dict[str, Any]]) -> int:
    """Say what came of each; the exit code is 2 when one was not put back or was put aside again."""
    from headgate.command.faults import ExitCode
    from headgate.command.printing import say, say_json

    if place.json:
        say_json(done)
    for one in () if place.json else done:
        say(
            f"{one['id']}: put back at {one['where']}; {one['answer']}" if one["done"] else str(one["answer"])
        )
    if not done and not place.json:
        say("no dead letters to put back")
    refused = any(not one["done"] or one["answer"].startswith("put aside again") for one in done)
    return int(ExitCode.USER_ERROR) if refused else 0


def _said(plans: list[Purge]) -> list[dict[str, int]]:
    return [
        {"partition": one.partition, "before_offset": one.before, "letters": one.letters, "kept": one.kept}
        for one in plans
    ]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    dlq = typer.Typer(
        no_args_is_help=True, help="Look at dead letters, records that could not be acted on, and mend them."
    )
    verb(dlq, "list", example="headgate dlq list --every-tenant --reason DECODE --since 2h")(dlq_list)
    verb(dlq, "show", example="headgate dlq show 3:17 --json")(dlq_show)
    verb(
        dlq,
        "requeue",
        example="""headgate dlq requeue 3:17
        headgate dlq requeue --reason WRONG_PARTITION --since 1d --yes""",
    )(dlq_requeue)
    verb(dlq, "purge", example="headgate dlq purge --every-tenant --before 7d --yes")(dlq_purge)
    app.add_typer(dlq, name="dlq")
