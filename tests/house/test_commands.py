"""The commands that the pages name exist, and the automation runs the ones that people run."""

from __future__ import annotations

import re

from tests.house.tree import ROOT

TARGETS = {
    *("setup", "demo", "test", "test-unit", "check", "fmt", "help", "lock", "install-deps", "clean"),
    *("proto-gen", "proto-lint", "proto-check", "proto-clean"),
    *("kafka-up", "kafka-down", "s3-up", "s3-down"),
}


def makefile_targets() -> set[str]:
    """Return every target of the Makefile that help explains."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_makefile_offers_and_explains_its_targets() -> None:
    assert makefile_targets() >= TARGETS


def test_pages_name_only_targets_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        target
        for page in pages
        for line in re.findall(r"(?:^|`|\$ )make ([a-z0-9 -]+)", page.read_text(), flags=re.MULTILINE)
        for target in line.split()[:1]
    }
    assert named <= makefile_targets()


def test_automation_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^make [a-z-]+$", script, flags=re.MULTILINE)
    assert commands == ["make check", "make test"]
    assert [command for command in commands if command not in readme] == []
