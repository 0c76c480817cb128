"""Long-lived processes: gate, worker task, worker plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate.settings import HeadgateSettings
    from headgate_graphs.model import NodeKind

Deadline = Annotated[
    float,
    typer.Option(
        "--deadline", metavar="SECONDS", min=0.1, help="How long stopping may take on SIGTERM or Ctrl-C."
    ),
]
RetryFor = Annotated[
    float,
    typer.Option(
        "--retry-for",
        metavar="SECONDS",
        min=0.0,
        help="How long to try again when the log is lost on the way; then it ends with exit code 1.",
    ),
]
Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH", help="Directories or modules with handlers; the ready ones are always there."
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue", metavar="NAME", help="Serve this named queue and not the default one; repeatable."
    ),
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", metavar="N", min=1, help="Handlers at once. (default 32)")
]
CheckpointEvery = Annotated[
    float,
    typer.Option(
        "--checkpoint-every",
        metavar="SECONDS",
        min=0.1,
        help="How often a partition with new records is checkpointed; a restart folds what came since.",
    ),
]


def gate(
    place: Place,
    checkpoint_every: CheckpointEvery = 60.0,
    deadline: Deadline = 10.0,
    retry_for: RetryFor = 60.0,
) -> None:
    """Run a gate until SIGTERM or Ctrl-C; run several, they share the partitions.

    A gate admits and dispatches work, holds budgets, and moves every lifetime on. A log that cannot be
    reached at the start is exit code 2; one that is lost later is tried again, and then exit code 1.
    """
    from headgate.command.service import serve
    from headgate.embedding import gate_service
    from headgate_guardrails.settings import GateSettings

    settings, gate_settings = place.settings(), GateSettings(checkpoint_s=checkpoint_every)
    with place.client(settings) as client:
        line = f"gate ready: {_where(settings)}, topics {settings.topics().prefix}.*"
        serve(place, lambda: gate_service(client, settings, gate_settings), line, deadline, retry_for)


def worker_task(
    place: Place,
    paths: Paths = None,
    queue: Queues = None,
    concurrency: Concurrency = None,
    deadline: Deadline = 10.0,
    retry_for: RetryFor = 60.0,
) -> None:
    """Run a worker for Task nodes until SIGTERM or Ctrl-C."""
    from headgate_graphs.model import NodeKind

    _worker(place, NodeKind.TASK, paths or [], tuple(queue or ()), concurrency, (deadline, retry_for))


def worker_plan(
    place: Place,
    paths: Paths = None,
    queue: Queues = None,
    concurrency: Concurrency = None,
    deadline: Deadline = 10.0,
    retry_for: RetryFor = 60.0,
) -> None:
    """Run a worker for Plan nodes until SIGTERM or Ctrl-C."""
    from headgate_graphs.model import NodeKind

    _worker(place, NodeKind.PLAN, paths or [], tuple(queue or ()), concurrency, (deadline, retry_for))


def _worker(
    place: Place,
    kind: NodeKind,
    paths: list[Path],
    queues: tuple[str, ...],
    concurrency: int | None,
    times_s: tuple[float, float],
) -> None:
    from headgate.command.service import serve
    from headgate.embedding import worker_service
    from headgate.handlers import handler_types, registry_of

    settings = place.settings()
    registry = registry_of(paths)
    with place.client(settings, queues) as client:
        types = ", ".join(handler_types(registry, kind))
        line = f"{kind.value} worker ready: {_where(settings)}, handlers {types}"
        serve(
            place,
            lambda: worker_service(client, settings, kind, registry, queues, concurrency),
            line,
            *times_s,
        )


def _where(settings: HeadgateSettings) -> str:
    return f"kafka {settings.kafka}" if settings.kafka else f"local log {settings.local}"


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    verb(app, "gate", example="headgate gate --kafka localhost:9092")(gate)
    worker = typer.Typer(no_args_is_help=True, help="Run workers: they run the handlers of nodes.")
    verb(worker, "task", example="headgate worker task examples/coding_agent --kafka localhost:9092")(
        worker_task
    )
    verb(worker, "plan", example="headgate worker plan examples/coding_agent --kafka localhost:9092")(
        worker_plan
    )
    app.add_typer(worker, name="worker")
