"""The vocabulary of agent graphs: frozen, validated definitions that the loader makes and the gate follows.

Everything here is a value: equal content means equal objects. Whole-graph faults are found by `checks`.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from headgate_graphs.ids import END, is_name, is_tenant_id
from headgate_graphs.units import DURATION_PATTERN, format_duration, parse_duration

API_VERSION = "headgate/v1"
"""Version of the definition format."""
DEFAULT_TENANT = "default"
"""Owner of a graph that names none."""
VERSION_PATTERN = r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$"
"""MAJOR.MINOR.PATCH."""
MAX_PARAMS_DEPTH = 16
"""Levels of a node's params; every reader of a definition stops at 32 of the whole."""


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text[:64]!a} is not a name: 1-128 letters, digits, '.', '_' or '-'")
    return text


def _tenant(text: str) -> str:
    if not is_tenant_id(text):
        raise ValueError(
            f"{text[:64]!a} is not a tenant id: 3-40 lower-case letters, digits and inner hyphens"
        )
    return text


def _nano_usd(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("an amount in USD is a number, such as 0.50")
    try:
        nano = Decimal(str(value)) * 1_000_000_000
    except InvalidOperation:
        raise ValueError(f"{value!a} is not an amount in USD, such as 0.50") from None
    if not nano.is_finite() or nano < 0 or nano > 2**62 or nano != int(nano):
        raise ValueError(f"{value!a} USD is not between 0 and 4e9 with at most 9 decimals")
    return int(nano)


def _usd_text(nano: int) -> str:
    return format(Decimal(nano) / 1_000_000_000, "f")


def _json_object(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse what JSON or another process could not give back as it is; params travel with every input."""
    todo: list[tuple[JsonValue, int]] = [(value, 1)]
    while todo:
        part, depth = todo.pop()
        if isinstance(part, dict | list):
            if depth > MAX_PARAMS_DEPTH:
                raise ValueError(f"nested deeper than {MAX_PARAMS_DEPTH} levels")
            inner = [*part, *part.values()] if isinstance(part, dict) else part
            todo += [(each, depth + 1) for each in inner]
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError("a number must be finite")
        elif isinstance(part, int) and not -(2**63) <= part < 2**63:
            raise ValueError("a whole number must fit into 64 bits")
        elif isinstance(part, str) and any("\ud800" <= character <= "\udfff" for character in part):
            raise ValueError("half of a surrogate pair is not text")
    return value


Name = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}),
]
"""1-128 of [A-Za-z0-9._-], beginning with a letter or a digit."""
Tenant = Annotated[
    str,
    AfterValidator(_tenant),
    WithJsonSchema({"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$"}),
]
"""A tenant id."""
Params = Annotated[dict[str, JsonValue], AfterValidator(_json_object)]
"""A JSON object: finite numbers, whole ones within 64 bits, at most 16 levels."""
DurationMs = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": DURATION_PATTERN},
                {"type": "number", "minimum": 0},
            ],
            "description": "Such as 500ms, 30s, 5m, 1h30m, 7d; a bare number is seconds.",
        }
    ),
]
"""Milliseconds, written as "500ms", "30s", "5m", "1h30m", "7d" or a bare number of seconds."""
Timeout = Annotated[DurationMs, Field(gt=0)]
"""A duration longer than 0."""
NanoUsd = Annotated[
    int,
    BeforeValidator(_nano_usd),
    PlainSerializer(_usd_text, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d{1,9})?$"}],
            "description": "USD, such as 0.50; at most 9 decimals.",
        }
    ),
]
"""Money in nano-USD, written in USD such as 0.50."""


class Definition(BaseModel):
    """Parent of every definition: immutable, no unknown keys, written and read by the YAML names.

    In Python too a field with a unit in its name is given by its YAML name (`timeout="5m"`,
    `cost_usd="0.50"`) and read with the unit (`timeout_ms`, `cost_nano_usd`), so that no number
    can be taken for another unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NodeKind(Enum):
    """Whether a node works (TASK) or decides (PLAN)."""

    TASK = "task"
    PLAN = "plan"


class EdgeKind(Enum):
    """How a result travels; the wire's EdgeType in words."""

    NORMAL = "normal"
    PARALLEL = "parallel"
    JOIN = "join"
    FINAL = "final"


class NodeLimits(Definition):
    """What one execution of a node may use; reserved as a hold before it is dispatched."""

    tokens_used: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Tokens, input and output together; none means nothing is reserved."""
    cost_nano_usd: NanoUsd | None = Field(default=None, alias="cost_usd")
    """Money; none means nothing is reserved."""


class NodeConfiguration(Definition):
    """What tasks and plans have in common."""

    timeout_ms: Timeout | None = Field(default=None, alias="timeout")
    """How long one run of the handler, or the wait for a person, may take; none is 1m, and 1d for `human`."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Tries after the first one fails (default 2); then the failure is the result."""
    backoff_ms: DurationMs = Field(default=500, alias="backoff")
    """Wait before the first retry; doubles with each; jitter comes from the execution id (default 500ms)."""
    max_backoff_ms: DurationMs = Field(default=60_000, alias="max_backoff")
    """Longest wait between two tries (default 1m)."""
    queue: Name | None = None
    """Named queue whose workers serve this node; none for the default queue."""
    limits: NodeLimits = NodeLimits()
    """What one execution may use."""
    leased: bool | None = None
    """Whether a run is announced and leased; none decides by limits and timeout (DESIGN: plain or leased)."""
    params: Params = Field(default_factory=dict)
    """Static JSON parameters for the handler, at most 64 KiB; an input's keys win over them."""


class TaskConfiguration(NodeConfiguration):
    """How a Task is run."""

    effects: Literal["none", "external"] = "none"
    """Whether the handler changes things outside; a fork then uses the recorded result."""
    reminder_ms: Timeout | None = Field(default=None, alias="reminder")
    """For tasks of type `human`: how often a WARN event reminds that nobody has answered; none never."""


class JoinConfiguration(Definition):
    """When a plan that is fed by JOIN edges goes on."""

    strategy: Literal["all", "any", "majority", "quorum"] = "all"
    """What it waits for, of the n branches sent out in a visit: `all` n results, failed ones too; `any` one
    success; `majority` n // 2 + 1; `quorum` min_inputs to max_inputs. When all have arrived it goes on.
    """
    min_inputs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """For `quorum`: successes that are enough when the timeout comes."""
    max_inputs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """For `quorum`: successes at which it goes on at once; none is min_inputs."""
    timeout_ms: Timeout | None = Field(default=None, alias="timeout")
    """How long it waits after the first arrival, in log time; none waits as long as a branch is alive."""
    on_timeout: Literal["proceed", "fail"] = "fail"
    """With too few arrivals and no more to come: go on with those, or fail the lifetime."""
    late: Literal["drop", "record"] = "drop"
    """What a result that comes after the join has gone on leaves: nothing, or a WARN event."""
    cancel_losers: bool = False
    """Whether branches that have not arrived when it goes on are cancelled."""

    @model_validator(mode="after")
    def _coherent(self) -> JoinConfiguration:
        quorum = self.strategy == "quorum"
        if quorum != (self.min_inputs is not None) or (self.max_inputs is not None and not quorum):
            raise ValueError("`min_inputs` is given for the strategy quorum and for no other")
        if self.max_inputs is not None and self.max_inputs < (self.min_inputs or 1):
            raise ValueError("`max_inputs` is less than `min_inputs`")
        return self

    def needs(self, branches: int) -> tuple[int, int]:
        """Return (successes that are enough, successes at which it goes on at once) of so many branches."""
        if self.strategy == "all":
            return branches, branches
        if self.strategy == "any":
            return 1, 1
        if self.strategy == "majority":
            return branches // 2 + 1, branches // 2 + 1
        least = min(self.min_inputs or 1, branches)
        return least, min(self.max_inputs or least, branches)


class RoutingRule(Definition):
    """One line of a `rules` plan: when the condition holds, go to these tasks."""

    when: str
    """CEL over result, success, metadata, upstream, lifetime, node, iteration."""
    next: tuple[Name, ...]
    """Targets among the plan's outgoing edges, or `end`."""
    priority: int = 0
    """Higher is asked first; equal ones in document order."""


class PlanConfiguration(NodeConfiguration):
    """How a Plan is run."""

    rules: tuple[RoutingRule, ...] = ()
    """For plans of type `rules`: asked by priority, the first that holds decides."""
    default_next: tuple[Name, ...] = Field(default=(), alias="default")
    """For plans of type `rules`: where to go when no rule holds."""
    join: JoinConfiguration = JoinConfiguration()
    """How JOIN edges into this plan are gathered."""


class GraphNode(Definition):
    """A node: an id that is unique in its graph and the type of the handler that serves it."""

    id: Name
    """Unique among all tasks and plans of the graph; not `end`."""
    type: Name
    """Handler type that serves the node: `chat`, `http`, `subprocess`, `human`, `rules` or your own."""
    description: str = ""
    """For people."""


class Task(GraphNode):
    """A node that works."""

    config: TaskConfiguration = TaskConfiguration()
    """How it is run."""

    @property
    def kind(self) -> NodeKind:
        """TASK."""
        return NodeKind.TASK


class Plan(GraphNode):
    """A node that decides what comes next."""

    config: PlanConfiguration = PlanConfiguration()
    """How it is run, how its inputs are joined, and its rules if it has the type `rules`."""

    @property
    def kind(self) -> NodeKind:
        """PLAN."""
        return NodeKind.PLAN


class EdgeConfiguration(Definition):
    """When an edge is taken."""

    when: str | None = None
    """CEL over result, success, metadata, upstream, lifetime, node, iteration; none always holds.

    A failed result takes an edge without a condition too: the plan behind it decides what to do.
    """
    priority: int = 0
    """Higher is asked first; equal ones in document order."""


class Edge(Definition):
    """A way from one node to another, or to `end`.

    `Edge(source="a", target="b")` in Python, where `from` is a keyword; `{from: a, to: b}` in YAML.
    """

    model_config = ConfigDict(populate_by_name=True)

    source: Name = Field(alias="from")
    """Id of the node it leaves."""
    target: Name = Field(alias="to")
    """Id of the node it leads to: a plan after a task, a task after a plan; `end` for a final edge."""
    type: EdgeKind = EdgeKind.NORMAL
    """normal: to one; parallel: to several at once; join: held until the join is full; final: to `end`."""
    config: EdgeConfiguration = EdgeConfiguration()
    """When it is taken; for edges out of tasks."""


class GraphLimits(Definition):
    """Safe defaults that are neither zero nor infinite."""

    max_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Visits of one lifetime to one node (default 100); one more aborts the lifetime."""
    max_fan_out: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Next tasks that one plan may name (default 64); more is a failed result FANOUT."""
    deadline_ms: Timeout = Field(default=86_400_000, alias="deadline")
    """How long a lifetime may last in log time (default 1d); then it is aborted."""
    max_depth: Annotated[int, Field(ge=0, le=32)] = 4
    """Levels of sub-graphs below a lifetime of this graph (default 4); more is a failed result DEPTH."""
    max_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Executions of this graph in flight at once, over all lifetimes of the tenant; none for no cap."""
    max_in_flight_by_type: dict[Name, Annotated[int, Field(ge=1, le=1_000_000)]] = Field(default_factory=dict)
    """The same for one handler type."""


class GraphMetadata(Definition):
    """Names a graph version."""

    id: Name
    """What a start names."""
    version: Annotated[str, Field(pattern=VERSION_PATTERN)]
    """Semantic version MAJOR.MINOR.PATCH."""
    tenant_id: Tenant = DEFAULT_TENANT
    """Who owns the graph (default `default`)."""
    description: str = ""
    """For people."""
    tags: tuple[str, ...] = ()
    """Words that policies can look at, as `graph.tags`."""


class AgentGraph(Definition):
    """An immutable, versioned definition: tasks, plans and the edges between them."""

    api_version: Literal["headgate/v1"] = Field(default="headgate/v1", alias="apiVersion")
    """Version of this format."""
    kind: Literal["AgentGraph"] = "AgentGraph"
    """What the document is."""
    metadata: GraphMetadata
    """Its name, version and owner."""
    entry: Name
    """Node where a lifetime begins; it receives the start input."""
    limits: GraphLimits = GraphLimits()
    """Bounds of every lifetime, whatever the policies say."""
    tasks: tuple[Task, ...] = ()
    """Nodes that work."""
    plans: tuple[Plan, ...] = ()
    """Nodes that decide."""
    edges: tuple[Edge, ...] = ()
    """Ways between them; among equal priorities the earlier one is asked first."""

    @property
    def tenant_id(self) -> str:
        """Who owns the graph."""
        return self.metadata.tenant_id

    @cached_property
    def nodes(self) -> dict[str, Task | Plan]:
        """Every node by id, tasks first, in document order."""
        nodes: tuple[Task | Plan, ...] = (*self.tasks, *self.plans)
        return {node.id: node for node in nodes}

    @cached_property
    def outgoing(self) -> dict[str, tuple[Edge, ...]]:
        """Edges out of each node, highest priority first, then document order."""
        out: dict[str, list[Edge]] = {node_id: [] for node_id in self.nodes}
        for edge in self.edges:
            out.setdefault(edge.source, []).append(edge)
        return {k: tuple(sorted(v, key=lambda e: -e.config.priority)) for k, v in out.items()}

    def for_tenant(self, tenant: str) -> AgentGraph:
        """Return the same graph owned by `tenant`."""
        return self.model_copy(
            update={"metadata": self.metadata.model_copy(update={"tenant_id": _tenant(tenant)})}
        )

    def canonical_json(self) -> str:
        """Return the one JSON text of this graph: sorted keys, no blanks; equal graphs, equal text."""
        return json.dumps(
            self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            | {"apiVersion": self.api_version, "kind": self.kind},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )


class AgentLifetime(Definition):
    """One run of a graph for a tenant, as a client asks for it and reads it back."""

    tenant_id: Tenant
    """Who pays."""
    lifetime_id: Name
    """Unique within the tenant."""
    graph_id: Name
    """The graph it runs."""
    graph_version: str = ""
    """Its version; empty for the newest registered."""
    status: Literal["running", "paused", "completed", "failed", "aborted", "rejected"] = "running"
    """Where it stands; all but the first two are final."""
    reason: str = ""
    """Why it stands there, one line for people."""


__all__ = [
    "API_VERSION",
    "END",
    "AgentGraph",
    "AgentLifetime",
    "Edge",
    "EdgeConfiguration",
    "EdgeKind",
    "GraphLimits",
    "GraphMetadata",
    "GraphNode",
    "JoinConfiguration",
    "NodeConfiguration",
    "NodeKind",
    "NodeLimits",
    "Plan",
    "PlanConfiguration",
    "RoutingRule",
    "Task",
    "TaskConfiguration",
]
