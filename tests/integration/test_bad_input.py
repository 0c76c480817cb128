"""Every row of the table of bad input: what is thrown at a running system, and the answer it must get.

One gate, one worker of each kind and one broker serve all cases; what one of them breaks, the others meet.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.command.main import main
from tests.integration.bad_input import files, handling, records, results  # noqa: F401 - they fill ROWS
from tests.integration.bad_input.rows import ROWS, Case, Hand, Shell
from tests.integration.bad_input.yard import Yard, yard_on


@pytest.fixture(scope="module")
def yard(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    prefix = f"hg-{uuid.uuid4().hex[:12]}"
    with yard_on(kafka_bootstrap, prefix, tmp_path_factory.mktemp("yard")) as made:
        yield made


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


@pytest.mark.parametrize("case", ROWS)
def test_bad_input_gets_its_answer_and_nobody_else_notices(
    case: Case,
    yard: Yard,
    shell: Shell,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case(Hand(yard, shell, tmp_path, caplog, monkeypatch))
    yard.check()


def test_all_of_it_together_has_hurt_nobody(yard: Yard) -> None:
    """The last word: gate and workers that met every row above still do their work."""
    assert yard.others_go_on() < 20.0
