"""The polling agent's handlers, called as the plain functions they are."""

from __future__ import annotations

import asyncio
import json

import pytest

from headgate_graphs.errors import NonRetryable

READINGS = "day,hour,celsius\nmon,0,1.0\nmon,1,3.0\ntue,0,7.0\n"


@pytest.fixture
def polling(example):
    return example("polling_agent")


@pytest.fixture
def start(tmp_path):
    (tmp_path / "readings.csv").write_text(READINGS)
    return {"readings": str(tmp_path / "readings.csv"), "day_s": 0}


@pytest.fixture
def state(tmp_path):
    """Return what the job says of itself, after `job` has been written there when it is given."""
    file = tmp_path / "acme/r1/job.json"

    def of(job=None):
        if job is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(job))
        return json.loads(file.read_text())

    return of


def test_the_job_sums_up_every_day(polling, task_context, run, start, state):
    run(polling.run_job(task_context(**start)))
    assert state() == {
        "status": "done",
        "done": 2,
        "days": [
            {"day": "mon", "low": 1.0, "high": 3.0, "mean": 2.0},
            {"day": "tue", "low": 7.0, "high": 7.0, "mean": 7.0},
        ],
    }


def test_a_job_that_is_run_again_goes_on_where_it_stood(polling, task_context, run, start, state):
    state({"status": "cancelled", "done": 1, "days": [{"day": "before"}]})
    run(polling.run_job(task_context(**start)))
    assert [day["day"] for day in state()["days"]] == ["before", "tue"]


def test_a_job_that_hangs_is_cancelled_and_says_so(polling, task_context, run, start, state):
    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(polling.run_job(task_context(hang_after=1, **start)), 0.05)

    run(cancelled())
    assert (state()["status"], state()["done"]) == ("cancelled", 1)


def test_readings_that_are_not_there_are_named(polling, task_context, run):
    with pytest.raises(NonRetryable, match=r"nowhere\.csv"):
        run(polling.run_job(task_context(readings="nowhere.csv")))


def look(polling, done):
    return polling.Look(done=done, patience_s=0.02)


def test_a_poll_tells_what_is_new_at_once(polling, task_context, run, state):
    state({"done": 3})
    seen = run(polling.poll(task_context(), look(polling, 2)))
    assert seen == {"status": "running", "done": 3, "news": True}


def test_a_poll_says_after_a_while_that_nothing_is_new(polling, task_context, run, state):
    state({"done": 3})
    seen = run(polling.poll(task_context(), look(polling, 3)))
    assert seen == {"status": "running", "done": 3, "news": False}


def test_a_job_that_has_not_begun_may_be_polled(polling, task_context, run):
    assert run(polling.poll(task_context(), look(polling, 0)))["done"] == 0


def test_it_polls_on_with_what_it_has_seen(polling, plan_context, run):
    seen = {"status": "running", "done": 3, "news": False}
    decision = run(polling.decide(plan_context({"poll": seen}, iteration=4)))
    assert (decision.next, decision.output) == (["poll"], {"done": 3})


def test_it_collects_when_the_job_is_done(polling, plan_context, run):
    seen = {"status": "done", "done": 10, "news": True}
    decision = run(polling.decide(plan_context({"poll": seen}, iteration=4)))
    assert (decision.next, decision.output) == (["collect"], {"polls": 4})


def test_a_poll_that_failed_fails_the_run(polling, plan_context, run):
    with pytest.raises(NonRetryable, match="poll failed: disk full"):
        run(polling.decide(plan_context({"poll": OSError("disk full")})))


def test_the_outcome_is_the_warmest_day(polling, task_context, state):
    state({"done": 2, "days": [{"day": "mon", "high": 3.0}, {"day": "tue", "high": 7.0}]})
    collected = polling.collect(task_context(), {"polls": 4})
    assert collected == {"days": 2, "warmest": {"day": "tue", "high": 7.0}, "polls": 4}
