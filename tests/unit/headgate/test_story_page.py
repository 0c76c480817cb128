"""The page of a timeline: hostile text stays text, bars and caps are in their place, nothing is fetched."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from headgate.client import Client
from headgate.story.axis import LEFT, RIGHT, Axis
from headgate.story.charts import Chart, chart
from headgate.story.page import story_page
from headgate.story.spending import CapLine, Charge, cap_lines, charges_of, spent
from headgate.story.telling import tell
from headgate_catalog.happening import Happening
from headgate_guardrails.policy import Policy
from headgate_protos.v1.control_pb2 import OperatorCommand, RaiseBudget
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    ForkOrigin,
    LifetimeFork,
    LifetimeStart,
    PolicySet,
    RecordedVisit,
    VisitReference,
)
from headgate_protos.v1.task_pb2 import TaskInput
from tests.unit.headgate.records import (
    COMPLETED,
    FAILED,
    RUNNING,
    event,
    headers,
    publish,
    publish_view,
    report,
    task_done,
    view,
)
from tests.unit.headgate.test_state import state_after
from tests.unit.headgate.test_story import forked

HOSTILE = "</svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Tags(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(*messages: Any, title: str = "life", lifetime: str = "life") -> str:
    told = [Happening(1000 * n, (n, 0, 0), one, "life") for n, one in enumerate(messages)]
    return story_page(tell(title, "default", told, {}), [], lifetime)


def hostile_page() -> str:
    done = task_done(error=HOSTILE)
    done.result.error.message = HOSTILE
    done.headers.node_id = HOSTILE
    given = TaskInput(headers=headers("x"))
    given.headers.node_id = given.headers.execution_id = HOSTILE
    broken = event()
    broken.violations[0].rule = broken.violations[0].policy = broken.reason = broken.node_id = HOSTILE
    broken.execution_id = HOSTILE
    ended = view(FAILED, graph_id=HOSTILE, reason=HOSTILE)
    started = LifetimeStart(graph_id=HOSTILE, issued_by=HOSTILE)
    order = OperatorCommand(issued_by=HOSTILE, raise_budget=RaiseBudget(policy=HOSTILE, rule=HOSTILE))
    return page_of(started, given, done, broken, order, ended, title=HOSTILE)


def test_nothing_that_a_run_says_becomes_markup() -> None:
    tags = Tags(hostile_page())
    assert len(tags.named("script")) == 1
    assert tags.named("img") == []
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert hostile_page().count("&lt;script&gt;alert(1)") > 8


def test_no_script_runs_but_the_pages_own_and_nothing_is_fetched() -> None:
    text = hostile_page()
    [policy] = [one["content"] or "" for one in Tags(text).named("meta") if "http-equiv" in one]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]+'", policy
    )
    links = [one.get("href") or "" for tag in ("a", "link") for one in Tags(text).named(tag)]
    assert all(link.startswith("#note-") for link in links)
    assert "http" not in text.replace("http-equiv", "")


def test_every_execution_is_a_bar_coloured_by_its_outcome() -> None:
    story = forked().story()
    text = story_page(story, [], "life")
    assert text.count('<rect class="run completed"') == 5
    assert text.count('<tr><td class="when">') == len(story.happenings)


def test_a_control_event_is_marked_by_a_number_that_leads_to_its_rule() -> None:
    text = page_of(task_done(), event(), view(COMPLETED))
    assert '<a href="#note-1">' in text
    assert 'id="note-1"' in text
    assert "rule run-dollars of policy tight v2" in text


def test_a_page_about_nothing_is_a_page() -> None:
    assert "0 executions" not in story_page(tell("tenant default", "default", [], {}), [], "")


def test_the_axis_keeps_what_lies_outside_at_its_edges() -> None:
    axis = Axis(1000, 2000)
    assert (axis.x(0), axis.x(1500), axis.x(9999)) == (LEFT, (LEFT + RIGHT) / 2, RIGHT)
    assert [text for _, text in axis.ticks()][1:3] == ["+100 ms", "+200 ms"]
    for span in (1, 17, 60_000, 86_400_000, 10**12):
        assert 1 <= len(list(Axis(0, span).ticks())) <= 12


def test_spend_is_summed_once_for_each_run() -> None:
    done = [Happening(at, (at, 0, 0), task_done(), "life") for at in (1000, 2000)]
    again = Happening(3000, (3, 0, 0), task_done(run_id="other"), "life")
    assert spent(charges_of([*done, again]), "tokens_used") == [(1000, 10), (3000, 20)]


def test_a_window_forgets_what_has_left_it() -> None:
    charges = [Charge(500, 0, 1), Charge(900, 0, 2), Charge(2100, 0, 4)]
    assert spent(charges, "tokens_used", 1000) == [
        (500, 1), (900, 3), (1000, 0), (2100, 4), (3000, 0),
    ]  # fmt: skip
    assert spent(charges, "tokens_used", 1000, is_sliding=True) == [
        (500, 1), (900, 3), (1500, 2), (1900, 0), (2100, 4), (3100, 0),
    ]  # fmt: skip


def policy_record(version: int, tokens: int | None) -> ExecutionEnvelope:
    limit = {"tokens_used": tokens} if tokens is not None else {"executions": 5}
    text = Policy.model_validate({
        "kind": "GuardrailPolicy", "metadata": {"name": "demo", "version": version},
        "rules": [{"name": "run", "scope": "lifetime", "limit": limit, "action": "warn"}],
    }).canonical_json()  # fmt: skip
    digest = hashlib.sha256(text.encode()).hexdigest()
    given = PolicySet(name="demo", version=version, document_json=text, sha256=digest)
    return ExecutionEnvelope(envelope_id=f"p{version}", tenant_id="default", policy_set=given)


def raised(value: int, lifetime: str = "life") -> ExecutionEnvelope:
    order = RaiseBudget(policy="demo", rule="run", metric="tokens_used", value=value)
    return ExecutionEnvelope(
        tenant_id="default", lifetime_id=lifetime, command=OperatorCommand(raise_budget=order)
    )


def test_a_cap_moves_with_raised_budgets_and_with_every_version_of_its_policy() -> None:
    log = [
        (1, policy_record(1, 100)), (2, raised(300)), (3, raised(900, "other")), (4, policy_record(2, 200)),
        (5, policy_record(3, None)), (6, raised(500)),
    ]  # fmt: skip
    [line] = cap_lines(log, "default", "life")
    assert line.points == [(1, 100), (2, 300), (4, 200), (5, -1)]
    assert cap_lines(log, "default") == []


def test_a_fork_begins_with_the_caps_that_it_was_given() -> None:
    order = RaiseBudget(policy="demo", rule="run", metric="tokens_used", value=7)
    start = LifetimeStart(graph_id="demo", fork=LifetimeFork(budgets=[order]))
    begun = ExecutionEnvelope(tenant_id="default", lifetime_id="life", lifetime_start=start)
    [line] = cap_lines([(1, policy_record(1, 100)), (2, begun)], "default", "life")
    assert line.points == [(1, 100), (2, 7)]
    assert state_after(start).caps == {("demo", "run", "tokens_used"): 7}


def test_what_a_fork_repeats_is_told_as_a_record_and_not_counted_as_run() -> None:
    went = RecordedVisit(visit=VisitReference(node_id="write", iteration=1), status=COMPLETED)  # type: ignore[arg-type]
    went.task_result.success = True
    origin = ForkOrigin(lifetime_id="before", offset=4)
    start = LifetimeStart(graph_id="demo", fork=LifetimeFork(origin=origin, prefix=[went]))
    told = [
        Happening(0, (0, 0, 0), start, "life"),
        Happening(1, (0, 1, 0), view(RUNNING, fork_of=origin), "life"),
    ]
    story = tell("life", "default", told, {})
    [step] = story.steps.values()
    assert (step.status, step.who, step.label) == ("repeated", "record of before", "write #1")
    text = story_page(story, [], "life")
    assert "forked from before at offset 4, 1 visits repeated" in text
    assert "<b>0</b>executions" in text


def test_a_cap_is_drawn_while_it_is_in_force_and_told_when_it_is_far_above() -> None:
    cap = CapLine("demo", "run", "lifetime", "tokens_used", "warn", 0, False, [(0, 100), (50, 300)])
    drawn = chart(Chart("tokens", "tokens_used", [(10, 120)], [cap]), Axis(0, 100), [])
    assert drawn.count('class="cap"') == 2
    assert "run of demo: 300 (raised), warn" in drawn
    far = chart(Chart("tokens", "tokens_used", [(10, 1)], [cap]), Axis(0, 100), [])
    assert far.count('class="cap"') == 0
    assert "above the drawing: run of demo: 300 (raised)" in far


def test_a_tenants_page_is_made_of_what_happened_in_its_range(client: Client) -> None:
    publish_view(client, view(COMPLETED))
    report(client, task_done())
    publish(client, event(), client.topics.control_events)
    story = tell("all", "default", client.between("default", 0, 2**53), {})
    assert {type(one.message).__name__ for one in story.happenings} == {
        "LifetimeView", "TaskExecution", "ExecutionEvent",
    }  # fmt: skip
    assert client.between("default", 0, 1) == []
    assert client.between("other", 0, 2**53) == []
    text = story_page(story, list(client.observer.records("default")), "")
    assert "tokens, summed" in text
