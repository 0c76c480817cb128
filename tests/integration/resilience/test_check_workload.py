"""A mixed workload on gate and workers, on both logs, leaves a log in which the check finds no violation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.client import Client
from headgate.command.main import main
from headgate.words import TERMINAL, status_word
from headgate_resilience.check import Report, Verdict, check_log
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import partition_for
from tests.e2e.semantics import BILL, LIMITS, Run, graph, loop, policy, rule, visits
from tests.e2e.stage import PARTITIONS, Stage
from tests.integration.resilience.systems import append_again, archived, checked, running, serving, tenant_of
from tests.real_servers import S3Server
from tests.support import eventually

SLOW = {"type": "slow"}
GRAPHS = (
    loop(4).model_copy(update={"metadata": loop().metadata.model_copy(update={"id": "loop"})}),
    graph(
        "p parallel ta,tb,tc",
        "ta,tb,tc join j",
        "j normal tz",
        "tz normal p",
        "p final",
        id="fork",
        p=visits("ta,tb,tc", "ta,tb", "end"),
    ),
    graph(
        "p parallel ta,tb",
        "ta,tb join j",
        "j normal tz",
        "tz normal q",
        "q final",
        id="race",
        p=visits("ta,tb"),
        j={"join": {"strategy": "any", "late": "record"}},
        tb=SLOW,
        tz=SLOW,
    ),
    graph("t normal p", "p final", id="retry", t={"does": {"times": 2}, "type": "fail", "backoff": "20ms"}),
    graph("t normal p", "p final", id="broken", t={"type": "fail", "max_retries": 1, "backoff": "20ms"}),
    graph("t normal p", "p final", id="slow", t=SLOW | {"limits": LIMITS, "does": BILL}),
    graph("t normal p", "p final", id="above", t={"type": "graph", "does": {"graph": "loop"}}),
    graph("t normal p", "p final", id="person", t={"type": "human"}),
    graph("t normal p", "p final", id="large", t={"type": "grow", "does": {"bytes": 200_000}}),
    graph("t normal p", "p final", id="aside", t={"type": "aside", "queue": "side"}),
)
CAPS = policy(
    rule("tokens", limit={"tokens_used": 350}, action="pause_lifetime"),
    rule("day", scope="tenant", limit={"cost_usd": 500}, window="1d", action="pause_lifetime"),
    rule("visits", limit={"iterations": 30}),
)
QUICK = ("fork", "retry", "broken", "large", "aside")
EVERYTHING = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I9", "I10", "I11", "I12", "I13", "I14")
"""All but I8: a gate that never restarts repeats nothing."""


@pytest.fixture(params=["local", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.minio])])
def settings(request: pytest.FixtureRequest, tmp_path: Path, topic_prefix: str) -> StreamSettings:
    where = {"kafka": request.getfixturevalue("kafka_bootstrap")} if request.param == "kafka" else {}
    return StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix=topic_prefix, **where)


@pytest.fixture
def archive(request: pytest.FixtureRequest, settings: StreamSettings, tmp_path: Path) -> StreamSettings:
    """Settings that read an archive: of Kafka in a bucket, of the embedded log in files."""
    more: dict[str, str] = {"archive": (tmp_path / "archive").as_uri()}
    if settings.kafka is not None:
        server: S3Server = request.getfixturevalue("minio")
        more = {
            "archive": f"s3://{server.bucket()}/kept",
            "s3_endpoint_url": server.endpoint_url,
            "s3_access_key_id": server.access_key,
            "s3_secret_access_key": server.secret_key,
        }
    known = settings.model_dump(include={"local", "partitions", "topic_prefix"})
    # A broker that does not exist: an archive wins over it.
    blobs = (settings.local / "blobs").as_uri()
    return StreamSettings.read(**known, kafka="127.0.0.1:1", blob_url=blobs, **more)


def is_over(run: Run, lifetime: str) -> bool:
    view = run.view(lifetime)
    return view is not None and status_word(view.status) in TERMINAL


def work(run: Run) -> None:
    """Run everything once as one tenant, and what operators do in between."""
    secret = {"secret": f"canary-{run.tenant}-4711", "text": "echoed"}
    for name in ("paused", "aborted", "frozen"):  # first, as leased work waits for older plain work
        run.start(secret, name, graph="slow")
        run.begins("t", lifetime=name)
    for name in (*QUICK, "person", "loop", "above", "race"):
        run.start(secret, name, graph=name)
    run.pause("paused")
    run.abort("aborted")
    run.freeze("slow")
    run.begins("tz", lifetime="race")
    run.open("tb")
    run.waits_until(lambda: run.results("tb", "race"))
    run.open()
    run.waits_until(lambda: run.results("t", "frozen"))
    run.thaw("slow")
    run.resume("paused")
    run.waits_until(lambda: (view := run.view("person")) and view.waiting)
    asked = run.view("person")
    assert asked is not None
    run.answer(asked.waiting[0].execution_id, "approved", {"yes": 1}, "person")
    below = children(run)[0]
    for name in ("loop", "above"):
        run.becomes("paused", name)
    for name in ("loop", below, "above"):
        run.raise_budget("tokens_used", 10_000, "tokens", name)


def children(run: Run) -> list[str]:
    """Return the sub-graphs, once there is one."""

    def found() -> list[str]:
        from headgate_protos.v1.execution_pb2 import LifetimeView

        return sorted({s.message.lifetime_id for s in run.said(LifetimeView) if s.message.parent_lifetime_id})

    return eventually(found)


def repeat(run: Run) -> None:
    """Repeat a result and contradict one."""
    append_again(run, "tz", "fork")
    append_again(run, "tz", "fork", change=True)
    run.letters.append("CONFLICT")


def litter(client: Client, tenant: str) -> None:
    """Append rubbish to the log and to the inputs."""
    topics, producer, key = client.topics, client.log.producer(), tenant.encode()
    home = partition_for(tenant, PARTITIONS)
    headers = (("hg-type", b"ExecutionEnvelope"), ("hg-schema", b"1.0"), ("hg-tenant", key))
    producer.append(topics.executions, home, key=key, value=b"\xff" * 40, headers=headers)
    producer.append(topics.executions, home, key=key, value=None, headers=headers)
    producer.append(topics.executions, home, key=b"other", value=b"\x12\x04acme", headers=headers)
    producer.append(topics.executions, (home + 1) % PARTITIONS, key=None, value=b"{}", headers=())
    producer.append(topics.task_inputs(), home, key=b"x", value=b"not an input", headers=headers)
    producer.close()


def finish(run: Run) -> None:
    """Return when all is over."""
    names = (*QUICK, "race", "person", "loop", "above", "paused", "aborted", "frozen")
    for name in names:
        run.waits_until(lambda name=name: is_over(run, name))
    run.stage.check()


def live(stage: Stage, settings: StreamSettings) -> None:
    """Check the log while everything works."""
    report = check_log(stage.client.log, stage.client.blobs, settings, settled=False)
    assert not report.violated, "\n".join(report.lines())
    assert report.verdict("I14") is Verdict.NOT_CHECKED


def test_a_mixed_workload_leaves_no_violation(
    settings: StreamSettings, archive: StreamSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(settings) as stage:
        runs = [tenant_of(stage, tenant, *GRAPHS, CAPS) for tenant in ("acme", "globex")]
        for run in runs:
            work(run)
            live(stage, settings)
            archived(settings, archive)
            assert not checked(archive, settled=False).violated
        for run in runs:
            finish(run)
        repeat(runs[0])
        runs[0].barrier()
        live(stage, settings)
    with serving(settings) as client:
        litter(client, "acme")
    acknowledged = [(run.tenant, name) for run in runs for name in run._started]
    report = checked(settings, acknowledged=acknowledged, canaries={"acme": "canary-acme-4711"})
    print("\n".join(report.lines()))
    assert not report.violated
    assert {name for name in EVERYTHING if report.invariants[name].looked_at} == set(EVERYTHING)
    assert report.counts["starts"] == len(acknowledged)
    check_command(settings, tmp_path, capsys)
    archived(settings, archive)
    known = {"acknowledged": acknowledged, "canaries": {"acme": "canary-acme-4711"}}
    assert timeless(checked(archive, **known)) == timeless(report)
    same_commands(settings, archive, capsys)


def timeless(report: Report) -> dict[str, Any]:
    """Return all that a report says but how long it took."""
    said = report.to_json()
    said["figures"] = {name: value for name, value in said["figures"].items() if "second" not in name}
    return said


COMMANDS = (
    ["list"],
    ["status"],
    ["status", "loop"],
    ["timeline", "fork"],
    ["policy", "list"],
    ["dlq", "list"],
    ["keys", "list"],
)


def same_commands(
    settings: StreamSettings, archive: StreamSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the commands say of the archive is what they say of the log."""
    secret = archive.s3_secret_access_key
    variables = {
        "TOPIC_PREFIX": settings.topic_prefix,
        "PARTITIONS": str(settings.partitions),
        "BLOB_URL": archive.blob_url,
        "S3_ENDPOINT_URL": archive.s3_endpoint_url,
        "S3_ACCESS_KEY_ID": archive.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": secret.get_secret_value() if secret is not None else None,
    }
    where = ["--kafka", settings.kafka] if settings.kafka else ["--local", str(settings.local)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            if value is not None:
                patch.setenv(f"HEADGATE_{name}", value)
        for command in COMMANDS:
            said = []
            for place in (where, ["--archive", archive.archive or ""]):
                capsys.readouterr()
                assert main([*command, "--tenant", "acme", "--json", *place]) == 0, command
                said.append(json.loads(capsys.readouterr().out))
                if command == ["status"]:
                    said[-1].pop("running")  # an archive does not know who runs
            assert said[0] == said[1], command


def check_command(settings: StreamSettings, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says the same as the function."""
    where = ["--kafka", settings.kafka] if settings.kafka else ["--local", str(settings.local)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADGATE_TOPIC_PREFIX", settings.topic_prefix)
        patch.setenv("HEADGATE_PARTITIONS", str(settings.partitions))
        patch.setenv("HEADGATE_BLOB_URL", (settings.local / "blobs").as_uri())
        capsys.readouterr()
        assert main(["check", "--settled", "--json", "--report", str(folder / "report.json"), *where]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["violated"] is False
        assert said == json.loads((folder / "report.json").read_text())
        # A tenant that is told another's canary: exit code 1, and the place is named.
        assert main(["check", "--canary", "acme=canary-globex-4711", "--tenant", "globex", *where]) == 1
        assert "globex has a canary of acme" in capsys.readouterr().out
