"""`audit export`, `import` and `show`: what they say, and the one line when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.command.faults import ExitCode
from headgate.command.main import main
from headgate_streams.local_log import LocalLog
from headgate_streams.topics import Topics


class Desk:
    """Runs commands, and keeps what they say."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.log = folder / "log"
        self.url = (folder / "archive").as_uri()
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        self._capsys.readouterr()
        code = main(["audit", *arguments])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def export(self) -> Any:
        return self.json("export", self.url, "--local", str(self.log))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A log with three records, and no archive yet."""
    desk = Desk(tmp_path, capsys)
    log, topics = LocalLog(desk.log / "log.sqlite3"), Topics()
    log.create_topics(topics.descriptions(2))
    producer = log.producer()
    for number in range(3):
        producer.append(topics.executions, 0, key=b"k", value=b"%d" % number)
    producer.close()
    log.close()
    return desk


def test_an_export_says_what_it_did_and_the_next_one_that_nothing_is_new(desk: Desk) -> None:
    _, out, _ = desk.run("export", desk.url, "--local", str(desk.log))
    assert out == f"exported 3 records in 1 files: export 1 of {desk.url}\n"
    assert desk.export() == {
        **{"archive": desk.url, "export": 1, "records": 0, "files": 0},
        **{"new": False, "taken_up": False, "key_id": ""},
    }


def test_an_archive_is_shown_with_its_topics_and_its_signature(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["keys", "new", str(tmp_path / "ops.pem")])
    monkeypatch.setenv("HEADGATE_SIGNING_KEY", str(tmp_path / "ops.pem"))
    key_id = desk.export()["key_id"]
    _, out, _ = desk.run("show", desk.url)
    assert f"said to be signed by key {key_id}: name that key's file in HEADGATE_ARCHIVE_KEY" in out
    assert "every link holds: 3 records in 1 files" in out
    monkeypatch.setenv("HEADGATE_ARCHIVE_KEY", str(tmp_path / "ops.pub"))
    _, out, _ = desk.run("show", desk.url)
    assert f"signed by key {key_id}, which is the one it must be" in out
    found = desk.json("show", desk.url)
    assert (found["signature_checked"], found["is_under_way"], found["records"]) == (True, False, 3)
    assert {one["name"]: one["records"] for one in found["topics"]}["headgate.executions"] == 3


def test_a_broken_archive_is_one_line_with_the_place(desk: Desk, tmp_path: Path) -> None:
    desk.export()
    file = next((tmp_path / "archive").rglob("*.avro"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, out, err = desk.run("show", desk.url)
    assert (code, out) == (ExitCode.BROKEN, "")
    assert err == (
        "headgate: headgate.executions/0/0-3.avro: its bytes are not those that the manifest names (sha256)\n"
    )


def test_an_archive_comes_back_as_it_was(desk: Desk, tmp_path: Path) -> None:
    desk.export()
    done = desk.json("import", desk.url, "--local", str(tmp_path / "restored"))
    assert done == {
        **{"archive": desk.url, "records": 3, "keeps_times": True},
        **{"renumbered": [], "left_out": []},
    }
    code, _, err = desk.run("import", desk.url, "--local", str(tmp_path / "restored"))
    assert code == ExitCode.USER_ERROR
    assert err == "headgate: headgate.executions[0] has had 3 records: import into an empty log\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["export", "URL", "--local", "nowhere"], "no log is in nowhere: there is no such directory"),
        (["export", "somewhere", "--local", "LOG"], "archive: 'somewhere' is neither file:///dir nor s3:"),
        (["export", "URL", "--local", "LOG", "--rate", "-1"], "Invalid value for '--rate'"),
        (["show", "URL"], "there is no archive at URL: `headgate audit export` makes one"),
        (["import", "URL"], "there is no archive at URL"),
        (["export", "URL", "--local", "LOG", "--archive", "URL"], "--local and --archive exclude each other"),
        (["export", "URL", "--archive", "URL"], "there is no archive at URL"),
    ],
)
def test_what_is_wrong_is_one_line(desk: Desk, arguments: list[str], line: str) -> None:
    known = {"URL": desk.url, "LOG": str(desk.log)}
    code, out, err = desk.run(*(known.get(one, one) for one in arguments))
    assert (code, out) == (ExitCode.USER_ERROR, "")
    assert err.startswith(f"headgate: {line.replace('URL', desk.url)}")
    assert err.count("\n") == 1


def test_an_archive_wins_over_a_broker_unless_one_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.export()
    monkeypatch.setenv("HEADGATE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("HEADGATE_ARCHIVE", desk.url)
    for where in ([], ["--archive", desk.url]):
        capsys.readouterr()
        assert main(["topics", "list", "--json", *where]) == 0
        found = {one["name"]: one["records"] for one in json.loads(capsys.readouterr().out)}
        assert found["headgate.executions"] == 3
    monkeypatch.delenv("HEADGATE_KAFKA")
    assert main(["topics", "list", "--json", "--local", str(desk.log)]) == 0


def test_a_gate_does_not_run_on_an_archive(desk: Desk) -> None:
    desk.export()
    assert main(["gate", "--archive", desk.url]) == ExitCode.USER_ERROR
