"""A client on a log in memory, and the command as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.client import Client
from headgate.command.main import main
from headgate.settings import open_settings


@pytest.fixture
def client() -> Iterator[Client]:
    with Client.open(open_settings({"local": Path(":memory:")})) as opened:
        opened.create_topics()
        yield opened


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command in a new directory and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run
