"""The commands that the pages name exist, and the automation runs the ones that people run."""

from __future__ import annotations

import re

from tests.house.tree import ROOT

TARGETS = {
    *("setup", "demo", "test", "test-unit", "check", "fmt", "help", "lock", "install-deps", "clean"),
    *("proto-gen", "proto-lint", "proto-check", "proto-clean"),
    *("chaos-long",),
    *("docs", "bench-rules"),
    *("kafka-up", "kafka-down", "s3-up", "s3-down"),
}


def makefile_targets() -> set[str]:
    """Return every target of the Makefile that help explains."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_makefile_offers_and_explains_its_targets() -> None:
    assert makefile_targets() >= TARGETS


def named_targets(page: str) -> set[str]:
    """Return the targets of `make` that a page names, in code: between back-quotes or in a fenced block."""
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL))
    return {
        *re.findall(r"^(?:\$ )?make ([a-z][a-z0-9-]*)", fenced, flags=re.MULTILINE),
        *re.findall(r"`make ([a-z][a-z0-9-]*)", page),
    }


def test_pages_name_only_targets_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert {target for page in pages for target in named_targets(page.read_text())} <= makefile_targets()


def test_automation_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^make [a-z-]+$", script, flags=re.MULTILINE)
    assert commands == ["make check", "make test"]
    assert [command for command in commands if command not in readme] == []
