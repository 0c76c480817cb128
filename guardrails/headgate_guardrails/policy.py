"""Guardrail policies as people write them: the model, the loader, the canonical text that travels.

Evaluation lives in `fold.evaluator`; this module only says what a policy is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from headgate_graphs.documents import read_yaml, validate
from headgate_graphs.errors import PolicyInvalid
from headgate_graphs.model import Definition, DurationMs, Name, NanoUsd
from headgate_guardrails.fold.conditions import compile_rule

MAX_RULES = 200
"""More rules in one policy is refused: each costs time on every event of the tenant."""

Count = Annotated[int, Field(ge=0, le=2**53)]


class RuleLimit(Definition):
    """Caps of one rule; each is compared before dispatch with the hold included, and again after settling."""

    tokens_used: Count | None = None
    """Tokens, input and output together."""
    cost_nano_usd: NanoUsd | None = Field(default=None, alias="cost_usd")
    """Money, written in USD."""
    latency_ms: Count | None = None
    """Handler time in milliseconds: of the execution, or summed over the scope."""
    executions: Count | None = None
    """Runs of handlers in the scope."""
    iterations: Count | None = None
    """Visits of one lifetime to one node; lifetime scope only."""

    def caps(self) -> dict[str, int]:
        """Return the caps that are set, by metric, in document units (cost in nano-USD)."""
        return {metric: value for metric in METRICS if (value := getattr(self, metric)) is not None}


METRICS = ("tokens_used", "cost_nano_usd", "latency_ms", "executions", "iterations")
"""Metrics of a limit, in the order in which they are compared."""


class PauseTerms(Definition):
    """How long a pause lasts."""

    ttl_ms: DurationMs | None = Field(default=None, alias="ttl")
    """After this time in log time the pause turns into an abort; none waits for an operator."""


class Rule(Definition):
    """One rule: caps or a condition, how far it looks, and what is done when it is broken."""

    name: Name
    scope: Literal["execution", "lifetime", "tenant"]
    """Whether it looks at one execution, one lifetime, or everything of the tenant."""
    limit: RuleLimit | None = None
    """Caps. A rule has either `limit` or `when`."""
    when: str | None = None
    """CEL that is true when the rule is broken; see docs/policies.md for its variables."""
    window_ms: DurationMs | None = Field(default=None, alias="window")
    """Tumbling window in log time for a tenant limit; none counts for ever."""
    action: Literal["reject_execution", "pause_lifetime", "abort_lifetime"]
    """What is done; the strongest of all broken rules wins."""
    pause: PauseTerms = PauseTerms()
    """Terms of a pause_lifetime."""

    @model_validator(mode="after")
    def _coherent(self) -> Rule:
        if (self.limit is None) == (self.when is None):
            raise ValueError("a rule has either `limit` or `when`")
        if self.limit is not None and not self.limit.caps():
            raise ValueError(
                "`limit` names no cap: tokens_used, cost_usd, latency_ms, executions, iterations"
            )
        if self.limit is not None and self.limit.iterations is not None and self.scope != "lifetime":
            raise ValueError("`iterations` counts visits of a lifetime: use scope lifetime")
        if self.limit is not None and self.limit.executions is not None and self.scope == "execution":
            raise ValueError("`executions` counts over a scope: use lifetime or tenant")
        if self.window_ms is not None and (
            self.scope != "tenant" or self.limit is None or not self.window_ms
        ):
            raise ValueError("`window` belongs to a `limit` at scope tenant, and is longer than 0")
        if self.pause.ttl_ms is not None and self.action != "pause_lifetime":
            raise ValueError("`pause` belongs to the action pause_lifetime")
        if self.when is not None:
            compile_rule(self.when)
        return self


class PolicyMetadata(Definition):
    """Names a policy version."""

    name: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    description: str = ""


class Policy(Definition):
    """A tenant's rules, versioned; the newest one set under a name is in force."""

    api_version: Literal["headgate/v1"] = Field(default="headgate/v1", alias="apiVersion")
    kind: Literal["GuardrailPolicy"]
    metadata: PolicyMetadata
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` judges and publishes, and is never obeyed."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=MAX_RULES)]

    @model_validator(mode="after")
    def _names_differ(self) -> Policy:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are named {', '.join(twice)}")
        return self

    @property
    def name(self) -> str:
        """Name under which it is set."""
        return self.metadata.name

    @property
    def version(self) -> int:
        """Its version."""
        return self.metadata.version

    def canonical_json(self) -> str:
        """Return the one JSON text of this policy: sorted keys, no blanks; equal policies, equal text."""
        document = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        document |= {"apiVersion": self.api_version, "kind": self.kind}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load_policy(path: Path) -> Policy:
    """Return the policy in a YAML file; raises PolicyInvalid with file:line:column for every fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PolicyInvalid(f"{path}: cannot read the policy: {reason}") from None
    return validate(read_yaml(text, str(path), PolicyInvalid), Policy, PolicyInvalid)


def policy_from_json(text: str) -> Policy:
    """Return the policy in canonical JSON; raises PolicyInvalid."""
    try:
        value: Any = json.loads(text)
        return Policy.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "policy"
        raise PolicyInvalid(f"{place}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyInvalid(f"not a policy: {error}") from None
