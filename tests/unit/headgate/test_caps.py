from __future__ import annotations

import json

from headgate.command.views.caps import caps_of
from headgate.command.views.rules import rule_rows
from headgate_guardrails.policy import Policy, policy_from_json
from headgate_protos.v1.control_pb2 import OperatorCommand, RaiseBudget
from tests.unit.headgate.records import task_done
from tests.unit.headgate.test_state import state_after

RULES = [
    {"name": "run-dollars", "scope": "lifetime", "limit": {"cost_usd": "0.05"}, "action": "pause_lifetime"},
    {
        "name": "day",
        "scope": "tenant",
        "limit": {"tokens_used": 5},
        "window": "1d",
        "action": "pause_lifetime",
    },
    {"name": "loop", "scope": "lifetime", "limit": {"iterations": 4}, "action": "abort_lifetime"},
    {"name": "call", "scope": "execution", "limit": {"tokens_used": 40}, "action": "reject_execution"},
    {"name": "odd", "scope": "lifetime", "when": "sum(tokens_used) > 10", "action": "abort_lifetime"},
    {
        "name": "spin",
        "scope": "lifetime",
        "no_progress": {"of": ["node", "output"]},
        "action": "pause_lifetime",
    },
    {"name": "safe", "scope": "execution", "deny": {"task_types": ["shell"]}, "action": "reject_execution"},
]


def policy(version: int = 1, rules: int = len(RULES)) -> Policy:
    document = {"apiVersion": "headgate/v1", "kind": "GuardrailPolicy", "rules": RULES[:rules]}
    return policy_from_json(json.dumps(document | {"metadata": {"name": "tight", "version": version}}))


def test_each_cap_shows_what_this_lifetime_used_of_it() -> None:
    state = state_after(task_done(tokens=10), task_done(iteration=2, tokens=30))
    assert [(cap.rule, cap.used, cap.limit) for cap in caps_of([policy()], state)] == [
        ("run-dollars", 40_000_000, 50_000_000),
        ("day", 40, 5),
        ("loop", 2, 4),
        ("call", 30, 40),
    ]


def test_a_raised_cap_has_its_new_value() -> None:
    order = RaiseBudget(policy="tight", rule="run-dollars", metric="cost_usd", value=900_000_000)
    caps = caps_of([policy()], state_after(OperatorCommand(command_id="c", raise_budget=order)))
    assert caps[0].limit == 900_000_000


def test_of_a_tenants_cap_only_this_runs_part_is_claimed() -> None:
    assert "this run's part" in caps_of([policy()], state_after())[1].label


def test_every_rule_is_one_row() -> None:
    assert [row[3] for row in rule_rows(policy())] == [
        "cost ≤ $0.05",
        "tokens_used ≤ 5 per 1d",
        "iterations ≤ 4",
        "tokens_used ≤ 40",
        "sum(tokens_used) > 10",
        "no progress: repeats 3, of node output",
        "deny: task_types shell",
    ]
