"""Human tasks: answered by command, reminded of, given up; several wait at once."""

from __future__ import annotations

import json

import pytest

from headgate_protos.v1.execution_pb2 import WaitingView
from tests.e2e.semantics import Run, graph, needs, visits

ASK = {"type": "human"}
ONE = graph("p normal t", "t normal q", "q final", p=visits("t"), t=ASK)


def waiting(run: Run, count: int = 1) -> list[WaitingView]:
    """Wait until so many human tasks are shown as waiting."""

    def shown() -> bool:
        view = run.view()
        return view is not None and len(view.waiting) == count

    run.waits_until(shown)
    view = run.view()
    assert view is not None
    return list(view.waiting)


@pytest.mark.parametrize(
    ("outcome", "answer"), [("approved", None), ("answered", {"text": "blue"}), ("rejected", "too dear")]
)
@needs(ONE)
def test_a_person_completes_a_task_by_command(run: Run, outcome: str, answer: object) -> None:
    run.start({"question": "may I?"})
    [asked] = waiting(run)
    assert (asked.node_id, json.loads(asked.json_input)) == ("t", {"question": "may I?"})
    assert not run.dispatched("t"), "a person's task was given to a worker"
    run.answer(asked.execution_id, outcome, answer)
    run.ends("completed", outcome={"t": {"outcome": outcome, "answer": answer}})
    assert not run.view().waiting


BY_ANSWER = graph(("t normal go", "result.outcome == 'approved'"), "t normal stop", "go,stop final", t=ASK)


@needs(BY_ANSWER)
def test_a_condition_can_look_at_what_a_person_said(run: Run) -> None:
    run.start()
    run.answer(waiting(run)[0].execution_id, "rejected")
    run.ends("completed")
    assert [bool(run.calls(node)) for node in ("go", "stop")] == [False, True]


@needs(graph("t normal q", "q final", t={"type": "human", "timeout": "300ms", "reminder": "100ms"}))
def test_nobody_answers_so_the_plan_is_told_after_reminders(run: Run) -> None:
    run.start()
    run.ends("completed", outcome={"t": "TIMEOUT"})
    reminders = run.events("WARN")
    assert 1 <= len(reminders) <= 2
    assert {one.reason for one in reminders} == {"REMINDER: node t waits for a person"}


SEVERAL = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j final",
    p=visits("ta,tb,tc"),
    j={"join": {"strategy": "majority", "cancel_losers": True}},
    ta=ASK,
    tb=ASK,
    tc=ASK,
)


@needs(SEVERAL)
def test_several_wait_at_once_and_a_majority_decides(run: Run) -> None:
    run.start()
    asked = {one.node_id: one.execution_id for one in waiting(run, 3)}
    run.answer(asked["tc"], "approved")
    assert {one.node_id for one in waiting(run, 2)} == {"ta", "tb"}
    run.answer(asked["ta"], "rejected")
    run.ends("completed")
    assert run.upstream("j") == ["ta", "tc"]


@needs(ONE)
def test_an_answer_to_what_does_not_wait_is_a_dead_letter_and_changes_nothing(run: Run) -> None:
    run.letters = ["BAD_COMMAND", "BAD_COMMAND"]
    run.start("x")
    [asked] = waiting(run)
    run.answer("f" * 32, "approved")
    run.answer(run.dispatched("p")[0].message.headers.execution_id, "approved")
    run.answer(asked.execution_id, "approved")
    run.ends("completed", outcome={"t": {"outcome": "approved", "answer": None}})


@needs(ONE)
def test_an_answer_while_the_lifetime_is_paused_is_kept(run: Run) -> None:
    run.start()
    [asked] = waiting(run)
    run.pause()
    run.answer(asked.execution_id, "approved")
    run.becomes("paused")
    run.barrier()
    assert not run.dispatched("q")
    run.resume()
    run.ends("completed")
