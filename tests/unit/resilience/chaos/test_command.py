"""The command: exit code 1 for a broken promise, 2 for what cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.command.main import main
from headgate_resilience.chaos import run
from headgate_resilience.chaos.report import ChaosReport
from headgate_resilience.chaos.run import Wanted


def reported(**more: object) -> ChaosReport:
    return ChaosReport(command="headgate chaos", seed=5, settings={}, began_at="2026-01-01", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, 0),
        ({"open": ["acme/loop-1"]}, 1),
        ({"broken": ["a forged result was taken"]}, 1),
        ({"failure": "LogUnavailable: nobody is there"}, 1),
    ],
)
def test_the_exit_code_says_whether_a_promise_was_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: dict[str, object], code: int
) -> None:
    wanted: list[Wanted] = []

    def played(given: Wanted, tell: object) -> ChaosReport:
        wanted.append(given)
        return reported(**found)

    monkeypatch.setattr(run, "run_chaos", played)
    arguments = [
        "chaos",
        "--kafka",
        "nowhere:1",
        "--fault",
        "F2",
        "--seed",
        "5",
        "--duration",
        "90s",
        "--json",
    ]
    assert main(arguments) == code
    assert json.loads(capsys.readouterr().out)["violated"] == bool(code)
    settings = wanted[0].settings
    assert (settings.seed, settings.duration_s, settings.out) == (5, 90.0, Path("chaos-5"))
    assert {fault.id for fault in wanted[0].faults} == {"F2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "F99"], "there is no fault 'F99'"),
        (["--duration", "soon"], "--duration"),
        (["--local", "here"], "chaos needs a broker"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert main(["chaos", "--out", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


def test_the_list_explains_every_fault_and_needs_no_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "--list", "--json"]) == 0
    listed = {one["id"] for one in json.loads(capsys.readouterr().out)}
    assert listed == {f"F{n}" for n in range(1, 22)}
