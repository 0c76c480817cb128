"""Whatever is given as a policy or its conditions, it loads or is refused; so is what travels as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate_graphs.documents import read_yaml, validate
from headgate_graphs.errors import PolicyInvalid, UserError
from headgate_guardrails.fold.rules import compile_policy
from headgate_guardrails.policy import Policy, policy_from_json
from tests.unit.graphs.test_fuzz_documents import CEL_BITS, YAML_BITS, assert_harmless, mutated, soup

LONG = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
POLICY = """\
apiVersion: headgate/v1
kind: GuardrailPolicy
metadata: {name: caps, version: 3}
mode: enforce
rules:
  - {name: a, scope: lifetime, when: "sum(tokens_used) > 10000", action: abort_lifetime}
  - {name: b, scope: tenant, limit: {cost_usd: 25}, window: 1d, action: pause_lifetime, pause: {ttl: 1h}}
  - {name: c, scope: execution, when: "!('trusted' in graph.tags)", action: reject_execution}
  - {name: d, scope: lifetime, no_progress: {repeats: 3, of: [node, input]}, action: warn}
"""
WHEN = "sum(tokens_used) > 10000 && node.type == 'shell' || iteration / 2 > 3"
TOKENS = [
    "tokens_used",
    "sum(",
    "cost_usd",
    "node.",
    "graph.tags",
    "iteration",
    "window: 1ms",
    "limit: {}",
    "-1",
]


def assert_placed(refused: UserError) -> None:
    assert refused.faults
    assert all(fault.startswith("p.yaml:") and fault.isprintable() for fault in refused.faults)


@LONG
@given(text=mutated(POLICY, [*YAML_BITS, *TOKENS]) | soup(YAML_BITS))
def test_a_policy_loads_and_compiles_or_is_refused_with_its_place(text: str) -> None:
    began = time.thread_time()
    try:
        policy = validate(read_yaml(text, "p.yaml", PolicyInvalid), Policy, PolicyInvalid)
        compile_policy(policy, platform=False)
        assert policy_from_json(policy.canonical_json()) == policy
    except UserError as refused:
        assert_placed(refused)
    assert time.thread_time() - began < 2.0


@LONG
@given(when=mutated(WHEN, [*CEL_BITS, *TOKENS]) | soup([*CEL_BITS, *TOKENS]))
def test_a_condition_of_a_policy_loads_or_is_refused(when: str) -> None:
    document = {
        "kind": "GuardrailPolicy",
        "metadata": {"name": "p", "version": 1},
        "rules": [{"name": "r", "scope": "lifetime", "when": when, "action": "abort_lifetime"}],
    }
    began = time.thread_time()
    try:
        compile_policy(policy_from_json(json.dumps(document)), platform=True)
    except PolicyInvalid as refused:
        assert_harmless(str(refused))
    assert time.thread_time() - began < 1.0


def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    names = st.sampled_from(
        ["kind", "metadata", "rules", "name", "limit", "when", "action", "mode"]
    ) | st.text(max_size=5)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=20,
    )


@LONG
@given(value=json_values() | st.text(max_size=50))
def test_what_travels_as_a_policy_is_one_or_is_refused(value: Any) -> None:
    try:
        text = value if isinstance(value, str) else json.dumps(value)
        with pytest.raises(PolicyInvalid):
            policy_from_json(text)
    except ValueError:
        assert not isinstance(value, str)
