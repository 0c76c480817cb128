"""Each invariant is found broken in a log of which one thing was changed, and in no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import headgate_resilience.check as check_package
from headgate_guardrails.fold.quarantine import Hold
from headgate_protos.v1 import common_pb2 as pb
from headgate_protos.v1 import control_pb2, execution_pb2, plan_pb2, task_pb2
from headgate_resilience.check import Report, Verdict
from headgate_streams.blobs import MemoryBlobStore
from headgate_streams.port import LogRecord
from tests.unit.resilience.check.stories import LOOP, Story, fork_story, loop_story, rounds
from tests.unit.resilience.check.topics_in_memory import checked

KINDS = {
    "task-inputs": task_pb2.TaskInput,
    "plan-inputs": plan_pb2.PlanInput,
    "control-events": control_pb2.ExecutionEvent,
    "lifetimes": execution_pb2.LifetimeView,
    "dead-letters": execution_pb2.DeadLetter,
    "executions": execution_pb2.ExecutionEnvelope,
}


def records(story: Story, kind: str) -> list[LogRecord]:
    return story.topics.records[f"headgate.{kind}"][0]


def change(story: Story, kind: str, place: int, edit: Callable[[Any], None], **more: Any) -> None:
    """Change one message where it lies."""
    found = records(story, kind)
    place %= len(found)
    message = KINDS[kind].FromString(found[place].value or b"")
    edit(message)
    found[place] = replace(found[place], value=message.SerializeToString(), **more)


def repeat(story: Story, kind: str, place: int = -1, edit: Callable[[Any], None] | None = None) -> None:
    """Append a record once more, changed or not."""
    found = records(story, kind)
    message = KINDS[kind].FromString(found[place].value or b"")
    if edit is not None:
        edit(message)
    found.append(replace(found[place], offset=found[-1].offset + 1, value=message.SerializeToString()))


def lose(story: Story, kind: str, place: int) -> None:
    """Take one record away, as if it had never been written."""
    found = records(story, kind)
    del found[place]
    for offset, record in enumerate(found):
        found[offset] = replace(record, offset=offset)


def broken(report: Report) -> set[str]:
    """Return the invariants that are violated, I11 aside: it sees every change of what a gate says."""
    found = {one.id for one in report.invariants.values() if one.verdict is Verdict.FAIL}
    return found - {"I11"}


def says(report: Report, invariant: str) -> str:
    return "\n".join(f"{one.where}: {one.what}" for one in report.invariants[invariant].examples)


def test_a_sound_log_has_no_violation() -> None:
    story = loop_story()
    story.wait()
    story.checkpoint()
    report = checked(story.topics)
    assert not report.violated, "\n".join(report.lines())
    assert report.counts["starts"] == report.counts["lifetimes completed"] == 1
    assert report.counts["executions dispatched"] == 5
    assert report.counts["checkpoints compared"] == 1
    assert report.lines()[-1] == "no violation"


# -- I1 ------------------------------------------------------------------------------------------------


def test_i1_a_lifetime_without_an_end_is_lost_when_the_workload_is_over_and_only_then() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    report = checked(story.topics)
    assert "I1" in broken(report)
    assert says(report, "I1") == "lifetime acme/run: has no final status"
    assert broken(checked(story.topics, settled=False)) == set()


def test_i1_a_start_that_is_not_answered_is_lost() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    lose(story, "lifetimes", 0)
    lose(story, "plan-inputs", 0)
    assert "was not answered" in says(checked(story.topics, settled=False), "I1")


def test_i1_a_lifetime_has_one_end() -> None:
    story = loop_story()

    def other_end(view: Any) -> None:
        view.status = pb.LIFETIME_STATUS_FAILED
        view.source.index += 1

    repeat(story, "lifetimes", -1, other_end)
    report = checked(story.topics)
    assert "two different ends" in says(report, "I1")


def test_i1_what_was_acknowledged_is_in_the_log() -> None:
    story = loop_story()
    from headgate_resilience.check import Check

    check = Check(story.topics, MemoryBlobStore(), settled=True, canaries={})
    report = check.run(acknowledged=[("acme", "run"), ("acme", "gone")])
    assert says(report, "I1") == "lifetime acme/gone: was acknowledged, and is not in the log"


# -- I2 ------------------------------------------------------------------------------------------------


def test_i2_a_second_result_is_not_acted_on() -> None:
    """The gate acts on the run that came second: the plan is given another value."""
    story = Story()
    story.register(LOOP)
    story.start()
    story.report(story.waiting.popleft(), "t")
    task = story.waiting.popleft()
    story.report(task, run="first")
    story.report(task, run="second", value='"other"')

    def other_value(given: Any) -> None:
        given.upstream_task_executions[0].result.json_result = '"other"'

    change(story, "plan-inputs", -1, other_value)
    report = checked(story.topics, settled=False)
    assert broken(report) == {"I2"}
    assert "is not the one that was accepted first" in says(report, "I2")
    assert report.counts["results late"] == 1


def test_i2_nothing_is_dispatched_twice() -> None:
    story = loop_story()

    def later(given: Any) -> None:
        given.source.offset += 1
        given.source.index += 7

    repeat(story, "task-inputs", -1, later)
    assert "was dispatched before" in says(checked(story.topics), "I2")


def test_i2_a_task_is_given_what_was_decided() -> None:
    story = loop_story()
    change(story, "task-inputs", 0, lambda given: setattr(given.input_data, "json", '"forged"'))
    report = checked(story.topics)
    assert broken(report) == {"I2"}


def test_i2_a_result_that_contradicts_another_of_its_run_must_be_told() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    plan = story.waiting.popleft()
    story.report(plan, "t", run="one")
    story.report(plan, "t", run="one", value='"other"')
    assert not checked(story.topics, settled=False).violated
    lose(story, "dead-letters", 0)
    assert "and no letter tells" in says(checked(story.topics, settled=False), "I2")


# -- I3 ------------------------------------------------------------------------------------------------


def test_i3_the_last_view_is_the_sum_of_unique_runs() -> None:
    story = loop_story()
    change(story, "lifetimes", -1, lambda view: setattr(view.usage, "cost_nano_usd", 5_001))
    report = checked(story.topics)
    assert broken(report) == {"I3"}
    assert "5001 nano-USD" in says(report, "I3")
    assert "5000 nano-USD" in says(report, "I3")


def test_i3_every_hold_is_closed() -> None:
    story = loop_story()
    story.wait()
    change(story, "lifetimes", -1, lambda view: setattr(view, "open_holds", 1))
    assert "1 open holds, counted 0" in says(checked(story.topics), "I3")


def test_i3_a_run_that_was_never_heard_of_again_is_charged_its_hold() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    story.report(story.waiting.popleft(), "t", tokens=0)
    task = story.waiting.popleft()
    started = execution_pb2.ExecutionStarted(
        execution_id=task.headers.execution_id, run_id="lost", node_id="t", iteration=1, attempt=1
    )
    story.append("acme", "run", execution_started=started)
    story.order(abort=control_pb2.AbortLifetime())
    assert checked(story.topics).counts["lifetimes that wait for a run's grace"] == 1
    story.wait()
    report = checked(story.topics)
    assert not report.violated, "\n".join(report.lines())
    change(story, "lifetimes", -1, lambda view: setattr(view.usage, "tokens_used", 0))
    assert "100 tokens" in says(checked(story.topics), "I3")


# -- I4 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "said"), [("ABORT_LIFETIME", "after the abort"), ("PAUSE_LIFETIME", "in a pause")]
)
def test_i4_nothing_is_dispatched_after_a_stop(event: str, said: str) -> None:
    story = loop_story(count=1)
    first = plan_pb2.PlanInput.FromString(records(story, "plan-inputs")[0].value or b"")
    stop = control_pb2.ExecutionEvent(
        tenant_id="acme",
        lifetime_id="run",
        type=control_pb2.ControlType.Value(f"CONTROL_TYPE_{event}"),
        source=pb.Source(offset=first.source.offset, index=first.source.index + 1),
    )
    headers = (("hg-type", b"ExecutionEvent"), ("hg-schema", b"1.0"), ("hg-tenant", b"acme"))
    story.topics.append("headgate.control-events", b"acme", stop.SerializeToString(), headers)
    assert said in says(checked(story.topics), "I4")


def test_i4_nothing_is_dispatched_beyond_a_cap() -> None:
    """The rule is in the log, and the gate did not obey it."""
    story = Story()
    story.register(LOOP)
    story.set_policy(
        {"name": "all", "scope": "lifetime", "limit": {"tokens_used": 1_000}, "action": "abort_lifetime"}
    )
    story.start()
    story.work(rounds(2))
    assert not checked(story.topics).violated

    def tighter(envelope: Any) -> None:
        given = envelope.policy_set
        given.document_json = given.document_json.replace("1000", "150")
        given.sha256 = hashlib.sha256(given.document_json.encode()).hexdigest()

    change(story, "executions", 1, tighter)
    report = checked(story.topics)
    assert "dispatched at 200, caps/all tokens_used is 150 (lifetime)" in says(report, "I4")


# -- I5 ------------------------------------------------------------------------------------------------


def test_i5_iterations_stay_within_the_graphs_cap() -> None:
    story = loop_story(count=4)
    assert not checked(story.topics).violated

    def tighter(envelope: Any) -> None:
        given = envelope.graph_registered
        given.definition_json = given.definition_json.replace('"max_iterations":5', '"max_iterations":4')

    change(story, "executions", 0, tighter)
    assert "iteration 5 of 4" in says(checked(story.topics), "I5")


# -- I6 ------------------------------------------------------------------------------------------------


def test_i6_a_join_of_all_does_not_go_on_with_one() -> None:
    story = fork_story(strategy="any")
    story.report(story.waiting.popleft())

    def asks_for_all(envelope: Any) -> None:
        given = envelope.graph_registered
        given.definition_json = given.definition_json.replace('"strategy":"any"', '"strategy":"all"')

    assert not checked(story.topics, settled=False).violated
    change(story, "executions", 0, asks_for_all)
    report = checked(story.topics, settled=False)
    assert broken(report) == {"I6"}
    assert "1 inputs of 2 branches" in says(report, "I6")


def test_i6_a_join_goes_on_once_in_a_visit() -> None:
    story = fork_story(strategy="any")
    story.report(story.waiting.popleft())
    late = story.report(story.waiting.popleft())
    result = execution_pb2.ExecutionEnvelope.FromString(late.value or b"").task_execution

    def again(given: Any) -> None:
        from headgate_resilience.check.model.life import id_of

        headers = given.headers
        headers.iteration = 2
        headers.execution_id = id_of(("acme", "run"), "j", 2, 1)
        headers.upstream_execution_ids[:] = [result.headers.execution_id]
        given.upstream_task_executions[0].CopyFrom(result)
        given.source.offset, given.source.index = late.offset, 0

    repeat(story, "plan-inputs", -1, again)
    found = records(story, "plan-inputs")
    key = plan_pb2.PlanInput.FromString(found[-1].value or b"").headers.execution_id.encode()
    found[-1] = replace(found[-1], key=key)
    report = checked(story.topics, settled=False)
    assert broken(report) == {"I6"}
    assert "it has gone on before in this visit" in says(report, "I6")


# -- I7 ------------------------------------------------------------------------------------------------


def test_i7_an_execution_follows_from_one_that_exists() -> None:
    story = loop_story()

    def orphaned(given: Any) -> None:
        given.headers.upstream_execution_ids[:] = ["f" * 32]
        given.upstream_task_executions[0].headers.execution_id = "f" * 32

    change(story, "plan-inputs", 1, orphaned)
    assert f"upstream {'f' * 32} does not exist" in says(checked(story.topics), "I7")


def test_i7_an_execution_id_is_the_hash_of_what_it_is() -> None:
    story = loop_story()

    def renamed(given: Any) -> None:
        given.headers.execution_id = "e" * 32

    change(story, "task-inputs", -1, renamed, key=b"e" * 32)
    assert "is not the hash" in says(checked(story.topics), "I7")


def test_i7_what_no_record_led_to_was_made_up() -> None:
    story = loop_story()

    def elsewhere(view: Any) -> None:
        view.source.offset = -1

    repeat(story, "lifetimes", -1, elsewhere)
    assert "was made from a record that is not there" in says(checked(story.topics), "I7")


# -- I8 ------------------------------------------------------------------------------------------------


def test_i8_what_is_said_again_has_the_same_bytes() -> None:
    story = loop_story()
    repeat(story, "plan-inputs")
    report = checked(story.topics)
    assert not report.violated
    assert report.counts["repeated outputs"] == 1
    repeat(story, "plan-inputs", -1, lambda given: setattr(given, "params_json", "{}"))
    assert broken(checked(story.topics)) == {"I8"}


def test_i8_an_output_that_consumers_would_take_for_a_repeat_is_seen() -> None:
    story = loop_story()
    found = records(story, "task-inputs")
    found[0], found[1] = replace(found[1], offset=0), replace(found[0], offset=1)
    report = checked(story.topics)
    assert "consumers drop it as a repeat" in says(report, "I8")


# -- I9 ------------------------------------------------------------------------------------------------


def test_i9_a_canary_belongs_to_its_tenant() -> None:
    story = Story()
    for tenant in ("acme", "globex"):
        story.register(LOOP, tenant)
        story.start(tenant=tenant, value=f"canary-{tenant}-1")
    story.work(rounds(1))
    assert not checked(story.topics).violated
    change(story, "task-inputs", -1, lambda given: setattr(given, "params_json", '"canary-acme-1"'))
    report = checked(story.topics)
    assert broken(report) == {"I9"}
    assert "globex has 'canary-acme-1'" in says(report, "I9")


def test_i9_a_named_canary_is_searched_in_keys_values_and_headers() -> None:
    story = loop_story(tenant="globex")
    assert not checked(story.topics, canaries={"acme": "secret-of-acme"}).violated
    found = records(story, "lifetimes")
    found[0] = replace(found[0], headers=(*found[0].headers, ("traceparent", b"secret-of-acme")))
    report = checked(story.topics, canaries={"acme": "secret-of-acme"})
    assert "globex has a canary of acme" in says(report, "I9")


def test_i9_an_output_lies_under_its_tenants_key() -> None:
    story = loop_story()
    found = records(story, "lifetimes")
    found[0] = replace(found[0], key=b"globex/run")
    assert "key 'globex/run' on what is 'acme/run'" in says(checked(story.topics), "I9")


def test_i9_log_files_hold_no_canary(tmp_path: Path) -> None:
    story = Story()
    story.register(LOOP)
    story.start(value="canary-acme-1")
    story.topics.is_read = False
    (tmp_path / "gate.log").write_text("all is well\n")
    from headgate_resilience.check import Check

    def look() -> Report:
        return Check(story.topics, None, settled=False, canaries={}).run(logs=tmp_path)

    assert not look().violated
    (tmp_path / "gate.log").write_text("x" * 1_048_570 + "canary-acme-1\n")
    assert says(look(), "I9") == "gate.log: holds the canary 'canary-acme-1'"


# -- I10 -----------------------------------------------------------------------------------------------


def test_i10_nothing_unfinished_is_committed() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    workers = ("headgate.plan-workers", "headgate.plan-inputs")
    story.topics.offsets[workers] = {0: 0}
    assert not checked(story.topics, settled=False).violated
    story.topics.offsets[workers] = {0: 1}
    report = checked(story.topics, settled=False)
    assert broken(report) == {"I10"}
    assert "is unfinished, and 1 is committed" in says(report, "I10")


def test_i10_when_all_is_over_nothing_is_left_to_read() -> None:
    story = loop_story()
    story.topics.offsets["headgate.gate", "headgate.executions"] = {0: len(story.log) - 2}
    report = checked(story.topics)
    assert report.figures["lag"]["headgate.gate"] == 2
    assert broken(report) == {"I10"}


def test_i10_a_group_has_not_committed_what_is_not_there() -> None:
    story = loop_story()
    story.topics.offsets["headgate.task-workers", "headgate.task-inputs"] = {0: 99}
    assert "has committed 99, the topic ends at 2" in says(checked(story.topics), "I10")


# -- I11 -----------------------------------------------------------------------------------------------


def test_i11_a_fresh_fold_says_the_same() -> None:
    story = loop_story()
    lose(story, "task-inputs", 1)
    assert "was never written" in says(checked(story.topics), "I11")


def test_i11_a_fresh_fold_comes_to_the_same_states() -> None:
    story = loop_story()
    story.checkpoint(wrong=True)
    report = checked(story.topics)
    assert "is not that of its checkpoint" in says(report, "I11")


def test_i11_what_retention_has_taken_is_not_missed_and_not_checked() -> None:
    story = loop_story()
    del story.log[0]
    report = checked(story.topics)
    assert report.verdict("I11") is Verdict.NOT_CHECKED
    assert "has lost its first 1 records" in report.invariants["I11"].why_not
    assert broken(report) == set()


# -- I12 -----------------------------------------------------------------------------------------------


def with_blob(content: bytes, store: MemoryBlobStore, *, size: int | None = None) -> Story:
    """Return a story whose task has put its result into the store."""
    story = Story()
    story.register(LOOP)
    story.start()
    story.report(story.waiting.popleft(), "t")
    sha = hashlib.sha256(content).hexdigest()
    store.put(f"acme/{sha[:2]}/{sha}", content)
    blob = pb.BlobReference(
        uri=f"acme/{sha[:2]}/{sha}", size_bytes=len(content) if size is None else size, sha256=sha
    )
    story.report(story.waiting.popleft(), blob=blob)
    return story


def test_i12_every_reference_resolves() -> None:
    store = MemoryBlobStore()
    story = with_blob(b'"large"', store)
    report = checked(story.topics, settled=False, blobs=store)
    assert not report.violated
    assert report.invariants["I12"].looked_at == 1
    assert broken(checked(story.topics, settled=False, blobs=MemoryBlobStore())) == {"I12"}


@pytest.mark.parametrize("size", [6, 8])
def test_i12_a_blob_has_the_size_that_its_reference_says(size: int) -> None:
    store = MemoryBlobStore()
    story = with_blob(b'"large"', store, size=size)
    assert broken(checked(story.topics, settled=False, blobs=store)) == {"I12"}


def test_i12_a_blob_has_the_bytes_that_its_reference_says() -> None:
    store = MemoryBlobStore()
    story = with_blob(b'"large"', store)
    for key in list(store._blobs):
        store.put(key, b'"other"')
    assert "another sha256" in says(checked(story.topics, settled=False, blobs=store), "I12")


# -- I13 -----------------------------------------------------------------------------------------------

HEADERS = (("hg-type", b"ExecutionEnvelope"), ("hg-schema", b"1.0"), ("hg-tenant", b"acme"))
BAD: dict[str, tuple[bytes | None, bytes | None, Any]] = {
    "EMPTY": (b"acme", None, HEADERS),
    "DECODE": (b"acme", b"\xff" * 30, HEADERS),
    "HEADER_MISSING": (b"acme", b"x", HEADERS[:2]),
    "TYPE_MISMATCH": (b"acme", b"x", (("hg-type", b"TaskInput"), *HEADERS[1:])),
    "VERSION": (b"acme", b"x", (HEADERS[0], ("hg-schema", b"2.0"), HEADERS[2])),
    "BAD_TENANT_ID": (b"../b", b"x", (*HEADERS[:2], ("hg-tenant", b"../b"))),
    "TENANT_SPOOF": (b"globex", b"", HEADERS),
    "HEADERS": (b"acme", b"x", (*HEADERS, HEADERS[0])),
    "SIZE": (b"acme", b"x" * (2 * 1024 * 1024 + 1), HEADERS),
}


@pytest.mark.parametrize("reason", BAD)
def test_i13_a_bad_record_leads_to_one_letter(reason: str) -> None:
    story = loop_story()
    key, value, headers = BAD[reason]
    if reason == "TENANT_SPOOF":
        value = records(story, "executions")[0].value
    story.write(key, value, headers)
    report = checked(story.topics)
    assert not report.violated, "\n".join(report.lines())
    assert report.counts[f"dead letters {reason}"] == 1
    lose(story, "dead-letters", 0)
    assert f"{reason}: 0 dead letters tell of it" in says(checked(story.topics), "I13")


def test_i13_a_letter_has_the_bytes_and_the_place_of_its_record() -> None:
    story = loop_story()
    story.write(b"acme", b"\xff" * 30, HEADERS)
    change(story, "dead-letters", 0, lambda letter: setattr(letter, "value", b"\xfe" * 30))
    assert "its bytes are not the record's" in says(checked(story.topics), "I13")
    change(story, "dead-letters", 0, lambda letter: setattr(letter, "offset", 3))
    assert "is about headgate.executions[0]@3, not its source" in says(checked(story.topics), "I13")


def test_i13_a_good_result_is_not_put_aside() -> None:
    story = Story()
    story.register(LOOP)
    story.start()
    given = story.waiting.popleft()
    story.write(b"acme", b"\xff" * 30, HEADERS)
    result = story.report(given, "t")

    def about_the_result(letter: Any) -> None:
        letter.offset, letter.source.offset, letter.reason = result.offset, result.offset, "UNKNOWN_NODE"
        letter.value, letter.value_size_bytes = result.value or b"", len(result.value or b"")

    change(story, "dead-letters", 0, about_the_result)
    report = checked(story.topics, settled=False)
    assert "UNKNOWN_NODE is said of headgate.executions[0]@3, which is good" in says(report, "I13")


def test_i13_workers_put_bad_inputs_aside() -> None:
    story = loop_story()
    bad = story.topics.append("headgate.task-inputs", b"x", b"\xff", HEADERS)
    report = checked(story.topics)
    assert f"@{bad.offset}: TYPE_MISMATCH, and no dead letter tells of it" in says(report, "I13")
    assert not checked(story.topics, settled=False).violated
    letter = execution_pb2.DeadLetter(
        topic=bad.topic, offset=bad.offset, key=b"x", value=b"\xff", value_size_bytes=1, tenant_id="acme"
    )
    headers = (("hg-type", b"DeadLetter"), *HEADERS[1:])
    story.topics.append("headgate.dead-letters", b"acme", letter.SerializeToString(), headers)
    assert not checked(story.topics).violated


# -- I14, and the report ---------------------------------------------------------------------------------


def test_i14_every_tenant_comes_to_an_end_and_stays_fast() -> None:
    story = Story()
    for tenant in ("acme", "globex"):
        story.register(LOOP, tenant)
        story.start(tenant=tenant)
    report = checked(story.topics)
    assert says(report, "I14").splitlines() == [
        f"tenant {tenant}: 1 lifetimes did not come to an end" for tenant in ("acme", "globex")
    ]
    calm = checked(loop_story().topics)
    calm.judge_latency(10.0, 19.0)
    assert not calm.violated
    calm.judge_latency(10.0, 21.0)
    assert calm.verdict("I14") is Verdict.FAIL


def test_one_tenant_is_judged_alone() -> None:
    story = Story()
    for tenant in ("acme", "globex"):
        story.register(LOOP, tenant)
        story.start(tenant=tenant)
    story.work(lambda given: ["t" if given.headers.iteration < 2 else "end"])
    change(story, "lifetimes", -1, lambda view: setattr(view.usage, "tokens_used", 7))
    assert broken(checked(story.topics)) == {"I3"}
    assert broken(checked(story.topics, tenant="globex")) == {"I3"}
    assert not checked(story.topics, tenant="acme").violated


def test_the_report_is_plain_data_and_lines() -> None:
    story = loop_story()
    change(story, "lifetimes", -1, lambda view: setattr(view.usage, "tokens_used", 7))
    report = checked(story.topics)
    said = report.to_json()
    assert said["violated"] is True
    assert [one["id"] for one in said["invariants"]] == [f"I{number}" for number in range(1, 15)]
    ledger = said["invariants"][2]
    assert (ledger["verdict"], ledger["violations"]) == ("FAIL", len(ledger["examples"]))
    assert any(line.startswith("I3  FAIL") for line in report.lines())
    assert report.lines()[-1] == "violated"


def test_examples_are_few_and_escaped() -> None:
    from headgate_resilience.check.findings import Findings

    findings = Findings()
    for number in range(25):
        findings.fail("I1", f"here {number}", "\x1b[31mred\n" + "x" * 1_000)
    report = findings.report(settled=True)
    assert report.invariants["I1"].violations == 25
    assert len(report.invariants["I1"].examples) == 10
    assert all(one.what.isprintable() and len(one.what) < 310 for one in report.invariants["I1"].examples)
    assert "      … and 15 more" in report.lines()


def test_what_a_quarantined_tenant_missed_is_judged_at_its_release() -> None:
    """Its time stands still: what would have been given up two hours ago is accepted."""
    story = Story(Hold("acme", 5, "ValueError: a bug"))
    story.append("*", logic_version=execution_pb2.LogicVersionActivated(version=2))
    for tenant in ("acme", "globex"):
        story.register(LOOP, tenant)
        story.start(tenant=tenant)
    story.report(story.waiting.popleft(), "t")
    note = execution_pb2.TenantQuarantined(from_offset=5, error="ValueError: a bug")
    story.append("acme", tenant_quarantined=note)
    story.work(rounds(1))
    story.wait(2 * 3_600_000)
    assert not checked(story.topics, settled=False).violated
    story.order("", release=control_pb2.ReleaseTenant())
    story.work(rounds(1))
    report = checked(story.topics)
    assert not report.violated, "\n".join(report.lines())
    assert report.counts["lifetimes completed"] == 2
    assert report.counts["log: tenant_quarantined"] == 1


def test_only_one_module_knows_the_fold() -> None:
    """What is checked is not checked with itself."""
    folder = Path(check_package.__file__).parent
    own = {"headgate_guardrails", "headgate_graphs.progress", "headgate_graphs.conditions"}
    knowing = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("from ", "import ")) and any(name in line for name in own)
    }
    assert knowing == {"refold.py"}
