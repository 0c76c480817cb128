"""`policy test` and `policy explain` say what the fold would say."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate_graphs.errors import PolicyInvalid
from headgate_guardrails.cases import run_cases
from headgate_guardrails.explain import standings
from headgate_protos.v1 import control_pb2
from tests.unit.guardrails.graphs_for_tests import PAID, policy, rule
from tests.unit.guardrails.world import World, usage

POLICY = """
kind: GuardrailPolicy
metadata: {name: caps, version: 1}
rules:
  - {name: run, scope: lifetime, limit: {tokens_used: 1000}, action: abort_lifetime}
  - {name: day, scope: tenant, limit: {cost_usd: 5}, window: 1d, action: pause_lifetime}
  - {name: shell, scope: execution, when: "node.type == 'shell'", action: reject_execution}
  - {name: big, scope: execution, when: "tokens_used > 500", action: warn}
"""
CASES = """
kind: PolicyCases
policy: policy.yaml
cases:
  - {name: in bounds, lifetime: {tokens_used: 400}, dispatch: {tokens_used: 600}, expect: allow}
  - name: over
    lifetime: {tokens_used: 400, held_tokens: 1}
    dispatch: {tokens_used: 600}
    expect: abort_lifetime
    by: run
  - {name: day, tenant: {cost_usd: 4.99}, dispatch: {cost_usd: 0.02}, expect: pause_lifetime, by: day}
  - {name: shell, dispatch: {type: shell}, expect: reject_execution}
  - {name: big, settled: {tokens_used: 501}, expect: warn}
  - {name: wrong, settled: {tokens_used: 1}, expect: warn}
"""


def test_cases_beside_a_policy_are_judged_by_the_folds_evaluator(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "cases.yaml").write_text(CASES)
    results = run_cases(tmp_path / "cases.yaml")
    assert [r.passed for r in results] == [True] * 5 + [False]
    assert results[1].said == "abort_lifetime by run"
    assert "1001 > 1000" in results[1].reason
    assert results[-1].said == "allow"


def test_cases_that_do_not_load_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "cases.yaml").write_text(
        "kind: PolicyCases\npolicy: p.yaml\ncases:\n  - {name: x, expect: no}\n"
    )
    with pytest.raises(PolicyInvalid, match=r"cases\.yaml:4:"):
        run_cases(tmp_path / "cases.yaml")


def test_explain_names_each_rule_with_its_value_and_its_cap() -> None:
    world = World(
        PAID,
        policy(
            rule("run", limit={"tokens_used": 250, "iterations": 9}),
            rule("day", "tenant", limit={"cost_usd": 1}, window="1d"),
            rule("odd", when="node.type == 'odd'"),
        ),
    )
    world.start("g")
    world.answer("p1", next=["t1"])
    world.answer("t1", used=usage(100, 7))
    world.answer("p1", next=["t1"])
    world.command(
        raise_budget=control_pb2.RaiseBudget(policy="caps", rule="run", metric="tokens_used", value=300)
    )
    tenant = world.engine.state.tenants["acme"]
    found = {(s.rule, s.metric): s for s in standings(tenant, world.lifetime(), world.clock)}
    run = found["run", "tokens_used"]
    assert (run.committed, run.held, run.limit, run.raised, run.left) == (100, 100, 300, True, 100)
    assert found["run", "iterations"].committed == 2
    assert found["day", "cost_nano_usd"].committed == 7
    assert found["odd", ""].expression == "node.type == 'odd'"
    assert not any(s.is_broken for s in found.values())
