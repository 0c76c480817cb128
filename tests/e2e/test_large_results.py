"""A result of 5 MB goes to the blob store and arrives whole at the next nodes, on files and on MinIO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.running import Place
from tests.real_servers import S3Server
from tests.support import eventually

SIZE = 5 * 1024 * 1024
GRAPH = """
kind: AgentGraph
metadata: {id: large, version: 1.0.0}
entry: make
tasks:
  - {id: make, type: make}
  - {id: count, type: count}
plans:
  - {id: pass_on, type: pass_on}
  - {id: finish, type: finish}
edges:
  - {from: make, to: pass_on}
  - {from: pass_on, to: count}
  - {from: count, to: finish}
  - {from: finish, to: end, type: final}
"""
HANDLERS = f"""
import hashlib
import random

from headgate import Decision, PlanContext, TaskContext, plan, task


@task
def make(ctx: TaskContext, data: object) -> str:
    return "".join(random.Random(7).choices("abcdefgh", k={SIZE}))


@plan
def pass_on(ctx: PlanContext) -> Decision:
    return Decision(next=["count"], output=ctx.upstream_one.value)


@task
def count(ctx: TaskContext, data: str) -> dict:
    return {{"length": len(data), "sha256": hashlib.sha256(data.encode()).hexdigest()}}


@plan
def finish(ctx: PlanContext) -> Decision:
    return Decision(next=["end"], output=ctx.upstream_one.value)
"""


def expected() -> dict[str, object]:
    import hashlib
    import random

    text = "".join(random.Random(7).choices("abcdefgh", k=SIZE))
    return {"length": SIZE, "sha256": hashlib.sha256(text.encode()).hexdigest()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "graph.yaml").write_text(GRAPH)
    (folder / "handlers.py").write_text(HANDLERS)
    return folder


def test_on_the_embedded_log_with_files(project: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    answer = place.headgate("run", project, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["outcome"] == expected()
    sizes = [p.stat().st_size for p in (tmp_path / "log" / "blobs" / "default").rglob("*") if p.is_file()]
    assert max(sizes) == SIZE + 2, "the JSON text of the string is one blob"
    assert len(sizes) == 1, "what is passed on unread or unchanged is kept once"


def test_on_kafka_with_minio(
    project: Path, tmp_path: Path, kafka_bootstrap: str, minio: S3Server, topic_prefix: str
) -> None:
    bucket = minio.bucket()
    env = {
        "HEADGATE_KAFKA": kafka_bootstrap,
        "HEADGATE_TOPIC_PREFIX": topic_prefix,
        "HEADGATE_PARTITIONS": "2",
        "HEADGATE_BLOB_URL": f"s3://{bucket}/large",
        "HEADGATE_S3_ENDPOINT_URL": minio.endpoint_url,
        "HEADGATE_S3_ACCESS_KEY_ID": minio.access_key,
        "HEADGATE_S3_SECRET_ACCESS_KEY": minio.secret_key,
    }
    place = Place(tmp_path, env)
    with (
        place.spawn("gate") as gate,
        place.spawn("worker", "task", project) as tasks,
        place.spawn("worker", "plan", project) as plans,
    ):
        for process in (gate, tasks, plans):
            eventually(lambda process=process: process.has_said("ready"), timeout_s=60)
        answer = place.headgate("run", project, "--json")
        assert answer.code == 0, answer.err + gate.output + tasks.output + plans.output
    assert answer.json["outcome"] == expected()
    client = minio.client()
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    client.close()
    assert any(key.startswith("large/default/") for key in keys), keys
    assert json.dumps(minio.secret_key) not in gate.output + tasks.output
