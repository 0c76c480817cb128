"""Who may go on: policies, the deterministic fold that judges by them, and the gate that runs it."""

from headgate_guardrails.gate import Gate
from headgate_guardrails.policy import Policy, load_policy, policy_from_json
from headgate_guardrails.settings import GateSettings

__all__ = ["Gate", "GateSettings", "Policy", "load_policy", "policy_from_json"]
