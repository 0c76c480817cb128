from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from headgate_graphs.errors import BlobUnavailable, NonRetryable
from headgate_protos.v1.common_pb2 import Source
from headgate_streams import flood
from headgate_workers import Result, TaskContext, task
from tests.support import eventually
from tests.unit.workers.bench import COMPLETED, FAILED, TENANT, Bench, registry


class Ask(BaseModel):
    path: str
    times: int = 1


@dataclass
class Found:
    lines: list[str]


@task
async def find(ctx: TaskContext, data: Ask) -> Found:
    return Found([data.path] * data.times)


@task
def double(ctx: TaskContext, data: dict[str, Any]) -> int:
    return int(data["n"]) * 2


def test_async_and_sync_handlers_get_typed_input_and_return_json(bench: Bench) -> None:
    with bench.worker(registry(find, double)):
        found = bench.give_task("find", {"path": "a.py"}, params={"times": 2})
        doubled = bench.give_task("double", {"n": 21})
        assert bench.value(found) == {"lines": ["a.py", "a.py"]}
        assert bench.value(doubled) == 42


def test_report_carries_identity_ticket_run_and_time(bench: Bench) -> None:
    with bench.worker(registry(double)):
        given = bench.task_input("double", {"n": 1})
        report = bench.report(bench.give(given))
    assert report.tenant_id == TENANT
    assert report.ticket == b"ticket"
    assert report.headers.status == COMPLETED
    assert report.headers.run_id
    assert report.headers.node_type == "double"
    assert report.headers.ended_at.ToNanoseconds() >= report.headers.started_at.ToNanoseconds() > 0
    assert report.resource_usage.latency_ms >= 0
    assert not report.resource_usage.unpriced


def test_metadata_travels_beside_the_value(bench: Bench) -> None:
    @task
    async def noted(ctx: TaskContext) -> Result:
        return Result([1], metadata={"passed": True})

    with bench.worker(registry(noted)):
        report = bench.report(bench.give_task("noted"))
    assert json.loads(report.result.metadata_json) == {"passed": True}


def test_handler_exception_is_a_failed_execution_with_escaped_words(bench: Bench) -> None:
    @task
    async def broken(ctx: TaskContext) -> None:
        raise KeyError("\x1b[31mred\nline" + "x" * 5000)

    with bench.worker(registry(broken)):
        report = bench.report(bench.give_task("broken"))
    error = report.result.error
    assert report.headers.status == FAILED
    assert (error.code, error.exception_class, error.retryable) == ("HANDLER_ERROR", "KeyError", True)
    assert "\n" not in error.message
    assert "\x1b" not in error.message
    assert len(error.message) <= 2100


def test_non_retryable_and_wrong_results_say_that_a_retry_cannot_help(bench: Bench) -> None:
    @task
    def refuses(ctx: TaskContext) -> None:
        raise NonRetryable("never")

    @task
    def strange(ctx: TaskContext) -> object:
        return object()

    @task
    def not_a_number(ctx: TaskContext) -> float:
        return float("nan")

    with bench.worker(registry(refuses, strange, not_a_number, find)):
        ids = [bench.give_task(name) for name in ("refuses", "strange", "not_a_number")]
        ids.append(bench.give_task("find", {"times": "many"}))
        errors = [bench.report(id).result.error for id in ids]
    assert [error.retryable for error in errors] == [False] * 4
    assert [error.code for error in errors] == ["HANDLER_ERROR"] * 3 + ["INPUT_INVALID"]
    assert "path" in errors[3].message


def test_unknown_type_fails_and_names_what_is_there(bench: Bench) -> None:
    with bench.worker(registry(double)):
        report = bench.report(bench.give_task("missing"))
    assert report.result.error.code == "NO_HANDLER"
    assert not report.result.error.retryable
    assert "double" in report.result.error.message
    assert "chat" in report.result.error.message


def test_exit_of_a_handler_does_not_end_the_worker(bench: Bench) -> None:
    @task
    async def leaves(ctx: TaskContext) -> None:
        raise SystemExit(3)

    @task
    def leaves_too(ctx: TaskContext) -> None:
        raise SystemExit(3)

    with bench.worker(registry(leaves, leaves_too, double)):
        for name in ("leaves", "leaves_too"):
            assert bench.report(bench.give_task(name)).result.error.exception_class == "SystemExit"
        assert bench.value(bench.give_task("double", {"n": 1})) == 2


def test_timeout_fails_the_execution_whether_the_handler_listens_or_not(bench: Bench) -> None:
    release = threading.Event()

    @task
    async def sleeps(ctx: TaskContext) -> None:
        await asyncio.sleep(60)

    @task(timeout="50ms")
    async def swallows(ctx: TaskContext) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.5)

    @task
    def hangs(ctx: TaskContext) -> None:
        release.wait(30)

    with bench.worker(registry(sleeps, swallows, hangs, double)):
        ids = [bench.give_task(name, timeout_ms=60) for name in ("sleeps", "hangs")]
        ids.append(bench.give_task("swallows"))
        errors = [bench.report(id).result.error for id in ids]
        assert [(error.code, error.retryable) for error in errors] == [("TIMEOUT", True)] * 3
        assert bench.value(bench.give_task("double", {"n": 1})) == 2
        release.set()


def test_large_result_goes_to_the_blob_store_and_comes_back(bench: Bench) -> None:
    @task
    async def large(ctx: TaskContext) -> str:
        return "x" * 500_000

    @task
    async def length(ctx: TaskContext, data: str) -> int:
        return len(data)

    with bench.worker(registry(large, length)):
        made = bench.give_task("large")
        report = bench.report(made)
        assert report.result.WhichOneof("value") == "blob_reference"
        assert report.result.blob_reference.uri.startswith(f"{TENANT}/")
        assert len(bench.value(made)) == 500_000
        assert bench.value(bench.give_task("length", "y" * 500_000)) == 500_000


def test_blob_store_that_does_not_answer_fails_the_execution_after_some_tries(bench: Bench) -> None:
    @task
    async def large(ctx: TaskContext) -> str:
        return "x" * 5_000

    tries: list[str] = []

    def put(key: str, content: bytes, content_type: str = "") -> None:
        tries.append(key)
        raise BlobUnavailable("down")

    bench.blobs.put = put  # type: ignore[method-assign]
    with bench.worker(registry(large), blob_attempts=2):
        error = bench.report(bench.give_task("large")).result.error
    assert (error.code, error.retryable, len(tries)) == ("BLOB_UNAVAILABLE", True, 2)


def test_missing_blob_fails_the_execution(bench: Bench) -> None:
    @task
    async def length(ctx: TaskContext, data: str) -> int:
        return len(data)

    given = bench.task_input("length", "y" * 5_000)
    bench.blobs.delete(given.input_data.blob.uri)
    with bench.worker(registry(length)):
        assert bench.report(bench.give(given)).result.error.code == "BLOB_MISSING"


def test_repeated_sources_are_dropped_also_by_the_next_worker(bench: Bench) -> None:
    runs: list[str] = []

    @task
    async def counts(ctx: TaskContext) -> None:
        runs.append(ctx.execution_id)

    first = bench.task_input("counts", source=Source(partition=1, offset=7, index=1))
    older = bench.task_input("counts", source=Source(partition=1, offset=7, index=0))
    newer = bench.task_input("counts", source=Source(partition=1, offset=8, index=0))
    with bench.worker(registry(counts)):
        bench.give(first)
        bench.give(first)
        bench.give(older)
        eventually(lambda: bench.committed_offset() == 3)
    with bench.worker(registry(counts)):
        bench.give(first)
        bench.report(bench.give(newer))
        eventually(lambda: bench.committed_offset() == 5)
    assert runs == [first.headers.execution_id, newer.headers.execution_id]


def test_undecodable_input_is_a_dead_letter_and_stops_nobody(bench: Bench) -> None:
    topic = bench.topics.task_inputs()
    with bench.worker(registry(double)):
        bench.give_raw(topic, 0, b"k", b"\xff\xff", ())
        headers = (("hg-type", b"TaskInput"), ("hg-schema", b"1.0"), ("hg-tenant", TENANT.encode()))
        bench.give_raw(topic, 0, b"k", b"\xff\xff\xff", headers)
        assert bench.value(bench.give_task("double", {"n": 4})) == 8
        eventually(lambda: bench.committed_offset() == 3)
    assert {letter.reason for letter in bench.letters()} == {"HEADER_MISSING", "DECODE"}
    assert {letter.topic for letter in bench.letters()} == {topic}


def test_a_partition_that_floods_with_bad_inputs_is_paused_and_read_again_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flood, "FIRST_PAUSE_S", 1.5)
    topic = bench.topics.task_inputs()
    with bench.worker(registry(double), dead_letter_limit_per_minute=3, concurrency=1):
        for _ in range(4):
            bench.give_raw(topic, 0, b"k", b"\xff", ())
        eventually(lambda: "yields more than 3 dead letters a minute" in caplog.text)
        paused_s = time.monotonic()
        elsewhere = bench.task_input("double", {"n": 1}, source=Source(partition=1, offset=1, index=0))
        given = bench.give_task("double", {"n": 4})
        assert bench.value(bench.give(elsewhere, partition=1)) == 2
        assert bench.value(given) == 8
        assert time.monotonic() - paused_s > 1.0
    assert len(bench.letters()) == 4
    assert caplog.text.count("yields more than") == 1


def test_offset_is_not_committed_before_the_result_is_durable(bench: Bench) -> None:
    release = threading.Event()

    @task
    def waits(ctx: TaskContext) -> None:
        release.wait(20)

    with bench.worker(registry(waits, double)):
        slow = bench.give_task("waits")
        fast = bench.give_task("double", {"n": 1})
        bench.report(fast)
        time.sleep(0.1)  # several commit intervals: the fast one alone must not move the offset
        assert bench.committed_offset() == 0
        assert not bench.reports(slow)
        release.set()
        eventually(lambda: bench.committed_offset() == 2)
        assert bench.reports(slow)


def test_stop_lets_running_work_end_and_commits_it(bench: Bench) -> None:
    begun, release = threading.Event(), threading.Event()

    @task
    def waits(ctx: TaskContext) -> str:
        begun.set()
        release.wait(20)
        return "done"

    with bench.worker(registry(waits), drain_s=10.0) as stop:
        given = bench.give_task("waits")
        assert begun.wait(10)
        stop.set()
        threading.Timer(0.1, release.set).start()
    assert bench.value(given) == "done"
    assert bench.committed_offset() == 1


def test_plain_work_that_outlasts_the_drain_is_done_again_by_the_next_worker(bench: Bench) -> None:
    begun = threading.Event()
    attempts: list[str] = []

    @task
    async def slow_once(ctx: TaskContext) -> str:
        attempts.append(ctx.run_id)
        begun.set()
        if len(attempts) == 1:
            await asyncio.sleep(60)
        return "done"

    with bench.worker(registry(slow_once), drain_s=0.05):
        given = bench.give_task("slow_once")
        assert begun.wait(10)
    assert bench.committed_offset() == 0
    assert bench.reports() == []
    with bench.worker(registry(slow_once)):
        assert bench.value(given) == "done"
    assert len(set(attempts)) == 2


def test_no_more_handlers_run_at_once_than_allowed(bench: Bench) -> None:
    lock = threading.Lock()
    now, most = 0, 0

    @task
    def counts(ctx: TaskContext) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    with bench.worker(registry(counts), concurrency=3):
        ids = [bench.give_task("counts") for _ in range(20)]
        eventually(lambda: len(bench.reports()) == len(ids))
    assert 1 < most <= 3


def test_named_queues_are_served_by_those_who_name_them(bench: Bench) -> None:
    with bench.worker(registry(double), queues=("", "big")):
        here = bench.give(bench.task_input("double", {"n": 1}))
        there = bench.give(bench.task_input("double", {"n": 2}), queue="big")
        assert (bench.value(here), bench.value(there)) == (2, 4)


def test_usage_is_reported_and_silence_under_a_limit_is_unpriced(bench: Bench) -> None:
    @task
    async def spends(ctx: TaskContext) -> None:
        ctx.usage.add(input_tokens=10, output_tokens=5, cost_usd=0.25, model="m", price_table="t@1")
        ctx.usage.add(tokens_used=1, cost_nano_usd=1)

    @task
    async def silent(ctx: TaskContext) -> None:
        return None

    with bench.worker(registry(spends, silent)):
        spent = bench.report(bench.give_task("spends", hold_tokens=100)).resource_usage
        unknown = bench.report(bench.give_task("silent", hold_tokens=100)).resource_usage
        free = bench.report(bench.give_task("silent")).resource_usage
    assert (spent.tokens_used, spent.cost_nano_usd, spent.input_tokens) == (16, 250_000_001, 10)
    assert (spent.model, spent.price_table, spent.unpriced) == ("m", "t@1", False)
    assert (unknown.unpriced, free.unpriced) == (True, False)


def test_what_ended_before_another_blocks_the_loop_is_reported_as_it_ended(bench: Bench) -> None:
    release = threading.Event()

    @task
    async def ends(ctx: TaskContext) -> str:
        return "done"

    @task
    async def blocks(ctx: TaskContext) -> None:
        release.wait(30)

    done, blocked = bench.give_task("ends"), bench.give_task("blocks")
    with bench.worker(registry(ends, blocks), loop_patience_s=0.1):
        assert bench.report(blocked).result.error.code == "LOOP_BLOCKED"
        assert bench.value(done) == "done"
        release.set()
    assert len(bench.reports(done)) == 1


def test_a_handler_that_blocks_the_loop_of_all_is_left_behind_with_it(bench: Bench) -> None:
    release = threading.Event()

    @task
    async def blocks(ctx: TaskContext) -> None:
        release.wait(30)

    with bench.worker(registry(blocks, find, double), loop_patience_s=0.1):
        blocked = bench.give_task("blocks", timeout_ms=50)
        error = bench.report(blocked).result.error
        assert (error.code, error.retryable) == ("LOOP_BLOCKED", True)
        assert "blocks" in error.message
        assert bench.value(bench.give_task("find", {"path": "a"})) == {"lines": ["a"]}
        release.set()
    assert len(bench.reports(blocked)) == 1
