"""The coding agent's handlers, with the recorded model and real tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate_graphs.errors import NonRetryable


def test_the_plan_asks_the_model_and_opens_two_branches(handlers, plan_context, recorded, issue_read, run):
    ctx = plan_context({"read_issue": issue_read})
    decision = run(handlers.plan_work(ctx))
    assert decision.next == ["search_code", "run_tests"]
    assert "split_evenly" in decision.inputs["search_code"]["look_for"]
    assert recorded.calls == ["plan"]


def test_what_the_model_used_is_billed_at_the_price_of_its_model(
    handlers, plan_context, recorded, issue_read, run
):
    ctx = plan_context({"read_issue": issue_read})
    run(handlers.plan_work(ctx))
    usage = ctx.usage.snapshot(0, must_be_told=True)
    assert (usage.tokens_used, usage.model, usage.unpriced) == (356, "recorded/gpt-4.1-mini", False)
    assert usage.cost_nano_usd == 312 * 400 + 44 * 1600


def test_without_an_endpoint_the_recorded_answers_of_this_process_are_used(
    handlers, module, plan_context, issue_read, run
):
    ctx = plan_context({"read_issue": issue_read})
    run(handlers.plan_work(ctx))
    server = module("recorded_model").in_this_process()
    assert server.calls[-1:] == ["plan"]


def test_an_endpoint_that_refuses_fails_without_a_retry_and_costs_nothing(
    handlers, plan_context, recorded, run
):
    ctx = plan_context({"read_issue": {"issue": "unknown", "files": []}})
    with pytest.raises(NonRetryable, match="nothing like this was recorded"):
        run(handlers.plan_work(ctx))
    assert ctx.usage.snapshot(0, must_be_told=True).cost_nano_usd == 0
    assert not ctx.usage.snapshot(0, must_be_told=True).unpriced


def test_the_first_patch_fails_the_real_tests_and_the_second_passes_them(
    handlers, task_context, recorded, issue_read, run
):
    data = {"files": ["tally/split.py"], "failure": "test_no_cent_is_lost", "tried": ""}
    for passed in (False, True):
        ctx = task_context(iteration=1 + passed)
        proposed = run(handlers.propose_patch(ctx, data)).value
        checked = run(handlers.validate(ctx, json.loads(json.dumps(proposed)))).value
        assert checked["passed"] is passed
        data = checked | {"failure": checked["output"]}
    assert recorded.calls == ["first patch", "second patch"]
    outcome = handlers.accept(task_context())
    assert (outcome["rounds"], outcome["model"]) == (2, "recorded/gpt-4.1-mini")
    assert "divmod" in outcome["diff"]
    assert "divmod" in Path(checked["directory"], "tally/split.py").read_text()
