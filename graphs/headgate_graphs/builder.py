"""Builds a graph in Python that reads as it runs; for users, and equal to what YAML and DOT give.

```python
g = GraphBuilder("research", version="1.0.0", limits={"deadline": "30m"})
ask = g.plan("ask")
web = g.task("web", timeout="30s")
papers = g.task("papers", timeout="30s")
collect = g.plan("collect", join={"strategy": "any", "cancel_losers": True})
write = g.task("write", type="chat", limits={"tokens_used": 8000})
judge = g.rules("judge").when("!success && iteration < 3", write).otherwise(END)

g.start(ask) >> [web, papers] >> collect >> write >> judge
graph = g.build()
```

An arrow to a node is one way among others; to a list, work for all of them at once; from a list, a join of
their results; to `END`, the end of the lifetime. `to`, `fan_out` and `join` say the same with conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

from pydantic import ValidationError

from headgate_graphs.checks import RULES, faults
from headgate_graphs.documents import lines_of
from headgate_graphs.errors import GraphInvalid
from headgate_graphs.ids import END
from headgate_graphs.model import (
    AgentGraph,
    Definition,
    Edge,
    EdgeConfiguration,
    EdgeKind,
    GraphLimits,
    GraphMetadata,
    Plan,
    RoutingRule,
    Task,
)
from headgate_graphs.naming import named
from headgate_graphs.options import PlanOptions, TaskOptions

D = TypeVar("D", bound=Definition)
N = TypeVar("N", bound="Node")
T = TypeVar("T", bound="Node | str | Sequence[Node]")


class GraphBuilder:
    """Collects nodes and edges in the order in which they are written, then checks the whole.

    Every method raises GraphInvalid, which says what is wrong with what it was given.
    """

    def __init__(
        self,
        id: str,
        *,
        version: str,
        tenant_id: str | None = None,
        description: str = "",
        tags: Iterable[str] = (),
        limits: GraphLimits | Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a graph; `limits` are the fields of GraphLimits by their YAML names."""
        self._where = f"graph {str(id)[:64]!a}"
        metadata = {"id": id, "version": version, "description": description, "tags": tuple(tags)}
        owner = {} if tenant_id is None else {"tenant_id": tenant_id}
        self._metadata = _checked(GraphMetadata, metadata | owner, self._where)
        self._limits = _checked(GraphLimits, limits or {}, f"{self._where}: limits")
        self._entry: Node | None = None
        self._nodes: list[Node] = []
        self._edges: list[Edge] = []

    def task(
        self, id: str, *, type: str | None = None, description: str = "", **config: Unpack[TaskOptions]
    ) -> Node:
        """Add a task; its handler type is its id unless another is given."""
        return self._add(Node(self, _node(Task, id, type, description, config)))

    def plan(
        self, id: str, *, type: str | None = None, description: str = "", **config: Unpack[PlanOptions]
    ) -> Node:
        """Add a plan; its handler type is its id unless another is given."""
        return self._add(Node(self, _node(Plan, id, type, description, config)))

    def rules(self, id: str, *, description: str = "", **config: Unpack[PlanOptions]) -> Rules:
        """Add a plan that decides by rules, which its methods `when` and `otherwise` add."""
        return self._add(Rules(self, _node(Plan, id, RULES, description, config)))

    def start(self, node: N) -> N:
        """Let lifetimes begin at `node`, else they begin at the one added first; return `node`."""
        self._entry = node
        return node

    def build(self) -> AgentGraph:
        """Return the graph; raises GraphInvalid with everything that is wrong with it as a whole."""
        entry = self._entry or next(iter(self._nodes), None)
        if entry is None:
            raise GraphInvalid(self._where, ["it has no nodes"])
        definitions = [node.definition for node in self._nodes]
        graph = AgentGraph(
            metadata=self._metadata,
            entry=entry.id,
            limits=self._limits,
            tasks=tuple(one for one in definitions if isinstance(one, Task)),
            plans=tuple(one for one in definitions if isinstance(one, Plan)),
            edges=tuple(self._edges),
        )
        found = [f"{named(graph, fault.path)}: {fault.message}" for fault in faults(graph)]
        if found:
            raise GraphInvalid(self._where, found)
        return graph

    def _add(self, node: N) -> N:
        self._nodes.append(node)
        return node


class Node:
    """A task or plan of a graph that is being built; arrows and methods add the edges out of it."""

    def __init__(self, graph: GraphBuilder, definition: Task | Plan) -> None:
        self._graph = graph
        self.definition = definition
        """The node as it stands so far."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.definition.id

    def to(self, *targets: Node | str, when: str | None = None, priority: int = 0) -> Self:
        """Lead to each target as one way among others (NORMAL), or to END (FINAL); return this node."""
        return self._lead(targets, EdgeKind.NORMAL, when, priority)

    def fan_out(self, *targets: Node, when: str | None = None, priority: int = 0) -> Self:
        """Send work to all targets at once (PARALLEL); return this node."""
        return self._lead(targets, EdgeKind.PARALLEL, when, priority)

    def join(self, *plans: Node, when: str | None = None, priority: int = 0) -> Self:
        """Hold this task's result until the join of each plan is full (JOIN); return this node."""
        return self._lead(plans, EdgeKind.JOIN, when, priority)

    def __rshift__(self, target: T) -> T:
        """`a >> b` is `a.to(b)`, `a >> [b, c]` is `a.fan_out(b, c)`; gives what stands on the right."""
        if isinstance(target, Node | str):
            self.to(target)
        else:
            self.fan_out(*target)
        return target

    def __rrshift__(self, sources: Sequence[Node]) -> Self:
        """`[a, b] >> c` joins the results of a and b at c; gives c."""
        for source in sources:
            source.join(self)
        return self

    def _lead(self, targets: Iterable[Node | str], kind: EdgeKind, when: str | None, priority: int) -> Self:
        for target in targets:
            to = _id_of(target, self)
            config = {"when": when, "priority": priority}
            edge = {"source": self.id, "target": to, "type": EdgeKind.FINAL if to == END else kind}
            where = f"edge {self.id} -> {to}"
            made = _checked(EdgeConfiguration, config, where)
            self._graph._edges.append(_checked(Edge, edge | {"config": made}, where))
        return self


class Rules(Node):
    """A plan of type `rules`; what a rule names gets an edge, unless it has one."""

    definition: Plan

    def when(self, condition: str, *targets: Node | str, priority: int = 0) -> Self:
        """Go to the targets, or END, when the CEL condition holds; return this node.

        Rules are asked by priority, highest first, equal ones in the order in which they were added.
        """
        rule = {"when": condition, "next": self._reached(targets), "priority": priority}
        made = _checked(RoutingRule, rule, f"plan {self.id!a}: a rule")
        return self._with(rules=(*self.definition.config.rules, made))

    def otherwise(self, *targets: Node | str) -> Self:
        """Go to the targets, or END, when no rule holds; return this node."""
        return self._with(default_next=self._reached(targets))

    def _with(self, **changed: Any) -> Self:
        config = self.definition.config.model_copy(update=changed)
        self.definition = self.definition.model_copy(update={"config": config})
        return self

    def _reached(self, targets: Sequence[Node | str]) -> tuple[str, ...]:
        """Return the targets' ids, each with an edge to it; a parallel one when they are several."""
        several = len(targets) > 1
        edges = self._graph._edges
        for target in targets:
            ends = (self.id, _id_of(target, self))
            known = [i for i, edge in enumerate(edges) if (edge.source, edge.target) == ends]
            if not known:
                self._lead([target], EdgeKind.PARALLEL if several else EdgeKind.NORMAL, None, 0)
            elif several and edges[known[0]].type is EdgeKind.NORMAL:
                edges[known[0]] = edges[known[0]].model_copy(update={"type": EdgeKind.PARALLEL})
        return tuple(_id_of(target, self) for target in targets)


def _id_of(target: Node | str, source: Node) -> str:
    """Return the id that an edge from `source` to `target` names."""
    if isinstance(target, str):
        if target != END:
            raise GraphInvalid(f"edge {source.id} -> {target[:64]!a}", ["an edge leads to a node or to END"])
        return END
    if target._graph is not source._graph:
        raise GraphInvalid(f"edge {source.id} -> {target.id}", ["the two nodes belong to different builders"])
    return target.id


def _node(kind: type[D], id: str, type: str | None, description: str, config: Mapping[str, Any]) -> D:
    given = {"id": id, "type": id if type is None else type, "description": description, "config": config}
    return _checked(kind, given, f"{kind.__name__.lower()} {str(id)[:64]!a}")


def _checked(kind: type[D], given: object, where: str) -> D:
    try:
        return kind.model_validate(given)
    except ValidationError as invalid:
        found = [f"{where}: {line}" for line in lines_of(invalid)]
    raise GraphInvalid(where, found)
