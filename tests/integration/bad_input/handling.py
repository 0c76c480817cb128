"""Handlers that misbehave: what they raise, return and claim, and what the world gets to see of it."""

from __future__ import annotations

import json
import time
from typing import Any

from headgate.words import status_word
from headgate_protos.v1.execution_pb2 import LifetimeView
from tests.integration.bad_input.rows import Hand, row
from tests.integration.bad_input.yard import MANUAL, SECRET, Yard
from tests.support import eventually
from tests.unit.guardrails.graphs_for_tests import graph


def failed(yard: Yard, does: str, **config: Any) -> Any:
    """Let the yard's worker run t1, told to misbehave; return the execution that the plan behind it gets."""
    definition = graph(
        [("p1", "t1"), ("t1", "p2"), ("p2", "end", "final")],
        entry="p1",
        t1={"params": {"does": does}, "max_retries": 0, **config},
        p2={"queue": MANUAL},
    )
    tenant = yard.tenant()
    yard.register(tenant, definition)
    yard.start(tenant)
    (execution,) = yard.input(tenant, "p2").upstream_task_executions
    return execution


def assert_harmless(text: str) -> None:
    assert text.isprintable()
    assert len(text) <= 2048
    assert SECRET not in text
    assert "\x1b" not in text


@row("handler-raises-with-ansi-newlines-and-a-secret")
def raises(hand: Hand) -> None:
    execution = failed(hand.yard, "raise")
    error = execution.result.error
    assert (execution.result.success, error.code, error.exception_class) == (
        False,
        "HANDLER_ERROR",
        "ValueError",
    )
    assert_harmless(error.message)
    assert error.message.startswith("\\x1b[31mred\\nsecond line %s *** xxx")
    assert SECRET not in hand.log.text


@row("handler-raises-and-nobody-takes-the-failure")
def raises_at_the_end(hand: Hand) -> None:
    yard = hand.yard
    definition = graph([("t1", "p1"), ("p1", "end", "final")], entry="t1", t1={
        "params": {"does": "raise"}, "max_retries": 0}, p1={"params": {"does": "none"}, "max_retries": 0},
    )  # fmt: skip
    tenant, view = yard.run(definition)
    assert status_word(view.status) == "failed"
    assert_harmless(view.reason)
    code, out, _ = hand.shell("timeline", "run", "--tenant", tenant, *yard.place(hand.environment))
    assert code == 0
    assert "\x1b" not in out
    assert SECRET not in out


MISTAKES = {
    "object": ("HANDLER_ERROR", "not JSON"),
    "deep": ("HANDLER_ERROR", "nested deeper"),
    "gigabyte": ("RESULT_TOO_LARGE", "above"),
    "nan": ("HANDLER_ERROR", "cost_usd"),
    "negative": ("HANDLER_ERROR", "tokens_used"),
}
for does, (code, words) in MISTAKES.items():

    @row(f"handler-returns-{does}")
    def wrong(hand: Hand, does: str = does, code: str = code, words: str = words) -> None:
        began = time.monotonic()
        error = failed(hand.yard, does).result.error
        assert error.code == code
        assert words in error.message
        assert_harmless(error.message)
        assert time.monotonic() - began < 20.0
        hand.yard.others_go_on()


@row("plan-returns-none")
def plan_returns_none(hand: Hand) -> None:
    yard = hand.yard
    definition = graph(
        [("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")],
        entry="p1",
        p1={"params": {"does": "none"}, "max_retries": 0},
    )
    tenant, view = yard.run(definition)
    assert (status_word(view.status), "a plan returns a Decision" in view.reason) == ("failed", True)
    assert yard.inputs(tenant, "t1") == []


@row("handler-returns-two-megabytes")
def large(hand: Hand) -> None:
    execution = failed(hand.yard, "large")
    reference = execution.result.blob_reference
    assert (execution.result.success, reference.size_bytes) == (True, 2**21 + 2)
    assert reference.uri.startswith(f"{execution.tenant_id}/")
    stored = hand.yard.client.blobs.get(reference.uri, reference.size_bytes)
    assert json.loads(stored) == "x" * 2**21


@row("unpriced-and-silent-handler-is-charged-its-hold")
def silent(hand: Hand) -> None:
    yard = hand.yard
    execution = failed(yard, "say-nothing", limits={"tokens_used": 100, "cost_usd": "0.10"})

    def charged() -> LifetimeView | None:
        return yard.view(execution.tenant_id)

    assert execution.resource_usage.unpriced
    led = yard.input(execution.tenant_id, "p2")
    yard.report(led, next_ids=["end"])
    view = yard.ended(execution.tenant_id)
    assert eventually(charged) is not None
    assert (view.usage.tokens_used, view.usage.cost_nano_usd) == (100, 100_000_000)
