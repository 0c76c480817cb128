"""The pages name settings, topics, codes, limits, files and commands as they are, and the tour runs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
from pydantic import BaseModel

from headgate.command.faults import ExitCode
from headgate.command.main import app
from headgate.embedded import Headgate
from headgate.settings import HeadgateSettings
from headgate_guardrails.fold import states
from headgate_guardrails.settings import GateSettings
from headgate_protos.v1.common_pb2 import ExecutionStatus, LifetimeStatus
from headgate_streams.topics import Topics
from headgate_workers.settings import WorkerSettings
from tests.house.pages import PAGES, blocks, code, table_of, tables
from tests.house.tree import PACKAGES, ROOT, product_modules

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
STATES = ROOT / "docs/states.md"


# Settings, topics, exit codes --------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [HeadgateSettings, WorkerSettings, GateSettings])
def test_every_setting_is_explained(settings: type[BaseModel]) -> None:
    table = table_of("settings", f"{settings.__module__}.{settings.__name__}")
    said = {code(row["setting"])[0]: row for row in table.rows}
    assert list(said) == list(settings.model_fields)
    assert {name: row["default"] for name, row in said.items()} == {
        name: _default(settings, name) for name in settings.model_fields
    }
    for name, row in said.items():
        assert row.get("environment", f"`HEADGATE_{name.upper()}`") == f"`HEADGATE_{name.upper()}`"


def _default(settings: type[BaseModel], name: str) -> str:
    field = settings.model_fields[name]
    if field.default_factory is not None and name == "name":
        return "host:pid"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    text = str(default) if isinstance(default, str | Path) else json.dumps(default)
    return f"`{text}`"


def test_every_topic_is_explained_as_it_is_made() -> None:
    described = {topic.name: topic for topic in Topics().descriptions(16)}
    rows = table_of("topics", "headgate").rows
    assert [code(row["topic"])[0] for row in rows] == list(described)
    for row in rows:
        topic = described[code(row["topic"])[0]]
        kept_ms = topic.config.get("retention.ms")
        kept = f"{int(kept_ms) // 86_400_000} days" if kept_ms else "newest of each key"
        assert (row["partitions"], row["cleanup"], row["kept"]) == (
            str(topic.partitions),
            topic.config["cleanup.policy"],
            kept,
        )


def test_every_exit_code_is_explained() -> None:
    rows = table_of("exits", "headgate.command.faults.ExitCode").rows
    assert {row["name"]: int(row["code"]) for row in rows} == {one.name: one.value for one in ExitCode}


# Codes that people meet --------------------------------------------------------------------------------


@cache
def product_text() -> str:
    return "\n".join(path.read_text() for path in product_modules())


def said_codes(subject: str) -> list[str]:
    rows = table_of("codes", subject).rows
    return [one for row in rows for one in code(next(iter(row.values())))]


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    raised = set(re.findall(r'BadRecord\(\s*"([A-Z_]+)"', product_text()))
    assert set(said_codes("letters")) == raised


def test_every_failure_of_an_execution_is_explained() -> None:
    given = set(re.findall(r'\bfailed\(\s*"([A-Z_]+)"', product_text()))
    given |= set(re.findall(r'^    code = "([A-Z_]+)"$', product_text(), flags=re.MULTILINE))
    assert given <= set(said_codes("failures"))


@pytest.mark.parametrize("subject", ["failures", "reasons"])
def test_no_page_explains_a_code_that_nobody_gives(subject: str) -> None:
    assert [one for one in said_codes(subject) if not re.search(rf'"{one}\b', product_text())] == []


# Limits ------------------------------------------------------------------------------------------------


def constants() -> list[Any]:
    rows = [row for table in tables("constants") for row in table.rows]
    return [pytest.param(row, id=code(row["constant"])[0]) for row in rows]


@pytest.mark.parametrize("row", constants())
def test_a_limit_is_what_the_page_says(row: dict[str, str]) -> None:
    path, name = code(row["file"])[0], code(row["constant"])[0]
    package = next(package for package in PACKAGES if (ROOT / path).is_relative_to(package))
    parts = (ROOT / path).relative_to(package.parent).with_suffix("").parts
    value = getattr(importlib.import_module(".".join(parts)), name)
    assert ast.literal_eval(code(row["value"])[0]) == value


# State machines ----------------------------------------------------------------------------------------


def test_the_page_on_states_is_the_one_that_is_made() -> None:
    assert STATES.read_text() == states.page(), "run `make docs`"


@pytest.mark.parametrize(
    ("table", "status"), [(states.LIFETIME, LifetimeStatus), (states.EXECUTION, ExecutionStatus)]
)
def test_a_state_machine_shows_every_status_and_no_other(table: Any, status: Any) -> None:
    shown = {state for one in table for state in one[:2] if state.isupper()}
    prefix = status.DESCRIPTOR.values[0].name.removesuffix("UNSPECIFIED")
    assert shown == {name.removeprefix(prefix) for name in status.keys()[1:]}


# Files -------------------------------------------------------------------------------------------------


def paths_in(page: Path) -> set[str]:
    """Return what a page names in code that looks like a file or a folder of this repository."""
    roots = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return {
        text
        for text in code(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))
        if re.fullmatch(r"[\w./-]+(\.py|\.proto|\.ya?ml|\.md|/)", text) and text.split("/")[0] in roots
    }


def test_the_map_names_files_that_exist() -> None:
    assert [path for path in sorted(paths_in(ARCHITECTURE)) if not (ROOT / path).exists()] == []


def test_the_map_names_every_folder_of_the_product() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() + "/" for path in product_modules()}
    folders -= {"protos/headgate_protos/"}
    assert folders <= paths_in(ARCHITECTURE)


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


# Commands ----------------------------------------------------------------------------------------------


def shown_commands() -> Iterator[str]:
    """Yield every call of the command in the code of the pages."""
    for page in PAGES:
        for block in blocks(page, ""):
            for line in re.findall(r"^(?:\$ )?(?:\S*/)?headgate (.*)$", block, flags=re.MULTILINE):
                yield line.removesuffix(" &").rstrip()
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        yield from (one.removeprefix("headgate ") for one in code(text) if one.startswith("headgate "))


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_a_command_on_a_page_exists_with_its_options(line: str) -> None:
    command: click.Command = typer.main.get_command(app)
    words = shlex.split(line)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    options = {word for word in words if word.startswith("--")}
    assert options <= known, line


def test_the_readme_lists_every_command() -> None:
    shown = {one for line in README.read_text().splitlines() if line.startswith("| `") for one in code(line)}
    group = typer.main.get_command(app)
    every = {
        f"headgate {name}" if sub is None else f"headgate {name} {sub}"
        for name, command in group.commands.items()
        for sub in getattr(command, "commands", {None: None})
    }
    assert shown == every


# The tour ----------------------------------------------------------------------------------------------


def test_the_tour_of_the_readme_runs_and_says_what_it_prints(tmp_path: Path) -> None:
    (tmp_path / "tour").mkdir()
    for block in [*blocks(README, "yaml"), *blocks(README, "python")]:
        first = block.partition("\n")[0]
        if first.startswith("# tour/"):
            (tmp_path / first.removeprefix("# ")).write_text(block)
    with Headgate(":memory:") as headgate:
        tour = tmp_path / "tour"
        outcome = headgate.run(tour, {"text": ""}, policy=tour / "policy.yaml", timeout_s=60)
    promised = re.search(r"# (\w+) (\d+)$", README.read_text(), flags=re.MULTILINE)
    assert promised
    assert (outcome.status, str(outcome.tokens_used)) == promised.groups()
