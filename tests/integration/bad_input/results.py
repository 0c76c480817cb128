"""Results, starts and definitions that are sound records and still ask for what must not be."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from headgate.client import Client
from headgate.words import status_word
from headgate_graphs.conditions import EDGE_ENVIRONMENT, ConditionFailed
from headgate_graphs.errors import BlobIntegrity, DeliveryFailed, UserError
from headgate_protos.v1.common_pb2 import BlobReference, ExecutionStatus, Payload, ResourceUsage
from headgate_protos.v1.control_pb2 import AbortLifetime, OperatorCommand
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, GraphRegistered, LifetimeStart, PolicySet
from headgate_protos.v1.plan_pb2 import PlanExecution
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.codec import encode
from headgate_streams.port import TopicPartition
from headgate_streams.s3_blobs import S3BlobStore
from tests.integration.bad_input.records import identity
from tests.integration.bad_input.rows import Hand, assert_told, row
from tests.integration.bad_input.yard import MANUAL, Yard, line
from tests.support import eventually
from tests.unit.guardrails.graphs_for_tests import graph, policy, rule

SHA = hashlib.sha256(b'"value"').hexdigest()


def begun(yard: Yard, **configs: Any) -> tuple[str, Any]:
    """Start p1 -> t1 -> p2 on the manual queue; return the tenant and the input of t1."""
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL, **configs))
    yard.start(tenant)
    yard.report(yard.input(tenant, "p1"), next_ids=["t1"])
    return tenant, yard.input(tenant, "t1")


# -- late, twice, in conflict ------------------------------------------------------------------------


@row("result-after-abort")
def late(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard, t1={"limits": {"tokens_used": 100}})
    yard.envelope(tenant, "run", command=OperatorCommand(command_id="c1", abort=AbortLifetime()))
    assert status_word(yard.ended(tenant).status) == "aborted"
    place = yard.report(given, usage=ResourceUsage(tokens_used=70, cost_nano_usd=5))
    eventually(lambda: yard.ended(tenant).usage.tokens_used == 70, timeout_s=20)
    assert status_word(yard.ended(tenant).status) == "aborted"
    assert yard.letters_about(place) == []
    yard.others_go_on()
    assert yard.inputs(tenant, "p2") == []


@row("same-result-twice")
def twice(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard)
    used = ResourceUsage(tokens_used=7)
    first = yard.report(given, run_id="r1", usage=used)
    second = yard.report(given, run_id="r1", usage=used)
    # A record of another envelope id is other bytes: what is dropped without a word is the very same record.
    assert yard.letter(second).reason == "CONFLICT"
    value, headers, key = _record_at(yard, first)
    third = yard.raw(first[0], value, headers, key)
    yard.report(yard.input(tenant, "p2"), next_ids=["end"])
    assert yard.ended(tenant).usage.tokens_used == 7
    assert yard.letters_about(third) == []
    assert len(yard.inputs(tenant)) == 3


@row("same-run-with-other-bytes")
def conflict(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard)
    yard.report(given, run_id="r1", json='"first"', usage=ResourceUsage(tokens_used=7))
    place = yard.report(given, run_id="r1", json='"second"', usage=ResourceUsage(tokens_used=9))
    assert yard.letter(place).reason == "CONFLICT"
    led = yard.input(tenant, "p2")
    assert led.upstream_task_executions[0].result.json_result == '"first"'
    yard.report(led, next_ids=["end"])
    assert yard.ended(tenant).usage.tokens_used == 7


@row("two-runs-of-one-execution")
def two_runs(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard)
    yard.report(given, run_id="r1", json='"first"', usage=ResourceUsage(tokens_used=7))
    yard.report(given, run_id="r2", json='"second"', usage=ResourceUsage(tokens_used=9))
    led = yard.input(tenant, "p2")
    assert led.upstream_task_executions[0].result.json_result == '"first"'
    yard.report(led, next_ids=["end"])
    assert yard.ended(tenant).usage.tokens_used == 16
    assert len(yard.inputs(tenant, "p2")) == 1


def _record_at(yard: Yard, place: tuple[str, int, int]) -> tuple[bytes | None, Any, bytes | None]:
    reader = yard.client.log.reader()
    try:
        reader.assign({TopicPartition(place[0], place[1]): place[2]})
        (record,) = eventually(lambda: reader.poll(1.0, 1), timeout_s=20)
        return record.value, record.headers, record.key
    finally:
        reader.close()


# -- usage -------------------------------------------------------------------------------------------

ODD_USAGE = {
    "negative": {"tokens_used": -1},
    "largest": {"tokens_used": 2**63 - 1},
    "negative-cost": {"cost_nano_usd": -(2**63)},
    "negative-time": {"latency_ms": -5},
    "absurd-part": {"cached_tokens": 2**62},
}
for kind, fields in ODD_USAGE.items():

    @row(f"usage-{kind}")
    def odd_usage(hand: Hand, fields: dict[str, int] = fields) -> None:
        yard = hand.yard
        tenant, given = begun(yard, t1={"limits": {"tokens_used": 100, "cost_usd": "0.10"}})
        yard.report(given, usage=ResourceUsage(**fields))
        view = yard.status(tenant, "paused")
        assert view.reason.startswith("USAGE_RANGE")
        assert (view.usage.tokens_used, view.usage.cost_nano_usd) == (100, 100_000_000)
        assert yard.inputs(tenant, "p2") == []


@row("sums-that-overflow")
def overflow(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard)
    used = ResourceUsage(tokens_used=2**53, cost_nano_usd=2**53)
    for number in range(3):
        yard.report(given, run_id=f"r{number}", usage=used)
    yard.report(yard.input(tenant, "p2"), next_ids=["end"], usage=used)
    assert yard.ended(tenant).usage.tokens_used == 4 * 2**53


# -- references --------------------------------------------------------------------------------------


@contextmanager
def ear() -> Iterator[tuple[int, list[Any]]]:
    """A port that notes whoever connects to it."""
    heard: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def listen() -> None:
            while server.fileno() >= 0:
                try:
                    heard.append(server.accept())
                except TimeoutError:
                    continue
                except OSError:
                    return

        Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], heard


REFERENCES = {
    "another-tenant": f"tenant-other/{SHA[:2]}/{SHA}",
    "parent": f"../tenant-other/{SHA[:2]}/{SHA}",
    "bucket": f"s3://other-bucket/{SHA[:2]}/{SHA}",
    "http": "http://127.0.0.1:PORT/x",
    "file": "file:///etc/passwd",
    "user": f"s3://bkt@127.0.0.1:PORT/{SHA}",
    "root": f"/etc/{SHA}",
    "empty": "",
}
for kind, uri in REFERENCES.items():

    @row(f"reference-{kind}-in-a-result")
    def hostile_result(hand: Hand, uri: str = uri) -> None:
        yard = hand.yard
        tenant, given = begun(yard)
        with ear() as (port, heard):
            blob = BlobReference(uri=uri.replace("PORT", str(port)), sha256=SHA, size_bytes=7)
            letter = yard.letter(yard.report(given, blob=blob))
            assert letter.reason == "BLOB_REF"
            assert_told(hand, letter)
            yard.report(given, json='"sound"')
            yard.report(yard.input(tenant, "p2"), next_ids=["end"])
            assert status_word(yard.ended(tenant).status) == "completed"
            assert heard == []

    @row(f"reference-{kind}-in-an-input")
    def hostile_input(hand: Hand, uri: str = uri) -> None:
        yard = hand.yard
        tenant = yard.tenant()
        made = TaskInput(tenant_id=tenant, headers=identity())
        made.headers.execution_id, made.headers.lifetime_id = f"e-{tenant}", "never"
        made.params_json = '{"does": "read"}'
        with ear() as (port, heard):
            made.input_data.blob.uri = uri.replace("PORT", str(port))
            made.input_data.blob.sha256, made.input_data.blob.size_bytes = SHA, 7
            value, headers = encode(made, tenant)
            place = yard.raw(yard.client.topics.task_inputs(), value, headers, b"e")
            assert yard.letter(place).reason == "BLOB_REF"
            assert heard == []
        assert yard.handlers.calls[tenant] == 0


def _reading(yard: Yard, blob: BlobReference, tenant: str) -> Any:
    """Let t1 of the yard's worker read a reference that p1 hands to it; return the last view."""
    definition = graph(
        [("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")],
        entry="p1",
        p1={"queue": MANUAL},
        t1={"params": {"does": "read"}, "max_retries": 1, "backoff": "10ms"},
        p2={"queue": MANUAL},
    )
    yard.register(tenant, definition)
    yard.start(tenant)
    yard.report(yard.input(tenant, "p1"), next_ids=["t1"], blob=blob)
    return yard.input(tenant, "p2").upstream_task_executions[0]


@row("blob-that-is-not-there")
def missing(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    blob = BlobReference(uri=f"{tenant}/{SHA[:2]}/{SHA}", sha256=SHA, size_bytes=7)
    execution = _reading(yard, blob, tenant)
    assert execution.result.error.code == "BLOB_MISSING"
    assert execution.headers.attempt == 2


@row("blob-with-another-hash")
def wrong_hash(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.client.blobs.put(f"{tenant}/{SHA[:2]}/{SHA}", b'"VALUE"')
    blob = BlobReference(uri=f"{tenant}/{SHA[:2]}/{SHA}", sha256=SHA, size_bytes=7)
    execution = _reading(yard, blob, tenant)
    assert (execution.result.error.code, execution.headers.attempt) == ("BLOB_INTEGRITY", 2)


@row("blob-with-another-size")
def wrong_size(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.client.blobs.put(f"{tenant}/{SHA[:2]}/{SHA}", b'"value"' + b" " * 1_000_000)
    blob = BlobReference(uri=f"{tenant}/{SHA[:2]}/{SHA}", sha256=SHA, size_bytes=7)
    assert _reading(yard, blob, tenant).result.error.code == "BLOB_INTEGRITY"


class _Endless(BaseHTTPRequestHandler):
    """Says that an object is there, and never stops sending it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        except OSError:
            return

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@row("blob-with-an-endless-body")
def endless(hand: Hand) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Endless)
    Thread(target=server.serve_forever, daemon=True).start()
    store = S3BlobStore(
        "bucket",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        access_key_id="x",
        secret_access_key="y",
    )
    began = time.monotonic()
    try:
        with pytest.raises(BlobIntegrity, match="longer than 1000 bytes"):
            store.get(f"acme/{SHA[:2]}/{SHA}", 1000)
    finally:
        store.close()
        server.shutdown()
        server.server_close()
    assert time.monotonic() - began < 20.0


# -- plans -------------------------------------------------------------------------------------------


@row("plan-names-a-node-outside-its-edges")
def outside(hand: Hand) -> None:
    for does in ({"does": "elsewhere"}, {"does": "elsewhere", "more": 1}):
        tenant, view = hand.yard.run(line(p1={"params": does}))
        assert status_word(view.status) == "failed"
        assert "NOT_AN_EDGE" in view.reason
        assert hand.yard.inputs(tenant, "t1") == []


@row("plan-names-another-plan")
def another_plan(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL))
    yard.start(tenant)
    yard.report(yard.input(tenant, "p1"), next_ids=["p2"])
    assert "NOT_AN_EDGE" in yard.ended(tenant).reason


for count in (65, 9_999, 1_000_000):

    @row(f"plan-names-{count}-tasks")
    def fan_out(hand: Hand, count: int = count) -> None:
        began = time.monotonic()
        tenant, view = hand.yard.run(line(p1={"params": {"does": "flood", "count": count}}))
        assert status_word(view.status) == "failed"
        assert "FANOUT" in view.reason
        assert hand.yard.inputs(tenant, "t1") == []
        assert time.monotonic() - began < 20.0


@row("plan-names-400000-tasks-in-a-forged-record")
def forged_fan_out(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL))
    yard.start(tenant)
    yard.report(yard.input(tenant, "p1"), next_ids=["t1"] * 400_000)
    assert "FANOUT" in yard.ended(tenant).reason
    assert yard.inputs(tenant, "t1") == []


@row("plan-that-goes-round-for-ever")
def for_ever(hand: Hand) -> None:
    definition = graph(
        [("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", limits={"max_iterations": 5}
    )
    tenant, view = hand.yard.run(definition)
    assert (status_word(view.status), "max_iterations" in view.reason) == ("aborted", True)
    assert len(hand.yard.inputs(tenant, "p1")) == 5


# -- conditions --------------------------------------------------------------------------------------

CONDITIONS = {
    "divide-by-zero": "1 / result.zero > 0",
    "missing-key": "result.nowhere.at.all == 1",
    "attribute-trick": "result.__class__.__mro__ == 1",
    "other-type": "result.zero > 'a'",
    "not-a-bool": "result.zero",
}
for kind, when in CONDITIONS.items():

    @row(f"condition-{kind}")
    def fails_closed(hand: Hand, when: str = when) -> None:
        definition = graph([("p1", "t1"), ("t1", "p2", "normal", when), ("p2", "end", "final")], entry="p1")
        tenant, view = hand.yard.run(definition)
        assert status_word(view.status) == "failed"
        assert view.reason.startswith("CONDITION")
        assert hand.yard.inputs(tenant, "p2") == []
        _assert_fast(when)


def _assert_fast(when: str) -> None:
    """A condition that cannot be evaluated says so in a millisecond; the best of five, as others run too."""
    condition = EDGE_ENVIRONMENT.compile(when)
    facts: dict[str, Any] = {
        "result": {"zero": 0},
        "success": True,
        "metadata": {},
        "error": {},
        "upstream": [],
        "lifetime": {},
        "node": {},
        "iteration": 1,
    }
    took = []
    for _ in range(5):
        began = time.perf_counter()
        with pytest.raises(ConditionFailed):
            condition.holds(facts)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.001


@row("policy-that-cannot-be-evaluated")
def policy_fails_closed(hand: Hand) -> None:
    for action, status in (("abort_lifetime", "aborted"), ("reject_execution", "failed")):
        broken = policy(
            rule("broken", "execution", action, when="1 / (iteration - iteration) > 0"), version=1
        )
        tenant = hand.yard.tenant()
        hand.yard.register(tenant, line(), broken)
        hand.yard.start(tenant)
        view = hand.yard.ended(tenant)
        assert status_word(view.status) == status, view
        assert hand.yard.inputs(tenant) == []


# -- definitions that come by record -----------------------------------------------------------------


@row("graph-record-that-is-no-graph")
def bad_graph(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line())
    good = json.loads(line().for_tenant(tenant).canonical_json())
    for text in (
        "",
        "{}",
        "not json",
        '{"a":' * 90 + "1" + "}" * 90,
        json.dumps(good | {"edges": []}),
        json.dumps(good | {"entry": "nowhere"}),
        json.dumps(good | {"tasks": good["tasks"] * 2}),
        json.dumps(good | {"metadata": good["metadata"] | {"tenant_id": "somebody-else"}}),
        json.dumps(good | {"limits": {"max_iterations": 7}}),
    ):
        record = GraphRegistered(graph_id="g", version="1.0.0", definition_json=text)
        letter = yard.letter(yard.envelope(tenant, graph_registered=record))
        assert letter.reason == "BAD_GRAPH", text
    yard.start(tenant)
    assert status_word(yard.ended(tenant).status) == "completed"


@row("policy-record-that-is-no-policy")
def bad_policy(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    denied = policy(rule("no-work", "execution", "reject_execution", deny={"task_types": ["work"]}))
    yard.register(tenant, line(), denied)
    good = json.loads(denied.canonical_json())
    for text in (
        "",
        "[]",
        '{"rules": ' + "[" * 90 + "]" * 90 + "}",
        json.dumps(good | {"rules": []}),
        json.dumps(good | {"surprise": 1}),
        json.dumps(good | {"rules": [good["rules"][0] | {"when": "true"}]}),
        json.dumps(good | {"mode": "shadow"}),
    ):
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        record = PolicySet(name="caps", version=1, document_json=text, sha256=sha256)
        letter = yard.letter(yard.envelope(tenant, policy_set=record))
        assert letter.reason == "BAD_POLICY", text
    yard.start(tenant)
    view = yard.ended(tenant)
    assert yard.inputs(tenant, "t1") == [], "the policy that was set before is still in force"
    assert status_word(view.status) == "completed", "the plan behind it was told of the rejection"


# -- starts ------------------------------------------------------------------------------------------


@row("two-tenants-with-one-lifetime-id")
def same_lifetime_id(hand: Hand) -> None:
    yard = hand.yard
    tenants = [yard.tenant(), yard.tenant()]
    for tenant in tenants:
        yard.register(tenant, line())
        yard.start(tenant, "the-same")
    for tenant in tenants:
        assert status_word(yard.ended(tenant, "the-same").status) == "completed"
        assert len(yard.inputs(tenant)) == 3


@row("the-same-start-twice")
def same_start(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line())
    places = [yard.start(tenant) for _ in range(3)]
    yard.ended(tenant)
    places.append(yard.start(tenant))
    yard.others_go_on()
    assert len(yard.inputs(tenant)) == 3
    assert [yard.letters_about(place) for place in places] == [[], [], [], []]


@row("start-from-another-year")
def stale_start(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line())
    old = LifetimeStart(graph_id="g")
    old.issued_at.FromSeconds(1_000_000_000)
    yard.envelope(tenant, "old", lifetime_start=old)
    assert yard.ended(tenant, "old").reason.startswith("STALE_START")
    new = LifetimeStart(graph_id="g")
    new.issued_at.FromSeconds(9_000_000_000)
    assert yard.letter(yard.envelope(tenant, "new", lifetime_start=new)).reason == "BAD_COMMAND"
    assert yard.inputs(tenant) == []


@row("flood-of-starts")
def flood(hand: Hand) -> None:
    yard = hand.yard
    tenant, starts = yard.tenant(), 2_000
    few = policy(rule("few", "tenant", "reject_execution", limit={"executions": 10}))
    yard.register(tenant, line(), few)
    calm_s = max(yard.others_go_on() for _ in range(5))
    start_values = []
    for number in range(starts):
        start = LifetimeStart(graph_id="g", input=Payload(json="1"))
        start.issued_at.GetCurrentTime()
        made = ExecutionEnvelope(
            envelope_id=f"f{number}", tenant_id=tenant, lifetime_id=f"run-{number}", lifetime_start=start
        )
        start_values.append(encode(made, tenant))
    for value, headers in start_values:
        yard.large.append(yard.client.topics.executions, 0, key=tenant.encode(), value=value, headers=headers)
    yard.large.flush()
    stalled_s = max(yard.others_go_on() for _ in range(5))
    eventually(lambda: sum(one[0] == tenant for one in list(yard.watch.views)) == starts, timeout_s=60)
    assert stalled_s < 2 * calm_s + 5.0
    assert len(yard.inputs(tenant)) <= 30
    assert yard.handlers.calls[tenant] <= 30


# -- what no log takes -------------------------------------------------------------------------------


@row("forty-people-with-large-questions")
def view_too_large(hand: Hand) -> None:
    yard, people = hand.yard, 40
    names = [f"t{n}" for n in range(people)]
    edges: list[tuple[str, ...]] = [("p1", name, "parallel") for name in names]
    edges += [(name, "p2") for name in names] + [("p2", "end", "final")]
    definition = graph(edges, entry="p1", p1={"queue": MANUAL}, **{name: {"type": "human"} for name in names})
    tenant = yard.tenant()
    yard.register(tenant, definition)
    yard.start(tenant)
    yard.report(yard.input(tenant, "p1"), next_ids=names, json=json.dumps("x" * 32_000))

    def all_asked() -> bool:
        yard.check()
        view = yard.view(tenant)
        return view is not None and len(view.waiting) == people

    eventually(all_asked, timeout_s=20)
    yard.others_go_on()


@row("input-that-fits-no-record")
def input_too_large(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL))
    yard.start(tenant, data="s" * 500_000)
    yard.report(yard.input(tenant, "p1"), next_ids=["t1"], json=json.dumps("y" * 400_000))
    yard.report(yard.input(tenant, "t1"), json=json.dumps("z" * 500_000))
    view = yard.ended(tenant)
    assert (status_word(view.status), view.reason.split(":")[0]) == ("failed", "INPUT_TOO_LARGE")
    yard.others_go_on()


@row("outcome-and-words-at-their-largest")
def largest_outcome(hand: Hand) -> None:
    yard = hand.yard
    tenant, given = begun(yard)
    yard.report(given, json=json.dumps("z" * 100), run_id="r1")
    yard.report(yard.input(tenant, "p2"), next_ids=["end"], json=json.dumps("z" * 524_000))
    assert status_word(yard.ended(tenant).status) == "completed"


@row("failure-with-the-longest-words")
def longest_words(hand: Hand) -> None:
    yard = hand.yard
    tenant = yard.tenant()
    yard.register(tenant, line(queue=MANUAL))
    yard.start(tenant)
    given = yard.input(tenant, "p1")
    made = PlanExecution(tenant_id=tenant)
    made.headers.CopyFrom(given.headers)
    made.ticket = given.ticket
    made.headers.run_id, made.headers.status = "r1", ExecutionStatus.EXECUTION_STATUS_FAILED
    made.result.error.code, made.result.error.message = "\x1b[31m" * 1_000, "\n%s" * 20_000
    yard.envelope(tenant, "run", plan_execution=made)
    assert status_word(yard.ended(tenant).status) == "failed"
    code, out, _ = hand.shell("status", "run", "--tenant", tenant, *yard.place(hand.environment))
    assert code == 0
    assert "\x1b" not in out


@row("broker-refuses")
def broker_refuses(hand: Hand) -> None:
    yard = hand.yard
    for topic, size, words in (
        (f"{yard.client.settings.topic_prefix}.nowhere", 10, "UNKNOWN"),
        (yard.client.topics.control_events, 2_000_000, "MSG_SIZE_TOO_LARGE"),
    ):
        landed: list[Any] = []
        producer = yard.client.log.producer()
        producer.append(topic, 0, key=b"k", value=b"x" * size, on_delivery=landed.append)
        producer.flush(60)
        producer.close()
        assert isinstance(landed[0].error, DeliveryFailed)
        assert words in str(landed[0].error)
    elsewhere = yard.client.settings.model_copy(update={"topic_prefix": "hg-nowhere"})
    with Client.open(elsewhere) as client, pytest.raises(UserError, match="does not exist"):
        client.start("g", tenant=yard.canary)
    yard.others_go_on()
