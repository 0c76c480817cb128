"""The way in: builds the command from its verbs, runs it, and answers every error with one line."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from headgate.command.faults import ExitCode, complain, report
from headgate.command.logs import show_logs
from headgate.command.verbs import (
    audit,
    catalog,
    chaos,
    check,
    control,
    dlq,
    graphs,
    keys,
    lifetimes,
    loadtest,
    logic,
    policies,
    project,
    replay,
    run,
    serve,
    status,
    tenants,
    timeline,
    topics,
)

HELP = """Run agent graphs on Kafka, or on an embedded log, behind a gate that holds every budget.

Begin here:  [cyan]headgate init demo && headgate run demo[/cyan]
"""

app = typer.Typer(
    name="headgate",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from headgate import __version__

        typer.echo(f"headgate {__version__}")
        raise typer.Exit


@app.callback()
def headgate(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options before the verb."""


for subject in (
    *(run, serve, status, timeline, lifetimes, control, graphs, policies),
    *(catalog, topics, tenants, keys, logic, dlq, audit, replay, check, chaos, loadtest, project),
):
    subject.add_to(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code (see `faults.ExitCode`)."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    show_logs(debug=debug)
    try:
        return int(app(given, prog_name="headgate", standalone_mode=False) or 0)
    except BrokenPipeError:
        _silence_stdout()
        return int(ExitCode.BROKEN)
    except (Exception, KeyboardInterrupt) as error:
        if _is_usage(error):
            return _usage(error)
        return report(error, debug=debug)


def _is_usage(error: BaseException) -> bool:
    return hasattr(error, "format_message")


def _usage(error: Any) -> int:
    """Answer a mistyped command; asking for nothing at all is answered with the help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(f"{error.format_message()}\n")
        return int(ExitCode.USER_ERROR)
    path = context.command_path if context is not None else "headgate"
    message = " ".join(str(error.format_message()).split())
    complain(f"{message if message.endswith('?') else message.rstrip('.') + '.'} See `{path} --help`")
    return int(ExitCode.USER_ERROR)


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader of our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
