"""The coding agent on real Kafka: gates and workers in processes of their own, killed, shared by tenants."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics
from tests.e2e.ledger import envelopes, records
from tests.e2e.running import EXAMPLE, POLICIES, Place, Process, model_server, own_tests_pass
from tests.support import eventually

PARTITIONS = 4
VISITS = {
    **{"read_issue": 1, "plan_work": 1, "search_code": 1, "run_tests": 1, "diagnose": 1, "accept": 1},
    **{"propose_patch": 2, "check_patch": 2, "validate": 2, "decide": 2},
}
READY_S = 90.0
STEP_S = 120.0


@pytest.fixture
def place(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Place:
    env = {
        "HEADGATE_KAFKA": kafka_bootstrap,
        "HEADGATE_TOPIC_PREFIX": topic_prefix,
        "HEADGATE_PARTITIONS": str(PARTITIONS),
    }
    return Place(tmp_path, env)


@pytest.fixture
def settings(place: Place, kafka_bootstrap: str, topic_prefix: str) -> StreamSettings:
    return StreamSettings(
        kafka=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS, local=place.work / "log"
    )


@pytest.fixture
def model(place: Place):
    with model_server(pause_s=0.3) as server:
        place.env["OPENAI_BASE_URL"] = f"{server.url}/v1"
        yield server


@pytest.fixture
def start(place: Place, model) -> Iterator[Callable[..., list[Process]]]:
    """Return a function that begins so many of one service, and returns when all are ready."""
    answer = place.headgate("topics", "create")
    assert answer.code == 0, answer.err
    with contextlib.ExitStack() as stack:

        def begin(count: int, *arguments: str | Path) -> list[Process]:
            started = [stack.enter_context(place.spawn(*arguments)) for _ in range(count)]
            for process in started:
                eventually(lambda one=process: one.has_said("ready"), timeout_s=READY_S)
            return started

        yield begin


def run_arguments(place: Place, tenant: str, lifetime: str, **more: str) -> tuple[str | Path, ...]:
    policy = ("--policy", POLICIES / "generous.yaml", "--tenant", tenant, "--lifetime", lifetime)
    return ("run", EXAMPLE, *policy, "--input", place.input(**more), "--json")


def who_runs(settings: StreamSettings, node_id: str) -> int:
    """Return the process id of the worker that announced a run of the node; 0 while nobody has."""
    inputs = records(settings, Topics(settings.topic_prefix).task_inputs())
    wanted = {
        given.headers.execution_id
        for given in (TaskInput.FromString(record.value or b"") for record in inputs)
        if given.headers.node_id == node_id
    }
    for _, envelope in envelopes(settings):
        if envelope.execution_started.execution_id in wanted:
            return int(envelope.execution_started.worker.rpartition(":")[2])
    return 0


def test_killing_gates_and_the_worker_that_is_busy_changes_nothing(
    place: Place, settings: StreamSettings, start, model, tenant: str
) -> None:
    first, second = start(2, "gate")
    tasks = start(2, "worker", "task", EXAMPLE)
    start(2, "worker", "plan", EXAMPLE)
    with place.spawn(*run_arguments(place, tenant, "repair")) as run:
        busy = eventually(lambda: who_runs(settings, "propose_patch"), timeout_s=STEP_S)
        next(worker for worker in tasks if worker.pid == busy).kill()
        first.kill()
        start(1, "gate")
        eventually(lambda: "second patch" in model.calls, timeout_s=STEP_S)
        second.kill()  # one of the two had this tenant's partition
        assert run.wait() == 0, run.output
        ended = json.loads(run.lines[-1])
    assert own_tests_pass(ended["outcome"]["directory"])
    view = place.headgate("status", "repair", "--tenant", tenant, "--json").json["view"]
    assert {node["node_id"]: node["iterations"] for node in view["nodes"]} == VISITS
    # The call that died with its worker is made again; no other one is.
    assert [call for call in model.calls if call != "first patch"] == ["plan", "second patch"]
    assert model.calls.count("first patch") <= 2


def test_two_tenants_run_at_once_and_see_nothing_of_each_other(
    place: Place, settings: StreamSettings, start, model, tenant: str
) -> None:
    place.env["HEADGATE_INLINE_LIMIT_BYTES"] = "200"  # so that results travel through the blob store too
    start(2, "gate")
    start(2, "worker", "task", EXAMPLE)
    start(1, "worker", "plan", EXAMPLE)
    canaries = {f"{tenant}-a": "canary-of-a", f"{tenant}-b": "canary-of-b"}
    with contextlib.ExitStack() as stack:
        runs = {
            name: stack.enter_context(
                place.spawn(
                    *run_arguments(place, name, "same-id", issue=f"{canary}: A shared bill loses cents")
                )
            )
            for name, canary in canaries.items()
        }
        for run in runs.values():
            assert run.wait() == 0, run.output
    outcomes = {name: json.loads(run.lines[-1]) for name, run in runs.items()}
    directories = {one["outcome"]["directory"] for one in outcomes.values()}
    assert len(directories) == 2
    for name, other in zip(canaries, reversed(canaries), strict=True):
        listed = place.headgate("list", "--tenant", name, "--json").json
        assert [one["tenant_id"] for one in listed] == [name]
        assert outcomes[name]["spent"]["tokens_used"] == 356 + 1556 + 2292
        assert traces(settings, name, canaries[other]) == []
        assert blobs_with(place, name, canaries[name]) != []
        assert blobs_with(place, name, canaries[other]) == []
    assert sorted(model.calls) == sorted(["plan", "first patch", "second patch"] * 2)


def traces(settings: StreamSettings, tenant: str, canary: str) -> list[str]:
    """Return where a canary is among the records of a tenant."""
    topics = [one.name for one in Topics(settings.topic_prefix).descriptions(settings.partitions)]
    return [
        f"{record.topic}-{record.partition}@{record.offset}"
        for record in records(settings, *topics)
        if ("hg-tenant", tenant.encode()) in record.headers and canary.encode() in (record.value or b"")
    ]


def blobs_with(place: Place, tenant: str, canary: str) -> list[Path]:
    """Return the blobs of a tenant that hold a canary."""
    blobs = (path for path in (place.work / "log/blobs" / tenant).rglob("*") if path.is_file())
    return [path for path in blobs if canary.encode() in path.read_bytes()]
