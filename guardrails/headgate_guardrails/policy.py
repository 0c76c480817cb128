"""Guardrail policies as people write them: the model, the loader, the canonical text that travels.

Evaluation lives in `fold.evaluator`; this module only says what a policy is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from headgate_graphs.documents import read_file, read_yaml, validate
from headgate_graphs.errors import PolicyInvalid
from headgate_graphs.model import Definition, DurationMs, Name, NanoUsd
from headgate_guardrails.fold.conditions import compile_rule

MAX_RULES = 200
"""More rules in one policy is refused: each costs time on every event of the tenant."""

Count = Annotated[int, Field(ge=0, le=2**53)]

METRICS = (
    "tokens_used",
    "cost_nano_usd",
    "latency_ms",
    "executions",
    "iterations",
    "fan_out",
    "depth",
    "payload_bytes",
    "wall_time_ms",
)
"""Metrics of a limit, in the order in which they are compared."""
SCOPES_OF = {
    "executions": ("lifetime", "tenant"),
    "iterations": ("lifetime",),
    "fan_out": ("execution",),
    "depth": ("lifetime",),
    "wall_time_ms": ("lifetime",),
}
"""Scopes at which a metric has a meaning; every scope when it is not here."""


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
    fan_out: Count | None = None
    """Next tasks that one plan names; execution scope only."""
    depth: Count | None = None
    """Levels of sub-graphs above the lifetime; lifetime scope only."""
    payload_bytes: Count | None = None
    """Size of a result in bytes, wherever it is kept: of the execution, or summed over the scope."""
    wall_time_ms: DurationMs | None = Field(default=None, alias="wall_time")
    """Log time since the lifetime began; lifetime scope only."""

    def caps(self) -> dict[str, int]:
        """Return the caps that are set, by metric (cost in nano-USD, times in milliseconds)."""
        return {metric: value for metric in METRICS if (value := getattr(self, metric)) is not None}


class NoProgress(Definition):
    """When a lifetime goes round without getting on."""

    repeats: Annotated[int, Field(ge=2, le=50)] = 3
    """So many equal steps in a row, or so many rounds of two that alternate (default 3)."""
    of: Annotated[tuple[Literal["node", "input", "output"], ...], Field(min_length=1)] = (
        "node",
        "input",
        "output",
    )
    """What makes two steps equal. With `node`, the steps of each node are looked at on their own."""
    failures: Annotated[int, Field(ge=2, le=100)] | None = None
    """So many failed executions in a row, whatever they are; none does not count failures."""


class NameList(Definition):
    """Names that a rule allows or denies; a kind that is absent is not looked at."""

    task_types: tuple[Name, ...] | None = None
    """Handler types of tasks; asked before dispatch."""
    queues: tuple[str, ...] | None = None
    """Named queues, "" for the default one; asked before dispatch."""
    models: tuple[str, ...] | None = None
    """Models: a `model` among the node's params before dispatch, the billed one when it is settled."""

    @model_validator(mode="after")
    def _not_empty(self) -> NameList:
        if self.task_types is None and self.queues is None and self.models is None:
            raise ValueError("names none of task_types, queues, models")
        return self


class PauseTerms(Definition):
    """How long a pause lasts."""

    ttl_ms: DurationMs | None = Field(default=None, alias="ttl")
    """After this time in log time the pause turns into an abort; none waits for an operator."""


class ThrottleTerms(Definition):
    """How a dispatch is put off."""

    delay_ms: DurationMs = Field(default=1_000, alias="delay")
    """Log time until it is asked again (default 1s); a rule with a window waits for room in it instead."""


class Rule(Definition):
    """One rule: what breaks it, how far it looks, and what is done then."""

    name: Name
    scope: Literal["execution", "lifetime", "tenant"]
    """Whether it looks at one execution, one lifetime, or everything of the tenant."""
    limit: RuleLimit | None = None
    """Caps. A rule has one of `limit`, `when`, `no_progress`, `allow`, `deny`."""
    when: str | None = None
    """CEL that is true when the rule is broken; see docs/policies.md for its variables."""
    no_progress: NoProgress | None = None
    """Steps that repeat; asked when an execution is settled, at scope lifetime."""
    allow: NameList | None = None
    """Nothing but these, at scope execution."""
    deny: NameList | None = None
    """Everything but these, at scope execution."""
    window_ms: DurationMs | None = Field(default=None, alias="window")
    """Window in log time for a tenant limit; none counts for ever."""
    sliding: bool = False
    """Whether the window slides, in sixtieths of its length; else it is tumbling and begins at the epoch."""
    action: Literal["warn", "throttle", "reject_execution", "pause_lifetime", "abort_lifetime"]
    """What is done; the strongest of all broken rules wins, in this order."""
    pause: PauseTerms = PauseTerms()
    """Terms of a pause_lifetime."""
    throttle: ThrottleTerms = ThrottleTerms()
    """Terms of a throttle."""

    @model_validator(mode="after")
    def _coherent(self) -> Rule:
        for fault in (*self._kind_faults(), *self._term_faults()):
            raise ValueError(fault)
        if self.when is not None:
            compile_rule(self.when)
        return self

    def _kind_faults(self) -> list[str]:
        kinds = [k for k in ("limit", "when", "no_progress", "allow", "deny") if getattr(self, k) is not None]
        if len(kinds) != 1:
            return ["a rule has one of `limit`, `when`, `no_progress`, `allow`, `deny`"]
        faults = []
        caps = self.limit.caps() if self.limit is not None else {}
        if self.limit is not None and not caps:
            faults.append("`limit` names no cap, such as tokens_used, cost_usd or iterations")
        for metric in caps:
            allowed = SCOPES_OF.get(metric, (self.scope,))
            if self.scope not in allowed:
                faults.append(f"`{metric.removesuffix('_ms')}` belongs to scope {' or '.join(allowed)}")
        if self.no_progress is not None and self.scope != "lifetime":
            faults.append("`no_progress` looks at a lifetime: use scope lifetime")
        if (self.allow or self.deny) and self.scope != "execution":
            faults.append("`allow` and `deny` look at one execution: use scope execution")
        return faults

    def _term_faults(self) -> list[str]:
        faults = []
        if self.action == "throttle" and self.no_progress is not None:
            faults.append("waiting does not help against `no_progress`: use another action")
        if self.window_ms is not None and (
            self.scope != "tenant" or self.limit is None or not self.window_ms
        ):
            faults.append("`window` belongs to a `limit` at scope tenant, and is longer than 0")
        if self.sliding and self.window_ms is None:
            faults.append("`sliding` belongs to a `window`")
        if self.pause.ttl_ms is not None and self.action != "pause_lifetime":
            faults.append("`pause` belongs to the action pause_lifetime")
        if self.throttle != ThrottleTerms() and self.action != "throttle":
            faults.append("`throttle` belongs to the action throttle")
        if not self.throttle.delay_ms:
            faults.append("a throttle's `delay` is longer than 0")
        return faults


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
    text = read_file(path, str(path), PolicyInvalid)
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
