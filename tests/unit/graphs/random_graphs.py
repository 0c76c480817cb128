"""Hypothesis strategies for valid graphs: chains, loops, forks with joins, rules, odd texts."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from headgate_graphs.model import (
    AgentGraph,
    Edge,
    EdgeConfiguration,
    EdgeKind,
    GraphLimits,
    GraphMetadata,
    JoinConfiguration,
    NodeLimits,
    Plan,
    PlanConfiguration,
    RoutingRule,
    Task,
    TaskConfiguration,
)

TRICKY = [
    *("no", "12:30", "1e3", "-.5", ".5", "1.", "+1", "0x1f", "007", "1_000", "~", "null", "True", "#"),
    *("", " x ", "- a", "a: b", "a\nb\n", "\n a", "'", '"', "<<", "\ufeff", "\x85", "\u2028", "\x1b[31m"),
]
texts = st.sampled_from(TRICKY) | st.text(max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
params = st.dictionaries(texts, json_values, max_size=3)
names = st.sampled_from(["a", "no", "null", "12", "1.0", "0x1f", "1e3", "true", "A_b-c.d", "x" * 100])
durations = st.integers(1, 10**10).map(lambda ms: f"{ms}ms")
conditions = st.sampled_from(
    [None, "success", "iteration > 3", "result.score > 0.5\n  && success", "metadata.kind == 'no: #x'"]
)


@st.composite
def task_configurations(draw: st.DrawFn) -> TaskConfiguration:
    return TaskConfiguration(
        timeout=draw(st.none() | durations),
        max_retries=draw(st.integers(0, 100)),
        backoff=draw(durations),
        queue=draw(st.none() | names),
        limits=NodeLimits(
            tokens_used=draw(st.none() | st.integers(0, 2**53)),
            cost_usd=draw(
                st.none() | st.integers(0, 2**62).map(lambda nano: f"{nano // 10**9}.{nano % 10**9:09}")
            ),
        ),
        leased=draw(st.none() | st.booleans()),
        params=draw(params),
        effects=draw(st.sampled_from(["none", "external"])),
    )


@st.composite
def join_configurations(draw: st.DrawFn, branches: int) -> JoinConfiguration:
    """Joins that so many branches can fill."""
    strategy = draw(st.sampled_from(["all", "any", "majority", "quorum"]))
    least = draw(st.integers(1, branches)) if strategy == "quorum" else None
    return JoinConfiguration(
        strategy=strategy,
        min_inputs=least,
        max_inputs=draw(st.none() | st.integers(least, 10_000)) if least else None,
        timeout=draw(st.none() | durations),
        on_timeout=draw(st.sampled_from(["proceed", "fail"])),
        late=draw(st.sampled_from(["drop", "record"])),
        cancel_losers=draw(st.booleans()),
    )


def people_and_subgraphs() -> st.SearchStrategy[dict[str, Any]]:
    """Types that no worker serves, with what they take."""
    human = st.builds(lambda every: {"type": "human", "config": TaskConfiguration(reminder=every)}, durations)
    wanted = st.fixed_dictionaries({"graph": names}, optional={"version": st.just("1.0.0")})
    child = st.builds(lambda to: {"type": "graph", "config": TaskConfiguration(params=to)}, wanted)
    return human | child


@st.composite
def graphs(draw: st.DrawFn) -> AgentGraph:
    """A chain of stages, a task and a plan each, that may fork into tasks that join, and may loop back."""
    prefix = draw(names)
    ids = (f"{prefix}-{number}" for number in itertools.count())
    tasks, plans, edges = [], [], []
    stages = draw(st.integers(1, 4))
    task_ids = [next(ids) for _ in range(stages)]
    for stage, task_id in enumerate(task_ids):
        tasks.append(Task(id=task_id, type=draw(names), config=draw(task_configurations())))
        plan_id = next(ids)
        config = EdgeConfiguration(when=draw(conditions), priority=draw(st.integers(-5, 5)))
        edges.append(Edge(source=task_id, target=plan_id, config=config))
        join = JoinConfiguration()
        if draw(st.booleans()):
            fork_id, plan_id = plan_id, next(ids)
            plans.append(Plan(id=fork_id, type="fork", description=draw(texts)))
            branches = [next(ids) for _ in range(draw(st.integers(1, 3)))]
            for branch in branches:
                served = draw(names.map(lambda name: {"type": name}) | people_and_subgraphs())
                tasks.append(Task(id=branch, **served))
                edges.append(Edge(source=fork_id, target=branch, type=EdgeKind.PARALLEL))
                edges.append(Edge(source=branch, target=plan_id, type=EdgeKind.JOIN))
            join = draw(join_configurations(len(branches)))
        targets = [task_ids[stage + 1] if stage + 1 < stages else "end"]
        if draw(st.booleans()):
            targets.append(task_ids[draw(st.integers(0, stage))])
        plans.append(_plan(draw, plan_id, targets, join))
        edges += [
            Edge(source=plan_id, target=t, type=EdgeKind.FINAL if t == "end" else EdgeKind.NORMAL)
            for t in dict.fromkeys(targets)
        ]
    return AgentGraph(
        metadata=GraphMetadata(
            id=draw(names),
            version="1.20.300",
            description=draw(texts),
            tags=tuple(draw(st.lists(texts, max_size=2))),
        ),
        entry=task_ids[0],
        limits=GraphLimits(
            max_iterations=draw(st.integers(1, 10**6)),
            deadline=draw(durations),
            max_depth=draw(st.integers(0, 32)),
            max_in_flight=draw(st.none() | st.integers(1, 10**6)),
            max_in_flight_by_type=draw(st.dictionaries(st.just(tasks[0].type), st.integers(1, 10**6))),
        ),
        tasks=tuple(tasks),
        plans=tuple(plans),
        edges=tuple(edges),
    )


def _plan(draw: Any, plan_id: str, targets: list[str], join: JoinConfiguration) -> Plan:
    if not draw(st.booleans()):
        return Plan(id=plan_id, type="decide", config=PlanConfiguration(params=draw(params), join=join))
    rules = tuple(RoutingRule(when="success && iteration < 3", next=(t,)) for t in targets)
    return Plan(
        id=plan_id, type="rules", config=PlanConfiguration(rules=rules, default=(targets[0],), join=join)
    )
