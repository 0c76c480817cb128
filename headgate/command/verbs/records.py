"""Topics and what ended up beside them: topics create, list; dlq list, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.observing import FoundLetter

Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", metavar="NAME", help="A named queue that nodes use; give it again for more."),
]


def topics_create(place: Place, queue: Queues = None) -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    from headgate.client import Client
    from headgate.command.printing import say, say_json

    settings = place.settings()
    with Client.open(settings) as client:
        made = client.create_topics(tuple(queue or ()))
    if place.json:
        say_json({"created": made, "partitions": settings.partitions})
    else:
        say(
            f"created {', '.join(made)} with {settings.partitions} partitions"
            if made
            else "every topic exists"
        )


def topics_list(place: Place, queue: Queues = None) -> None:
    """List Headgate's topics: partitions, records, configuration."""
    from headgate.client import Client
    from headgate.command.printing import say_json, say_table
    from headgate_streams.port import TopicPartition

    settings = place.settings()
    with Client.open(settings) as client:
        wanted = [one.name for one in client.topics.descriptions(settings.partitions, tuple(queue or ()))]
        found = client.log.describe(wanted)
        parts = [TopicPartition(name, n) for name, topic in found.items() for n in range(topic.partitions)]
        spans = client.log.offsets(parts)
    records = {
        name: sum(end - begin for where, (begin, end) in spans.items() if where.topic == name)
        for name in found
    }
    if place.json:
        said = ((topic, records[name]) for name, topic in found.items())
        say_json(
            [topic._asdict() | {"config": dict(topic.config), "records": count} for topic, count in said]
        )
        return
    rows = [
        (name, str(found[name].partitions) if name in found else "missing", str(records.get(name, "")))
        for name in wanted
    ]
    say_table(("topic", "partitions", "records"), rows, right=("partitions", "records"))


def dlq_list(
    place: Place,
    every_tenant: Annotated[
        bool, typer.Option("--every-tenant", help="Of every tenant, and those that name none.")
    ] = False,
) -> None:
    """List the records that could not be acted on, and why; `dlq show` shows one whole."""
    from headgate.command.printing import say, say_json, say_table
    from headgate.words import moment

    settings = place.settings()
    with place.client(settings) as client:
        found = list(client.observer.dead_letters(None if every_tenant else settings.tenant))
    if place.json:
        say_json([_letter(one) for one in found])
    elif not found:
        say("no dead letters" if every_tenant else f"no dead letters of tenant {settings.tenant}")
    else:
        rows = [
            (
                f"{one.partition}:{one.offset}", moment(one.when_ms), one.letter.tenant_id, one.letter.reason,
                f"{one.letter.topic}/{one.letter.partition}@{one.letter.offset}", one.letter.detail,
            )
            for one in found
        ]  # fmt: skip
        say_table(("id", "when", "tenant", "reason", "record", "detail"), rows)


def dlq_show(
    place: Place,
    letter: Annotated[str, typer.Argument(metavar="ID", help="The id that `dlq list` shows, such as 3:17.")],
) -> None:
    """Show one dead letter whole: where the record stood, why it was put aside, its bytes."""
    from headgate.command.printing import say, say_json
    from headgate_graphs.errors import UserError

    settings = place.settings()
    with place.client(settings) as client:
        found = [one for one in client.observer.dead_letters() if f"{one.partition}:{one.offset}" == letter]
    if not found:
        raise UserError(f"no dead letter {letter[:64]!a}: see `headgate dlq list --every-tenant`")
    shown = _letter(found[0])
    if place.json:
        say_json(shown)
        return
    for name, value in shown.items():
        say(f"{name}: {value}")


def _letter(found: FoundLetter) -> dict[str, Any]:
    from headgate.words import moment

    letter = found.letter
    return {
        "id": f"{found.partition}:{found.offset}",
        "when": moment(found.when_ms),
        "tenant": letter.tenant_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "appended_at": moment(letter.appended_at),
        "key": ascii(letter.key)[2:-1],
        "value_size_bytes": letter.value_size_bytes,
        "value": ascii(letter.value)[2:-1],
    }


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    topics = typer.Typer(no_args_is_help=True, help="Create and list the topics.")
    verb(topics, "create", example="headgate topics create --kafka localhost:9092 --queue gpu")(topics_create)
    verb(topics, "list", example="headgate topics list --json")(topics_list)
    app.add_typer(topics, name="topics")
    dlq = typer.Typer(no_args_is_help=True, help="Look at dead letters: records that could not be acted on.")
    verb(dlq, "list", example="headgate dlq list --every-tenant")(dlq_list)
    verb(dlq, "show", example="headgate dlq show 3:17 --json")(dlq_show)
    app.add_typer(dlq, name="dlq")
