"""`headgate replay` on what gates and workers have left: on both logs, and in an archive on MinIO."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from headgate.command.main import main
from headgate_streams.settings import StreamSettings
from tests.e2e.semantics import graph, loop, policy, rule, visits
from tests.e2e.stage import PARTITIONS
from tests.integration.resilience.systems import running, tenant_of
from tests.real_servers import S3Server

FORK = graph("p parallel ta,tb", "ta,tb join j", "j final", id="fork", p=visits("ta,tb"))
GRAPH = loop(4).model_copy(update={"metadata": loop().metadata.model_copy(update={"id": "loop"})})
WATCHED = policy(rule("tokens", limit={"tokens_used": 250}, action="warn"))
TENANTS = ("acme", "globex", "initech")


def worked(settings: StreamSettings, name: str) -> None:
    """Let three tenants work on gate and workers that are stopped then, with a checkpoint."""
    with running(settings) as stage:
        for tenant in TENANTS:
            run = tenant_of(stage, tenant, GRAPH, FORK, WATCHED)
            run.start(lifetime=f"loop-{name}", graph="loop")
            run.start(lifetime=f"fork-{name}", graph="fork")
            run.becomes("completed", f"loop-{name}")
            run.becomes("completed", f"fork-{name}")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command answers on some settings, and its exit code."""

    def answer(settings: StreamSettings, *arguments: str) -> tuple[int, dict[str, Any]]:
        where = ["--kafka", settings.kafka] if settings.kafka else ["--local", str(settings.local)]
        where = where if "--archive" not in arguments else []
        monkeypatch.setenv("HEADGATE_TOPIC_PREFIX", settings.topic_prefix)
        monkeypatch.setenv("HEADGATE_PARTITIONS", str(settings.partitions))
        monkeypatch.setenv("HEADGATE_BLOB_URL", (settings.local / "blobs").as_uri())
        capsys.readouterr()
        code = main(["replay", "verify", "--json", *where, *arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {"error": err}

    return answer


def _environment(minio: S3Server) -> dict[str, str]:
    """Return the settings by which the command reaches the store."""
    return {
        "HEADGATE_S3_ENDPOINT_URL": minio.endpoint_url,
        "HEADGATE_S3_ACCESS_KEY_ID": minio.access_key,
        "HEADGATE_S3_SECRET_ACCESS_KEY": minio.secret_key,
    }


@pytest.mark.kafka
@pytest.mark.minio
def test_kafka_and_its_archive_have_no_divergence(
    kafka_bootstrap: str,
    minio: S3Server,
    topic_prefix: str,
    tmp_path: Path,
    said: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = StreamSettings.read(
        kafka=kafka_bootstrap, local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix
    )
    worked(settings, "one")
    worked(settings, "two")
    code, whole = said(settings, "--processes", "2")
    assert (code, whole["divergences"]) == (0, []), whole
    assert whole["compared"] > 100
    assert whole["states"] >= 1
    code, part = said(settings, "--from-checkpoint", "--from", "3", "--tenant", "acme", "--rate", "100000")
    assert (code, part["divergences"]) == (0, [])
    assert 0 < part["compared"] < whole["compared"]
    bucket = minio.bucket()
    for name, value in _environment(minio).items():
        monkeypatch.setenv(name, value)
    url = f"s3://{bucket}/audit"
    assert main(["audit", "export", url, "--kafka", kafka_bootstrap]) == 0
    code, archived = said(settings, "--archive", url, "--processes", "2")
    assert (code, archived["divergences"]) == (0, [])
    assert archived["compared"] == whole["compared"]
    (tmp_path / "live.yaml").write_text(WATCHED.canonical_json())
    tried = [
        _backtested(tmp_path / "live.yaml", where, capsys)
        for where in (["--kafka", kafka_bootstrap], ["--archive", url])
    ]
    assert tried[0] == tried[1]
    assert tried[0]["drafts"][0]["verdicts"] == tried[0]["live"]["verdicts"] != []
    assert tried[0]["drafts"][0]["saved"] == {"tokens": 0, "cost_nano_usd": 0}


def _backtested(draft: Path, where: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what a backtest says, but for the time it took."""
    capsys.readouterr()
    assert main(["replay", "backtest", f"--policy={draft}", "--json", *where]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {name: value for name, value in found.items() if name != "cpu_seconds"}


def test_one_byte_of_a_control_event_is_found_on_the_embedded_log(
    tmp_path: Path, topic_prefix: str, said: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix)
    worked(settings, "one")
    code, sound = said(settings, "--processes", "2")
    assert (code, sound["divergences"], sound["processes"]) == (0, [], 2)
    with sqlite3.connect(tmp_path / "log.sqlite3") as database:
        topic = f"{topic_prefix}.control-events"
        row_id, value = database.execute(
            "SELECT r.id, r.value FROM records r JOIN partitions p ON r.id >> 44 = p.id WHERE p.topic = ?",
            (topic,),
        ).fetchone()
        place = value.index(b"tokens")
        changed = value[:place] + b"tokenS" + value[place + 6 :]
        database.execute("UPDATE records SET value = ? WHERE id = ?", (changed, row_id))
    database.close()
    report = tmp_path / "report.json"
    code, found = said(settings, "--processes", "2", "--report", str(report))
    assert code == 1
    assert json.loads(report.read_text()) == found
    (one,) = found["divergences"]
    assert (one["kind"], one["message"], one["where"].split("[")[0]) == ("differs", "ExecutionEvent", topic)
    assert one["differences"] == ['-   rule: "tokenS"', '+   rule: "tokens"']
    assert main(["replay", "verify", "--local", str(tmp_path), "--processes", "1"]) == 1
    assert "is not what the fold says" in capsys.readouterr().out


def test_a_bug_of_this_binary_is_found(
    tmp_path: Path, topic_prefix: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix)
    worked(settings, "one")
    monkeypatch.setenv("HEADGATE_FOLD_FAILS_FOR", "globex")
    code, found = said(settings, "--processes", "2")
    (one,) = found["divergences"]
    assert (code, one["kind"]) == (1, "failed")
    assert "globex" in one["detail"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "soon"], "--from: 'soon' is neither"),
        (["--partition", "99"], "there is no partition 99"),
        (["--tenant", "acme", "--partition", "0", "--partition", "1"], "and in no other"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, topic_prefix: str, said: Any, arguments: list[str], words: str
) -> None:
    from headgate_streams.opening import open_log

    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix)
    log = open_log(settings)
    log.create_topics(settings.topics().descriptions(PARTITIONS))
    log.close()
    code, answer = said(settings, *arguments)
    assert code == 2
    assert words in answer["error"]
    assert answer["error"].count("\n") == 1


def test_a_draft_is_tried_on_what_has_happened(
    tmp_path: Path, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix)
    worked(settings, "one")
    monkeypatch.setenv("HEADGATE_TOPIC_PREFIX", topic_prefix)
    draft = policy(rule("tokens", limit={"tokens_used": 250}, action="abort_lifetime"), version=2)
    (tmp_path / "draft.yaml").write_text(draft.canonical_json())
    (tmp_path / "live.yaml").write_text(WATCHED.canonical_json())
    drafts = [f"--policy={tmp_path / name}" for name in ("live.yaml", "draft.yaml")]
    arguments = ["replay", "backtest", *drafts, f"--local={tmp_path}", f"--plot={tmp_path / 'spend.svg'}"]
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    live, strict = found["drafts"]
    assert live["verdicts"] == found["live"]["verdicts"]
    assert live["saved"] == {"tokens": 0, "cost_nano_usd": 0}
    assert strict["completed_runs_stopped"] == len(TENANTS)
    # Two of four tasks of each loop: the third asks for 100 tokens more than the 200 that are spent.
    assert strict["saved"] == {"tokens": 200 * len(TENANTS), "cost_nano_usd": 200_000_000 * len(TENANTS)}
    assert "<svg" in (tmp_path / "spend.svg").read_text()
    assert main(arguments) == 0
    assert "3 runs that completed would have been stopped" in capsys.readouterr().out
    assert main(["replay", "backtest", *drafts, f"--local={tmp_path}", "--plot=spend.gif"]) == 2
