"""Makes a project to begin with, and says what this installation is: init, config, version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from headgate.command.place import Place
from headgate.command.verb import verb

TEMPLATE_NAME = "headgate-demo"
"""Name of the graph and the policy in the template; `init` puts the project's own in its place."""


def init(
    place: Place,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory to make; it may exist if it is empty.")
    ],
) -> None:
    """Make a small project that runs at once: a graph, handlers, a policy and a test.

    It needs no network and no model. It shows a loop of a task and a plan, spend, and a budget.
    """
    from headgate.command.printing import say, say_json

    files = _write_template(directory)
    if place.json:
        say_json({"directory": str(directory), "files": files})
        return
    say(f"made {directory}: {', '.join(files)}")
    say(f"next:  headgate run {directory}     and its test:  pytest {directory}")


def _write_template(directory: Path) -> list[str]:
    """Copy the template, nothing is ever overwritten; return the names of the files."""
    from importlib.resources import files

    from headgate_graphs.errors import UserError

    name = _project_name(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UserError(f"{directory} is not empty: name a new directory")
        made = []
        for source in sorted(
            files("headgate.templates").joinpath("demo").iterdir(), key=lambda one: one.name
        ):
            if not source.is_file() or source.name.endswith(".pyc"):
                continue
            text = source.read_text(encoding="utf-8").replace(TEMPLATE_NAME, name)
            (directory / source.name).write_text(text, encoding="utf-8")
            made.append(source.name)
    except OSError as error:
        raise UserError(f"{directory}: cannot make the project: {error.strerror}") from None
    return made


def _project_name(directory: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", directory.resolve().name).strip("-._")[:64]
    return name or "demo"


def config(place: Place) -> None:
    """Show the settings as they are in force, secrets masked; each is HEADGATE_<NAME> in the environment."""
    from headgate.command.printing import say_json, say_table

    settings = place.settings()
    values = {name: _shown(name, value) for name, value in settings.model_dump(mode="json").items()}
    if place.json:
        say_json(values)
        return
    rows = [(name, f"HEADGATE_{name.upper()}", str(value)) for name, value in values.items()]
    say_table(("setting", "environment", "value"), rows)


_SECRET = re.compile(
    r"secret|password(?!_file)|passwd|token|credential|sasl\.jaas|oauthbearer|key\.pem|private", re.IGNORECASE
)
"""What a setting or a client's option is called whose value is not for showing; a file's name is."""


def _shown(name: str, value: object) -> object:
    """Return a setting's value as it may be shown: what looks like a secret is masked, in URLs too."""
    if isinstance(value, dict):
        return {key: _shown(str(key), inner) for key, inner in value.items()}
    if value and _SECRET.search(name):
        return "********"
    if isinstance(value, str):
        return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", r"\1:********@", value)
    return value


def version(place: Place) -> None:
    """Show the versions of Headgate, Python and what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from headgate import __version__
    from headgate.command.printing import say, say_json

    said = {"headgate": __version__, "python": platform.python_version()}
    for package in ("confluent-kafka", "protobuf", "pydantic", "cel-expr-python"):
        try:
            said[package] = version(package)
        except PackageNotFoundError:
            said[package] = "missing"
    if place.json:
        say_json(said)
    else:
        say("  ".join(f"{name} {number}" for name, number in said.items()))


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    verb(app, "init", example="headgate init demo && headgate run demo")(init)
    verb(app, "config", example="headgate config --json")(config)
    verb(app, "version", example="headgate version")(version)
