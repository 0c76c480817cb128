"""What was sealed is nowhere in plain, and once erased nowhere at all; the log still verifies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.ranges import read_ranges
from headgate_streams.settings import StreamSettings
from tests.e2e.running import Answer, Place
from tests.real_servers import S3Server
from tests.support import eventually

SECRET = "canary-of-the-values-of-one-person"
GRAPH = """
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: letters, version: 1.0.0}
entry: below
tasks:
  - {id: below, type: graph, config: {params: {graph: inner}}}
  - {id: fail, type: fail, config: {max_retries: 0}}
plans:
  - {id: choose, type: choose}
  - {id: finish, type: finish}
edges:
  - {from: below, to: choose}
  - {from: choose, to: fail}
  - {from: fail, to: finish}
  - {from: finish, to: end, type: final}
"""
INNER = """
apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: inner, version: 1.0.0}
entry: write
tasks:
  - {id: write, type: write}
plans:
  - {id: hand_on, type: hand_on}
edges:
  - {from: write, to: hand_on}
  - {from: hand_on, to: end, type: final}
"""
HANDLERS = """
from headgate import Decision, PlanContext, Result, TaskContext, plan, task


@task
def write(ctx: TaskContext, data: dict) -> Result:
    said = ctx.start_input["name"]
    return Result({"letter": said * 2_000}, metadata={"pages": 7})


@plan
def hand_on(ctx: PlanContext) -> Decision:
    return Decision(next=["end"], output=ctx.upstream_one.value)


@plan
async def choose(ctx: PlanContext) -> Decision:
    return Decision(next=["fail"], inputs={"fail": {"name": ctx.upstream_one.value["letter"][:34]}})


@task
async def fail(ctx: TaskContext, data: dict) -> None:
    raise ValueError(f"cannot write to {data['name']}")


@plan
def finish(ctx: PlanContext) -> Decision:
    return Decision(next=["end"], output={"failed": ctx.upstream_one.error.exception_class})
"""

Kept = Callable[[], bytes]
"""Returns every byte that the log and the blob store hold."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "graph.yaml").write_text(GRAPH)
    (folder / "inner.yaml").write_text(INNER)
    (folder / "handlers.py").write_text(HANDLERS)
    return folder


def start(place: Place, project: Path, lifetime: str) -> Answer:
    assert place.headgate("graph", "register", project / "inner.yaml").code == 0
    given = json.dumps({"name": SECRET})
    return place.headgate("run", project, "--lifetime", lifetime, "--input", given, "--json")


def is_erased(place: Place, kept: Kept) -> None:
    """Erase the lifetime `one`; its values are gone, those of `two` are not, and every promise holds."""
    assert SECRET.encode() not in kept()
    assert place.headgate("audit", "erase", "one", "--json").json["erased"] is False
    erased = place.headgate("audit", "erase", "one", "--yes", "--json")
    assert (erased.code, erased.json["plain"]) == (0, 0), erased.err
    assert erased.json["blobs"] == 1, "the letter of the sub-graph, which is large"
    gone = place.headgate("run", place.work / "letters", "--lifetime", "one", "--json")
    assert (gone.code, "was erased at" in gone.err) == (1, True), gone.err + gone.out
    there = place.headgate("run", place.work / "letters", "--lifetime", "two", "--json")
    assert there.json["outcome"] == {"failed": "ValueError"}
    checked = place.headgate("check", "--settled", "--json")
    assert checked.code == 0, checked.out + checked.err


def seal_and_run(place: Place, project: Path) -> None:
    assert place.headgate("keys", "data", "--json").json["made"] is True
    for lifetime in ("one", "two"):
        answer = start(place, project, lifetime)
        assert answer.code == 0, answer.err
        assert answer.json["outcome"] == {"failed": "ValueError"}


def test_on_the_embedded_log_with_files(project: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, {"HEADGATE_SEAL_VALUES": "true"})
    seal_and_run(place, project)
    home = tmp_path / "log"

    def kept() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())

    archive = (home / "archive").as_uri()
    for copying in (("audit", "export", archive), ("catalog", "--once", f"--url=sqlite:///{home / 'sql'}")):
        assert place.headgate(*copying).code == 0
    assert (home / "sql").stat().st_size > 0
    is_erased(place, kept)
    for where in ((), ("--archive", archive)):
        verified = place.headgate("replay", "verify", "--json", *where)
        assert (verified.code, verified.json["divergences"]) == (0, []), verified.err
    everything = place.headgate("audit", "erase", "--all", "--yes", "--json")
    assert everything.json["keys"] == 4, "each start has a key of its own, a repeated one too"
    gone = Place(tmp_path).headgate("run", project, "--lifetime", "two", "--json")
    assert (gone.code, "was erased at" in gone.err) == (1, True), gone.err
    refused = start(place, project, "three")
    assert (refused.code, "has no data key" in refused.err) == (2, True), refused.err


def test_on_kafka_with_minio(
    project: Path, tmp_path: Path, kafka_bootstrap: str, minio: S3Server, topic_prefix: str
) -> None:
    env = {
        "HEADGATE_SEAL_VALUES": "true",
        "HEADGATE_KAFKA": kafka_bootstrap,
        "HEADGATE_TOPIC_PREFIX": topic_prefix,
        "HEADGATE_PARTITIONS": "2",
        "HEADGATE_BLOB_URL": f"s3://{minio.bucket()}/sealed",
        "HEADGATE_S3_ENDPOINT_URL": minio.endpoint_url,
        "HEADGATE_S3_ACCESS_KEY_ID": minio.access_key,
        "HEADGATE_S3_SECRET_ACCESS_KEY": minio.secret_key,
    }
    place = Place(tmp_path, env)

    def kept() -> bytes:
        settings = StreamSettings.read(
            **{name.removeprefix("HEADGATE_").lower(): value for name, value in env.items()}
        )
        log = open_log(settings)
        try:
            described = log.describe(log.topics(f"{topic_prefix}."))
            places = [(name, number) for name, one in described.items() for number in range(one.partitions)]
            values = b"".join(record.value or b"" for record in read_ranges(log, log.offsets(places)))
        finally:
            log.close()
        assert open_blob_store(settings).head("default/keys/tenant")
        client = minio.client()
        bucket = env["HEADGATE_BLOB_URL"].split("/")[2]
        listed = client.list_objects_v2(Bucket=bucket)["Contents"]
        blobs = [client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed]
        client.close()
        return b"".join([values, *blobs])

    with (
        place.spawn("gate") as gate,
        place.spawn("worker", "task", project) as tasks,
        place.spawn("worker", "plan", project) as plans,
    ):
        for process in (gate, tasks, plans):
            eventually(lambda process=process: process.has_said("ready"), timeout_s=60)
        seal_and_run(place, project)
        is_erased(place, kept)


def test_to_erase_a_fork_is_to_erase_its_origin_which_is_told_and_must_have_ended(
    project: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, {"HEADGATE_SEAL_VALUES": "true"})
    assert place.headgate("keys", "data").code == 0
    assert start(place, project, "one").code == 0
    assert place.headgate("replay", "fork", "one", "--at", "choose#1", "--as", "again").code == 0
    living = place.headgate("audit", "erase", "one", "--yes")
    assert (living.code, "not ended yet" in living.err, "again" in living.err) == (2, True, True), living.err
    ended = place.headgate("run", project, "--lifetime", "again", "--json")
    assert ended.json["outcome"] == {"failed": "ValueError"}, ended.err
    told = place.headgate("audit", "erase", "again")
    assert "3 lifetimes, which share keys" in told.out, told.out
    erased = place.headgate("audit", "erase", "again", "--yes", "--json")
    assert (erased.json["lifetimes"], erased.json["blobs"]) == (3, 1), "the origin and its sub-graph"
    gone = place.headgate("run", project, "--lifetime", "one", "--json")
    assert (gone.code, "was erased at" in gone.err) == (1, True), gone.err + gone.out


def test_what_was_not_sealed_or_still_runs_is_refused(project: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert start(place, project, "plain").code == 0
    for arguments, words in (
        (("plain", "--yes"), "has no sealed values"),
        (("nobody",), "there is no lifetime"),
        ((), "name one LIFETIME"),
        (("plain", "--all"), "name one LIFETIME"),
    ):
        answer = place.headgate("audit", "erase", *arguments)
        assert (answer.code, words in answer.err) == (2, True), answer.err
    sealing = Place(tmp_path, {"HEADGATE_SEAL_VALUES": "true"})
    refused = start(sealing, project, "two")
    assert (refused.code, "headgate keys data --tenant default" in refused.err) == (2, True), refused.err
    assert sealing.headgate("keys", "data").code == 0
    assert sealing.headgate("start", "letters", "--lifetime", "lives").code == 0
    living = sealing.headgate("audit", "erase", "lives", "--yes")
    assert living.code == 2
