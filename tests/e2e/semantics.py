"""The words in which the tests of the semantics speak: graphs, policies, and one tenant's run of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from headgate.words import TERMINAL, control_word, execution_word, scope_word, status_word
from headgate_graphs.checks import faults
from headgate_graphs.model import AgentGraph
from headgate_guardrails.policy import Policy
from headgate_protos.v1.control_pb2 import (
    ControlType,
    ExecutionEvent,
    GuardrailViolation,
    HumanOutcome,
    OperatorCommand,
    PauseLifetime,
    ResumeLifetime,
)
from headgate_protos.v1.execution_pb2 import DeadLetter, ExecutionEnvelope, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.topics import partition_for
from tests.e2e.stage import PARTITIONS, Call, Said, Stage
from tests.support import eventually

WAIT_S = 20.0
"""Far above what anything here takes, so that a slow machine is no failure."""
BILL = {"usage": {"tokens_used": 100, "cost_usd": "0.10"}}
"""Params of a task that bills 100 tokens and 0.10 USD."""
LIMITS = {"tokens_used": 100, "cost_usd": "0.10"}
"""The limits of a node that uses all of them."""

# -- graphs and policies ---------------------------------------------------------------------------------

_EDGE = re.compile(r"([\w,]+) (normal|parallel|join|final)(?: ([\w,]+))?")


def graph(*edges: str | tuple[str, str] | tuple[str, str, int], **given: Any) -> AgentGraph:
    """Return a graph; its entry is the first source.

    An edge is "p parallel ta,tb", "ta,tb join j" or "j final", or a tuple: that, a condition, a priority.
    Nodes named t… are tasks, others plans; a node's keyword gives its configuration, its `type` (else `echo`
    or `follow`) and, as `does`, its params. Other keywords: `id`, `version`, `limits`, `tags`.
    """
    made = [one for edge in edges for one in _edges(*((edge,) if isinstance(edge, str) else edge))]
    names = list(dict.fromkeys(name for edge in made for name in (edge["from"], edge["to"]) if name != "end"))
    tops = {"id": "g", "version": "1.0.0", "limits": {}, "tags": ()}
    tops |= {name: given.pop(name) for name in list(tops) if name in given}
    assert set(given) <= set(names), f"not nodes: {set(given) - set(names)}"
    document = {
        "metadata": {"id": tops["id"], "version": tops["version"], "tags": tops["tags"]},
        "entry": names[0],
        "limits": tops["limits"],
        "tasks": [_node(name, "echo", given) for name in names if name.startswith("t")],
        "plans": [_node(name, "follow", given) for name in names if not name.startswith("t")],
        "edges": made,
    }
    found = AgentGraph.model_validate(document)
    assert faults(found) == []
    return found


def _edges(text: str, when: str | None = None, priority: int = 0) -> Iterator[dict[str, Any]]:
    parts = _EDGE.fullmatch(text)
    assert parts, text
    for source in parts[1].split(","):
        for target in (parts[3] or "end").split(","):
            config = {"when": when, "priority": priority} if when or priority else {}
            yield {"from": source, "to": target, "type": parts[2], "config": config}


def _node(name: str, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    config = dict(given.get(name, {}))
    if "does" in config:
        config["params"] = config.pop("does")
    return {"id": name, "type": config.pop("type", kind), "config": config}


def visits(*next_ids: str) -> dict[str, Any]:
    """Return what makes a plan name these (comma-separated) on its first, second, … visit."""
    return {"does": {"visits": [one.split(",") for one in next_ids]}}


def rule(
    name: str = "cap", scope: str = "lifetime", action: str = "abort_lifetime", **more: Any
) -> dict[str, Any]:
    return {"name": name, "scope": scope, "action": action, **more}


def policy(*rules: dict[str, Any], name: str = "caps", version: int = 1, mode: str = "enforce") -> Policy:
    metadata = {"name": name, "version": version}
    return Policy.model_validate(
        {"kind": "GuardrailPolicy", "metadata": metadata, "mode": mode, "rules": list(rules)}
    )


def loop(times: int = 10, **task: Any) -> AgentGraph:
    """Return p -> t -> p, `times` round, ending at the first failure; t bills 100 tokens and 0.10 USD."""
    task = {"type": "spend", "limits": LIMITS, "max_retries": 0, "does": BILL} | task
    plan = visits(*["t"] * times, "end")
    plan["does"]["on_failure"] = ["end"]
    return graph("p normal t", "t normal p", "p final", p=plan, t=task)


# -- cases -------------------------------------------------------------------------------------------------

Document = AgentGraph | Policy
CASES: list[tuple[Document, ...]] = []
"""What every test needs, as far as its module has been imported: what all of them together cover."""
F = TypeVar("F", bound=Callable[..., Any])


def needs(*documents: Document) -> Callable[[F], F]:
    """Say which graphs and policies a test needs; the first graph is the one that `start` runs."""
    CASES.append(documents)

    def mark(test: F) -> F:
        test.__needs__ = documents  # type: ignore[attr-defined]
        return test

    return mark


@dataclass(frozen=True)
class Case:
    """One row of a table."""

    name: str
    documents: tuple[Document, ...]
    want: Any = None


def each(cases: Iterable[Case]) -> Callable[[F], F]:
    """Run a test for each row, as its argument `case`."""
    rows = list(cases)
    CASES.extend(row.documents for row in rows)
    return pytest.mark.parametrize("case", rows, ids=[row.name for row in rows])


def documents_of(request: pytest.FixtureRequest) -> tuple[Document, ...]:
    """Return what the test that asks needs."""
    callspec = getattr(request.node, "callspec", None)
    row = callspec.params.get("case") if callspec else None
    given: tuple[Document, ...] = getattr(request.function, "__needs__", ())
    return (*given, *(row.documents if isinstance(row, Case) else ()))


# -- one tenant --------------------------------------------------------------------------------------------


class Run:
    """What one test does as one tenant, and what it sees of it."""

    ABORT = ControlType.CONTROL_TYPE_ABORT_LIFETIME

    def __init__(self, stage: Stage, tenant: str) -> None:
        self.stage, self.client, self.tenant = stage, stage.client, tenant
        self.graph_id = ""
        self.letters: list[str] = []
        """Reasons of the dead letters that the test means to cause."""
        self._started: list[str] = []
        self._barriers = itertools.count()
        self._asked = 0
        """Where the last start lies in the log."""

    # -- asking --

    def use(self, *documents: Document) -> None:
        """Register graphs and put policies in force; what is asked later is later in the log."""
        for document in documents:
            if isinstance(document, Policy):
                self.client.apply_policy(document, self.tenant)
            else:
                self.client.register_graph(document.for_tenant(self.tenant))
                self.graph_id = self.graph_id or document.metadata.id

    def start(
        self,
        input: Any = None,
        lifetime: str = "run",
        *,
        graph: str = "",
        version: str = "",
        priority: int = 0,
    ) -> None:
        envelope = self.client.start_envelope(
            graph or self.graph_id, input, tenant=self.tenant, version=version, lifetime_id=lifetime
        )
        envelope.lifetime_start.priority = priority
        self._started.append(lifetime)
        self._asked = self.client.submit(envelope).offset

    def freeze(self, graph_id: str = "") -> None:
        self.client.command(self.tenant, "", OperatorCommand(pause=PauseLifetime(graph_id=graph_id)))

    def thaw(self, graph_id: str = "") -> None:
        self.client.command(self.tenant, "", OperatorCommand(resume=ResumeLifetime(graph_id=graph_id)))

    def pause(self, lifetime: str = "run", ttl_ms: int | None = None) -> None:
        self.client.pause(self.tenant, lifetime, ttl_ms=ttl_ms)

    def resume(self, lifetime: str = "run", generation: int = 0) -> None:
        self.client.resume(self.tenant, lifetime, generation)

    def abort(self, lifetime: str = "run") -> None:
        self.client.abort(self.tenant, lifetime)

    def raise_budget(self, metric: str, value: int, rule: str = "cap", lifetime: str | None = "run") -> None:
        self.client.raise_budget(self.tenant, lifetime, policy="caps", rule=rule, metric=metric, value=value)

    def answer(self, execution_id: str, outcome: str, answer: Any = None, lifetime: str = "run") -> None:
        code = HumanOutcome.Value(f"HUMAN_OUTCOME_{outcome.upper()}")
        self.client.complete(self.tenant, lifetime, execution_id, code, answer)

    def open(self, *nodes: str) -> None:
        """Let the `slow` tasks of these nodes go on, of every node when none is named."""
        self.stage.handlers.open_doors.update((self.tenant, node) for node in nodes or ("",))

    def barrier(self) -> None:
        """Return when the gate has folded all that was asked before, and all it said has been read."""
        name = f"barrier-{next(self._barriers)}"
        self.start(lifetime=name, graph="none")
        self._hears_all(self._asked)

    def waits_until(self, holds: Callable[[], Any]) -> None:
        """Return when something holds; fails when it never does."""
        eventually(holds, WAIT_S, 0.005)

    # -- what was said --

    def said(self, kind: type, lifetime: str | None = None) -> list[Said]:
        """Return all messages of a type, of one lifetime when it is named, in the gate's order."""
        everything = list(self.stage.watch.by_tenant[self.tenant])
        found = [one for one in everything if isinstance(one.message, kind)]
        if lifetime is not None:
            found = [one for one in found if _lifetime_of(one.message) == lifetime]
        return sorted(found, key=lambda one: one.order)

    def said_at_ms(self) -> int:
        """Return the log time of the newest view of anything of this tenant."""
        return max(one.message.updated_at.ToMilliseconds() for one in self.said(LifetimeView))

    def view(self, lifetime: str = "run") -> LifetimeView | None:
        """Return the newest view; a terminal one is not hidden by others."""
        views = [one.message for one in self.said(LifetimeView, lifetime)]
        return next((view for view in reversed(views)), None)

    def becomes(self, status: str, lifetime: str = "run") -> LifetimeView:
        """Wait for a status; one that is final must be this one."""

        def stands() -> LifetimeView | None:
            self.stage.check()
            view = self.view(lifetime)
            word = status_word(view.status) if view else "nothing"
            assert word == status, f"{lifetime} is {word}: {view and view.reason}"
            return view

        def is_over() -> bool:
            view = self.view(lifetime)
            return view is not None and status_word(view.status) in {status, *TERMINAL}

        self.waits_until(is_over)
        found = stands()
        assert found is not None
        self._hears_all(found.source.offset)
        return found

    def ends(
        self, status: str, lifetime: str = "run", *, outcome: Any = ..., settled: bool = True
    ) -> LifetimeView:
        """Wait for the end, and when `settled` until no hold is open; check the outcome if one is given."""
        view = self.becomes(status, lifetime)
        if settled and view.open_holds:
            self.waits_until(lambda: (v := self.view(lifetime)) and not v.open_holds)
            view = self.becomes(status, lifetime)
        if outcome is not ...:
            assert json.loads(view.outcome.json or "null") == outcome
        return view

    def _hears_all(self, offset: int) -> None:
        """Return when all has been read that the gate said because of this record and those before it.

        The gate commits when what it says is durable; until then one topic may be ahead of another.
        """
        home = partition_for(self.tenant, PARTITIONS)
        self.waits_until(lambda: self.stage.folded(home) > offset)
        ends = self.stage.watch.ends()
        self.waits_until(lambda: self.stage.watch.has_read(ends))

    def events(self, kind: str = "", lifetime: str | None = "run", rule: str = "") -> list[ExecutionEvent]:
        """Return the control events of a type, such as ABORT_LIFETIME; `rule` asks for one it names."""
        found = [one.message for one in self.said(ExecutionEvent, lifetime)]
        found = [event for event in found if not kind or control_word(event.type) == kind]
        return [event for event in found if not rule or any(v.rule == rule for v in event.violations)]

    def event(self, kind: str, lifetime: str | None = "run", rule: str = "") -> ExecutionEvent:
        """Wait for a control event."""
        return eventually(lambda: self.events(kind, lifetime, rule), WAIT_S, 0.005)[0]

    def violation(self, kind: str, rule: str = "cap", lifetime: str | None = "run") -> GuardrailViolation:
        """Wait for a control event that names a rule, and return what it says of it."""
        return next(v for v in self.event(kind, lifetime, rule).violations if v.rule == rule)

    def dispatched(self, node: str, lifetime: str = "run") -> list[Said]:
        inputs = [*self.said(TaskInput, lifetime), *self.said(PlanInput, lifetime)]
        inputs = [one for one in inputs if one.message.headers.node_id == node]
        return sorted(inputs, key=lambda one: one.order)

    def waits_for(self, node: str, count: int = 1, lifetime: str = "run") -> list[Said]:
        """Wait until a node has been dispatched so many times."""
        eventually(lambda: len(self.dispatched(node, lifetime)) >= count, WAIT_S, 0.005)
        return self.dispatched(node, lifetime)

    def results(self, node: str = "", lifetime: str = "run") -> list[Said]:
        """Return the reported executions of a node, as `Said` of the execution itself."""
        found = []
        for one in self.said(ExecutionEnvelope, lifetime):
            body = getattr(one.message, one.message.WhichOneof("payload") or "", None)
            if hasattr(body, "resource_usage") and node in ("", body.headers.node_id):
                found.append(Said(one.topic, one.order, one.partition, one.at_ms, body))
        return found

    def upstream(self, plan: str, visit: int = 1, lifetime: str = "run") -> list[str]:
        """Return what led a plan into a visit: each node, with the code of its failure if it failed."""
        inputs = [one.message for one in self.waits_for(plan, visit, lifetime)]
        given = next(one for one in inputs if one.headers.iteration == visit)
        return [_told(one) for one in given.upstream_task_executions]

    def calls(self, node: str = "", lifetime: str = "run") -> list[Call]:
        """Return the times that a handler was really run for a node, for any when none is named."""
        mine = [c for c in self.stage.handlers.calls if (c.tenant, c.lifetime) == (self.tenant, lifetime)]
        return [call for call in mine if node in ("", call.node)]

    def begins(self, node: str, count: int = 1, lifetime: str = "run") -> None:
        """Wait until the handler of a node has begun so many times."""
        eventually(lambda: len(self.calls(node, lifetime)) >= count, WAIT_S, 0.005)

    def was_stopped(self, node: str, lifetime: str = "run") -> bool:
        """Wait until a run of a node has been cancelled."""
        stopped = self.stage.handlers.stopped
        return eventually(
            lambda: any((c.tenant, c.lifetime, c.node) == (self.tenant, lifetime, node) for c in stopped),
            WAIT_S,
        )

    # -- accounts --

    def never_over(self, metric: str, cap: int, lifetimes: Sequence[str] | None = ("run",)) -> None:
        """Check by the log alone that what was settled and what was reserved never passed a cap together.

        A dispatch reserves its hold from the record that caused it until its result. None means the tenant.
        """
        peak = max((total for total in self._totals(metric, lifetimes)), default=0)
        assert peak <= cap, f"{metric}: {peak} > {cap}"

    def _totals(self, metric: str, lifetimes: Sequence[str] | None) -> Iterator[int]:
        def mine(one: Said) -> bool:
            return lifetimes is None or _lifetime_of(one.message) in lifetimes

        steps = [
            (one.order, one.message) for one in (*self.said(TaskInput), *self.said(PlanInput)) if mine(one)
        ]
        for name in {_lifetime_of(one.message) for one in self.said(LifetimeView) if mine(one)}:
            steps += [(one.order, one.message) for one in self.results(lifetime=name)]
        open_holds: dict[str, int] = {}
        settled = 0
        for order, message in sorted(steps, key=lambda step: step[0]):
            if order[1]:
                open_holds[message.headers.execution_id] = getattr(message.hold, metric)
            else:
                settled += getattr(message.resource_usage, metric)
                open_holds.pop(message.headers.execution_id, None)
            yield settled + sum(open_holds.values())

    def close(self) -> None:
        """End what still runs, and check what holds for every run of any graph under any policy."""
        self.thaw()
        self.open()
        for lifetime in self._started:
            self.abort(lifetime)
        self.barrier()
        self.stage.check()
        letters = [one.message for one in self.said(DeadLetter)]
        assert sorted(one.reason for one in letters) == sorted(self.letters), [one.detail for one in letters]
        inputs = [one.message.headers.execution_id for one in (*self.said(TaskInput), *self.said(PlanInput))]
        assert len(inputs) == len(set(inputs)), "an execution was dispatched twice"
        self._check_accounts()

    def _check_accounts(self) -> None:
        """What a closed lifetime says it used is what the log says, sub-graphs among it, to the token."""
        views = {one.message.lifetime_id: one.message for one in self.said(LifetimeView)}
        for name, view in views.items():
            if status_word(view.status) in TERMINAL and not view.open_holds:
                family = [name]
                for one in views.values():  # children come after their parents
                    if one.parent_lifetime_id in family:
                        family.append(one.lifetime_id)
                reported = [done.message for one in family for done in self.results(lifetime=one)]
                if any(done.resource_usage.unpriced for done in reported):
                    continue  # charged at the hold, which is another test's matter
                by_run = {done.headers.run_id: done.resource_usage.tokens_used for done in reported}
                assert view.usage.tokens_used == sum(by_run.values()), f"{name} does not add up"


def _lifetime_of(message: Any) -> str:
    headers = getattr(message, "headers", None)
    return str(headers.lifetime_id if headers is not None else getattr(message, "lifetime_id", ""))


def _told(one: Any) -> str:
    failed = "" if one.result.success else f":{one.result.error.code}"
    return one.headers.node_id + failed


def numbers(violation: GuardrailViolation) -> dict[str, Any]:
    """Return what a violation proves, in words."""
    names = ("rule", "metric", "measured", "limit", "committed", "held", "requested", "action")
    told = {name: getattr(violation, name) for name in names}
    return told | {"scope": scope_word(violation.scope)}


def statuses(said: Iterable[Said]) -> list[str]:
    """Return how these executions ended."""
    return [execution_word(one.message.headers.status) for one in said]
