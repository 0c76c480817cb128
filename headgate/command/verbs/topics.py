"""The topics of one placement: topics create, list."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

Queues = Annotated[
    list[str] | None,
    typer.Option("--queue", metavar="NAME", help="A named queue that nodes use; give it again for more."),
]


def topics_create(place: Place, queue: Queues = None) -> None:
    """Create the topics that are missing; those that exist are left as they are.

    Without --tenant the shared ones; with it that tenant's own, for gates, workers and clients with the same
    --placement.
    """
    from headgate.client import Client
    from headgate.command.printing import say, say_json

    settings = _own(place).settings()
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
    """List Headgate's topics: partitions, records, configuration. With --tenant that tenant's own."""
    from headgate.client import Client
    from headgate.command.printing import say_json, say_table
    from headgate_streams.port import TopicPartition

    settings = _own(place).settings()
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


def _own(place: Place) -> Place:
    """Return a place in which a tenant that was asked for by --tenant means its own topics."""
    return place if place.tenant is None else replace(place, placement=place.placement or place.tenant)


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    topics = typer.Typer(no_args_is_help=True, help="Create and list the topics.")
    verb(
        topics,
        "create",
        example="""headgate topics create --kafka localhost:9092 --queue gpu
        headgate topics create --tenant acme""",
    )(topics_create)
    verb(topics, "list", example="headgate topics list --json")(topics_list)
    app.add_typer(topics, name="topics")
