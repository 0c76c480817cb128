"""`replay what-if`: what it says of a recorded run, and the one line when there is nothing to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.client import Client
from headgate.settings import open_settings
from tests.unit.headgate import records

Command = Callable[..., tuple[int, str, str]]
HEAD = "apiVersion: headgate/v1\nkind: PriceTable\nmetadata: {name: %s, version: 2}\n"
ASKED = ("replay", "what-if", "--prices", "summer.yaml")


@pytest.fixture
def recorded(command: Command) -> Command:
    """The command where a run is recorded, twice reported, with another one of a model nobody priced."""
    Path("summer.yaml").write_text(HEAD % "summer" + "models:\n  big: {input: 2.00, output: 8.00}\n")
    Path("free.yaml").write_text(HEAD % "free" + "models:\n  big: {input: 0, output: 0}\n")
    with Client.open(open_settings({"local": Path(".headgate")})) as client:
        client.create_topics()
        records.publish_view(client, records.view(records.RUNNING, 0))
        for number, (model, run_id) in enumerate((("big", "a"), ("big", "a"), ("other", "b"))):
            done = records.task_done(iteration=number + 1, run_id=run_id)
            done.resource_usage.model = model
            done.resource_usage.input_tokens, done.resource_usage.output_tokens = 8, 2
            records.report(client, done)
    return command


def test_a_recorded_run_is_priced_by_two_tables(recorded: Command) -> None:
    code, out, err = recorded(*ASKED, "--prices", "free.yaml", "--by", "model", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    rows = {row["model"]: row for row in found["rows"]}
    assert rows["big"] == {
        "model": "big",
        "runs": 1,
        "cost_nano_usd": 10_000_000,
        "repriced": [
            {"table": "summer@2", "cost_nano_usd": 32_000, "difference_nano_usd": -9_968_000},
            {"table": "free@2", "cost_nano_usd": 0, "difference_nano_usd": -10_000_000},
        ],
    }
    assert [one["difference_nano_usd"] for one in rows["other"]["repriced"]] == [0, 0]
    assert found["tables"][0] == {
        "table": "summer@2",
        "repriced_runs": 1,
        "kept": {"unnamed_model": {"runs": 1, "cost_nano_usd": 10_000_000}},
        "unnamed_models": {"other": {"runs": 1, "cost_nano_usd": 10_000_000}},
    }
    spent = json.loads(recorded("spend", "--by", "model", "--json")[1])
    assert {key: found["total"][key] for key in ("runs", "cost_nano_usd")} == {
        key: spent["total"][key] for key in ("runs", "cost_nano_usd")
    }


def test_people_read_what_differs_and_what_is_kept(recorded: Command) -> None:
    code, out, _ = recorded(*ASKED)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "graph runs recorded summer@2 difference" in lines
    assert "total 2 $0.02 $0.010032 -$0.009968" in lines
    assert lines[-2:] == [
        "summer@2: 1 runs are priced anew, -$0.009968 in all",
        "1 runs of models that the table does not name keep $0.01: other",
    ]


def test_an_archive_says_the_same_as_its_log(recorded: Command, tmp_path: Path) -> None:
    url = (tmp_path / "archive").as_uri()
    assert recorded("audit", "export", url)[0] == 0
    assert recorded(*ASKED, "--archive", url) == recorded(*ASKED)


def test_an_empty_range_is_one_line(recorded: Command) -> None:
    assert recorded(*ASKED, "--to", "2020-01-01") == (
        0,
        "nothing to price: tenant default has spent nothing in this range\n",
        "",
    )
    code, out, _ = recorded(*ASKED, "--from", "2020-01-01", "--to", "2020-01-02", "--by", "tenant", "--json")
    assert (code, json.loads(out)["rows"], json.loads(out)["total"]["cost_nano_usd"]) == (0, [], 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prices", "missing.yaml"), "missing.yaml: No such file"),
        (("--prices", "summer.yaml"), "two tables are summer@2"),
        (("--from", "1h", "--to", "2h"), "--to must be after --from"),
        (("--from", "soon"), "--from: 'soon' is neither"),
        (("--local", "nowhere"), "no log is in nowhere"),
        (("--by", "weather"), "'weather' is not one of"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    recorded: Command, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = recorded(*ASKED, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
