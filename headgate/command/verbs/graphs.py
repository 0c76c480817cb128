"""Agent graphs: graph validate, show, diff, register."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

GraphPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A directory with graph.yaml; a YAML, DOT or Python file.")
]


class GraphFormat(StrEnum):
    """How a graph is shown."""

    YAML = "yaml"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"
    SCHEMA = "schema"


def graph_validate(
    place: Place,
    path: GraphPath,
    handlers: Annotated[
        list[Path] | None,
        typer.Option("--handlers", metavar="PATH", help="Check that these serve every node too; repeatable."),
    ] = None,
) -> int:
    """Check a graph as a whole and show all faults at once; exit code 2 when there are any."""
    from headgate.command.faults import ExitCode
    from headgate.command.printing import say, say_json
    from headgate_graphs.errors import UserError
    from headgate_graphs.loading import load_graph

    try:
        graph = load_graph(path)
    except UserError as invalid:
        if not place.json and len(invalid.faults) < 2:
            raise
        faults = list(invalid.faults) or [str(invalid)]
        if place.json:
            say_json({"valid": False, "faults": faults})
        for fault in () if place.json else faults:
            typer.echo(fault, err=True)
        return int(ExitCode.USER_ERROR)
    if handlers:
        from headgate.handlers import check_handlers, registry_of

        check_handlers(graph, registry_of(handlers), str(path))
    name = f"{graph.metadata.id} {graph.metadata.version}"
    counts = {"tasks": len(graph.tasks), "plans": len(graph.plans), "edges": len(graph.edges)}
    if place.json:
        say_json({"valid": True, "graph": graph.metadata.id, "version": graph.metadata.version} | counts)
    else:
        say(f"{path}: {name} is valid: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0


def graph_show(
    place: Place,
    path: GraphPath,
    format: Annotated[GraphFormat, typer.Option("--format", help="How to write it.")] = GraphFormat.YAML,
) -> None:
    """Write a graph as YAML, a Mermaid or DOT drawing, canonical JSON, or the JSON Schema for editors."""
    from headgate_graphs import dump_yaml, load_graph, to_dot, to_mermaid

    graph = load_graph(path)
    if format is GraphFormat.SCHEMA:
        from headgate.command.printing import say_json
        from headgate_graphs.schema import graph_json_schema

        say_json(graph_json_schema())
        return
    if place.json or format is GraphFormat.JSON:
        typer.echo(graph.canonical_json())
        return
    written = {GraphFormat.MERMAID: to_mermaid, GraphFormat.DOT: to_dot}.get(format, dump_yaml)(graph)
    typer.echo(written.rstrip("\n"))


def graph_diff(
    place: Place,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The graph as it was, in any of its forms.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The graph as it is now.")],
) -> None:
    """Show what changed from one graph to another: nodes, edges and fields, a line each."""
    from headgate.command.printing import say, say_json
    from headgate_graphs.diff import diff
    from headgate_graphs.documents import show_path
    from headgate_graphs.loading import load_graph

    changes = diff(load_graph(old), load_graph(new))
    if place.json:
        say_json([change._asdict() | {"path": show_path(change.path)} for change in changes])
        return
    for change in changes:
        say(str(change))
    if not changes:
        say("the graphs are equal")


def graph_register(place: Place, path: GraphPath) -> None:
    """Register a graph version for a tenant, so that `start` may name it."""
    from headgate.command.answers import answer_or_refuse, as_data, outlook
    from headgate.command.printing import say, say_json
    from headgate.definitions import register_new
    from headgate_graphs.loading import load_graph

    settings = place.settings()
    graph = load_graph(path).for_tenant(settings.tenant)
    queues = tuple(sorted({node.config.queue for node in graph.nodes.values() if node.config.queue}))
    name = f"graph {graph.metadata.id} {graph.metadata.version}"
    with place.client(settings, queues) as client:
        delivery = register_new(client, graph)
        answer = answer_or_refuse(client, settings.tenant, delivery, name) if delivery else None
    if place.json:
        said = {"graph": graph.metadata.id, "version": graph.metadata.version, "tenant": settings.tenant}
        say_json(said | {"registered": answer is not None} | (as_data(answer) if answer is not None else {}))
    elif answer is None:
        say(f"already registered: {name} for tenant {settings.tenant}")
    else:
        say(f"registered: {name} for tenant {settings.tenant}: {outlook(answer)}")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    graph = typer.Typer(no_args_is_help=True, help="Check, show, compare and register agent graphs.")
    verb(graph, "validate", example="headgate graph validate demo --handlers demo")(graph_validate)
    verb(graph, "show", example="headgate graph show demo --format mermaid")(graph_show)
    verb(graph, "diff", example="headgate graph diff review.yaml review.dot")(graph_diff)
    verb(graph, "register", example="headgate graph register demo --kafka localhost:9092 --tenant acme")(
        graph_register
    )
    app.add_typer(graph, name="graph")
