"""The research example: a quorum of searches, and a person who has the last word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate import Headgate
from headgate.running import Run
from headgate_protos.v1.control_pb2 import HumanOutcome
from headgate_protos.v1.execution_pb2 import LifetimeView
from tests.e2e.embedded import EXAMPLES, control_events, history
from tests.e2e.running import Place
from tests.support import eventually

EXAMPLE = EXAMPLES / "research_agent"
POLICY = EXAMPLE / "policy.yaml"
NEVER_S = 60
"""A search that waits so long has not answered when the join goes on."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def headgate(tmp_path: Path) -> Iterator[Headgate]:
    with Headgate(tmp_path / "log") as embedded:
        yield embedded


class Asked:
    """A run of the example in this process, and the person whom it asks."""

    def __init__(self, headgate: Headgate, workdir: Path, **start: Any) -> None:
        self._headgate = headgate
        self.run: Run = headgate.begin(EXAMPLE, {"workdir": str(workdir), **start}, policy=POLICY)
        self._answered: list[str] = []

    def shown(self) -> str:
        """Return the draft that the person is shown, having waited for it."""
        (waiting,) = eventually(self._waiting)
        self._answered.append(waiting.execution_id)
        self.execution_id = waiting.execution_id
        return str(waiting.json_input)

    def says(self, outcome: str, answer: str | None = None) -> None:
        """Answer what was shown."""
        self._headgate.client.complete(
            self.run.tenant,
            self.run.lifetime_id,
            self.execution_id,
            HumanOutcome.Value(f"HUMAN_OUTCOME_{outcome}"),
            answer,
        )

    def _waiting(self) -> list[Any]:
        view: LifetimeView | None = self._headgate.client.lifetime(self.run.tenant, self.run.lifetime_id)
        waiting = list(view.waiting) if view is not None else []
        return [one for one in waiting if one.execution_id not in self._answered]


def cancelled(headgate: Headgate, run: Run) -> set[str]:
    """Return the searches that the join cancelled."""
    events = control_events(history(headgate.client, run.lifetime_id))
    return {node for kind, node in events if kind == "REJECT_EXECUTION"}


def test_a_report_is_published_when_a_person_approves_in_another_terminal(place: Place) -> None:
    arguments = ("run", EXAMPLE, "--input", place.input(), "--lifetime", "asked", "--json")
    with place.spawn(*arguments) as process:
        eventually(lambda: "waits for a person at approve" in place.headgate("status", "asked").out, 30)
        said = place.headgate("control", "complete", "asked", "--approve")
        assert said.code == 0, said.err
        assert process.wait() == 0, process.output
    rows = place.headgate("timeline", "asked", "--json").json
    ended = {row["node"]: row["status"] for row in rows if row["what"] in ("task", "plan")}
    assert ended["publish"] == "completed"
    assert (place.work / "copies/default/asked/report.md").read_text().startswith("# How did sailors")


def test_what_waits_for_a_person_is_listed_with_the_command_that_answers(place: Place) -> None:
    with place.spawn("run", EXAMPLE, "--input", place.input(), "--lifetime", "asked") as process:
        eventually(lambda: "headgate control complete asked" in place.headgate("status", "asked").out, 30)
        (waiting,) = place.headgate("status", "asked", "--json").json["view"]["waiting"]
        assert "Is this draft good?" in waiting["json_input"]
        place.headgate("control", "complete", "asked", waiting["execution_id"], "--reject", "--answer", "no")
        eventually(lambda: "judge #1 completed" in process.output)
        aborted = place.headgate("control", "abort", "asked", "--reason", "enough")
        assert aborted.code == 0, aborted.err
        assert process.wait() == 3, process.output


def test_three_answers_are_enough_and_the_fourth_search_is_cancelled(
    headgate: Headgate, tmp_path: Path
) -> None:
    asked = Asked(headgate, tmp_path)
    assert "longitude" in asked.shown()
    asked.says("APPROVED")
    report = headgate.wait(asked.run).completed()
    assert report["drafts"] == 1
    assert set(report["sources"]) == {"lunar_distances", "chronometer", "dead_reckoning"}
    assert cancelled(headgate, asked.run) == {"by_letters"}


def test_two_answers_are_enough_when_the_time_is_over(headgate: Headgate, tmp_path: Path) -> None:
    asked = Asked(headgate, tmp_path, wait_s={"by_title": NEVER_S})
    asked.shown()
    asked.says("APPROVED")
    headgate.wait(asked.run).completed()
    assert cancelled(headgate, asked.run) == {"by_title", "by_letters"}


def test_one_answer_is_not_enough_when_the_time_is_over(headgate: Headgate, tmp_path: Path) -> None:
    asked = Asked(headgate, tmp_path, wait_s={"by_title": NEVER_S, "by_count": NEVER_S})
    outcome = headgate.wait(asked.run)
    assert outcome.status == "failed"
    assert "JOIN_TIMEOUT" in outcome.reason


def test_the_join_goes_on_when_all_have_answered_though_most_found_nothing(
    headgate: Headgate, tmp_path: Path
) -> None:
    asked = Asked(headgate, tmp_path, question="A sekstant mesures the angel", wait_s={"by_letters": 0})
    assert "The sextant" in asked.shown()
    assert cancelled(headgate, asked.run) == set()
    headgate.client.abort(asked.run.tenant, asked.run.lifetime_id)
    assert headgate.wait(asked.run).status == "aborted"


def test_a_draft_that_is_rejected_comes_back_with_what_was_missed(headgate: Headgate, tmp_path: Path) -> None:
    asked = Asked(headgate, tmp_path)
    assert "Cloudesley" in asked.shown()
    asked.says("REJECTED", "say what a traverse board is")
    assert "pegged its speed and heading on a traverse board" in asked.shown()
    asked.says("APPROVED")
    report = headgate.wait(asked.run).completed()
    assert report["drafts"] == 2
    assert Path(report["file"]).read_text() == report["report"]


def test_drafts_are_bounded(headgate: Headgate, tmp_path: Path) -> None:
    asked = Asked(headgate, tmp_path, max_drafts=2)
    for _ in range(2):
        asked.shown()
        asked.says("REJECTED", "no")
    outcome = headgate.wait(asked.run)
    assert outcome.status == "failed"
    assert "none of 2 drafts was approved; the last word: no" in outcome.reason


def test_several_runs_may_wait_for_a_person_at_once(headgate: Headgate, tmp_path: Path) -> None:
    all_asked = [Asked(headgate, tmp_path) for _ in range(3)]
    for asked in all_asked:
        asked.shown()
    for asked in reversed(all_asked):
        asked.says("APPROVED")
        assert headgate.wait(asked.run).completed()["drafts"] == 1
