"""What all tests of the semantics are together: complete, and a log that folds to what was said."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from headgate_graphs.model import (
    AgentGraph,
    EdgeConfiguration,
    EdgeKind,
    GraphLimits,
    JoinConfiguration,
    NodeLimits,
    Plan,
    PlanConfiguration,
    RoutingRule,
    TaskConfiguration,
)
from headgate_guardrails.fold.conditions import _VARIABLES, compile_rule
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.policy import (
    METRICS,
    SCOPES_OF,
    NameList,
    NoProgress,
    PauseTerms,
    Policy,
    Rule,
    RuleLimit,
    ThrottleTerms,
)
from tests.e2e import semantics
from tests.e2e.semantics import Run, loop, needs, policy, rule
from tests.e2e.stage import PARTITIONS, Stage

# -- nothing is left out ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs() -> list[AgentGraph]:
    return [one for documents in every_case() for one in documents if isinstance(one, AgentGraph)]


@pytest.fixture(scope="module")
def rules() -> list[Rule]:
    return [found for one in policies() for found in one.rules]


def every_case() -> list[tuple[Any, ...]]:
    """Return what every test needs, of those too that this run leaves out."""
    for path in sorted(Path(__file__).parent.glob("test_semantics_*.py")):
        importlib.import_module(f"tests.e2e.{path.stem}")
    return semantics.CASES


def policies() -> list[Policy]:
    return [one for documents in every_case() for one in documents if isinstance(one, Policy)]


def values(model: type[BaseModel], field: str) -> set[str]:
    return set(get_args(model.model_fields[field].annotation))


def fields_in_use(models: Iterable[BaseModel]) -> set[str]:
    """Return the fields that some case sets to something else than the default."""
    return {
        name
        for one in models
        for name, field in type(one).model_fields.items()
        if getattr(one, name) != field.get_default(call_default_factory=True)
    }


def test_every_edge_type_is_in_some_case(graphs: list[AgentGraph]) -> None:
    assert {edge.type for graph in graphs for edge in graph.edges} == set(EdgeKind)


@pytest.mark.parametrize("field", ["strategy", "on_timeout", "late"])
def test_every_way_of_a_join_is_in_some_case(graphs: list[AgentGraph], field: str) -> None:
    joined = {edge.target for graph in graphs for edge in graph.edges if edge.type is EdgeKind.JOIN}
    plans = [plan for graph in graphs for plan in graph.plans if plan.id in joined]
    assert {getattr(plan.config.join, field) for plan in plans} == values(JoinConfiguration, field)


NOT_HERE = {
    TaskConfiguration: {"effects"},  # what a fork does, which is not the gate's
}


@pytest.mark.parametrize(
    "model",
    [
        TaskConfiguration,
        PlanConfiguration,
        JoinConfiguration,
        RoutingRule,
        EdgeConfiguration,
        GraphLimits,
        NodeLimits,
    ],
)
def test_every_field_of_a_graph_is_in_some_case(graphs: list[AgentGraph], model: type[BaseModel]) -> None:
    nodes = [node for graph in graphs for node in graph.nodes.values()]
    configs = [node.config for node in nodes]
    plans = [node.config for node in nodes if isinstance(node, Plan)]
    parts: list[BaseModel] = [
        *configs,
        *(config.limits for config in configs),
        *(config.join for config in plans),
        *(one for config in plans for one in config.rules),
        *(edge.config for graph in graphs for edge in graph.edges),
        *(graph.limits for graph in graphs),
    ]
    used = fields_in_use(one for one in parts if isinstance(one, model))
    assert set(model.model_fields) - used == NOT_HERE.get(model, set())


def test_what_nobody_serves_and_the_ready_plan_are_in_some_case(graphs: list[AgentGraph]) -> None:
    types = {node.type for graph in graphs for node in graph.nodes.values()}
    assert {"human", "graph", "rules"} <= types


def test_every_action_is_taken_at_every_scope(rules: list[Rule]) -> None:
    wanted = {(action, scope) for action in values(Rule, "action") for scope in values(Rule, "scope")}
    assert {(one.action, one.scope) for one in rules} == wanted


KINDS = ("limit", "when", "no_progress", "allow", "deny")


def test_every_action_follows_from_every_kind_of_rule(rules: list[Rule]) -> None:
    found = {(kind, one.action) for one in rules for kind in KINDS if getattr(one, kind) is not None}
    wanted = {(kind, action) for kind in KINDS for action in values(Rule, "action")}
    assert found == wanted - {("no_progress", "throttle")}


def test_every_metric_is_limited_at_every_scope_where_it_has_a_meaning(rules: list[Rule]) -> None:
    found = {(metric, one.scope) for one in rules if one.limit for metric in one.limit.caps()}
    assert set(METRICS) == set(RuleLimit.model_fields)
    scopes = values(Rule, "scope")
    assert found == {(metric, scope) for metric in METRICS for scope in SCOPES_OF.get(metric, scopes)}


@pytest.mark.parametrize("model", [Rule, RuleLimit, NoProgress, NameList, PauseTerms, ThrottleTerms])
def test_every_field_of_a_rule_is_in_some_case(rules: list[Rule], model: type[BaseModel]) -> None:
    parts: list[BaseModel | None] = [
        part
        for one in rules
        for part in (one, one.limit, one.no_progress, one.allow, one.deny, one.pause, one.throttle)
    ]
    assert fields_in_use(one for one in parts if isinstance(one, model)) == set(model.model_fields)


def test_every_name_of_a_list_is_allowed_and_denied(rules: list[Rule]) -> None:
    for kind in ("allow", "deny"):
        lists = [found for one in rules if (found := getattr(one, kind)) is not None]
        assert fields_in_use(lists) == set(NameList.model_fields), kind


def test_every_variable_of_a_condition_is_in_some_case(rules: list[Rule]) -> None:
    found = {name for one in rules if one.when for name in compile_rule(one.when).needs}
    assert found == set(_VARIABLES)


def test_every_mode_and_several_versions_are_in_some_case() -> None:
    assert {one.mode for one in policies()} == values(Policy, "mode")


# -- all of it can be recomputed ---------------------------------------------------------------------------


@needs(loop(3), policy(rule(limit={"tokens_used": 250})))
def test_the_log_of_all_tests_folds_to_what_was_said_byte_for_byte(stage: Stage, run: Run) -> None:
    run.start()
    run.ends("aborted")
    run.barrier()
    watch = stage.watch
    records = sorted(watch.records, key=lambda record: (record.partition, record.offset))
    ends = {record.partition: record.offset for record in records}
    engines = {number: GuardrailEngine(PartitionState(number, PARTITIONS)) for number in range(PARTITIONS)}
    folded = {}
    for record in records:
        for output in engines[record.partition].apply(record):
            folded[_source(output.message)] = output.message.SerializeToString(deterministic=True)
    said = {
        _source(one.message): one.message.SerializeToString(deterministic=True)
        for tenant in list(watch.by_tenant)
        for one in list(watch.by_tenant[tenant])
        if one.order[1] and one.message.source.offset <= ends[one.message.source.partition]
    }
    assert said == folded
    assert len(said) > 5


def _source(message: Any) -> tuple[int, int, int]:
    return message.source.partition, message.source.offset, message.source.index
