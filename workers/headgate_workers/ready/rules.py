"""The plan type `rules`: routing rules over the upstream result, asked by priority, with a default."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from typing import Any

from headgate_graphs.conditions import EDGE_ENVIRONMENT, Condition, ConditionFailed, ConditionInvalid
from headgate_graphs.errors import NonRetryable
from headgate_graphs.model import NodeKind, PlanConfiguration, RoutingRule
from headgate_workers.context import PlanContext, UpstreamResult
from headgate_workers.handlers import Handler
from headgate_workers.results import Decision


class RuleFailed(NonRetryable):
    """A rule that could not be evaluated; guessing would route past what its author meant."""

    code = "CONDITION"


async def rules(ctx: PlanContext) -> Decision:
    """Return the targets of the first rule that holds, else the default; the upstream value is passed on."""
    asked, ordered = _asked(ctx.params_json)
    seen = EDGE_ENVIRONMENT.bind(facts(ctx)) if ordered else None
    chosen = next((rule for rule in ordered if _holds(rule, seen)), None)
    metadata = {"rule": chosen.when} if chosen is not None else {"rule": "default"}
    targets = chosen.next if chosen is not None else asked.default_next
    return Decision(targets, await _passed_on(ctx), metadata=metadata)


@lru_cache(maxsize=1024)
def _asked(params_json: str) -> tuple[PlanConfiguration, list[RoutingRule]]:
    """Return the plan's rules and default, and the rules in the order in which they are asked."""
    given = json.loads(params_json) if params_json else {}
    asked = PlanConfiguration.model_validate({k: v for k, v in given.items() if k in ("rules", "default")})
    return asked, sorted(asked.rules, key=lambda rule: -rule.priority)


def facts(ctx: PlanContext) -> dict[str, Any]:
    """Return what rules may look at; a large result shows its size and type only."""
    seen = [_seen(upstream) for upstream in ctx.upstream]
    one = seen[0] if len(seen) == 1 else None
    return {
        "result": one["result"] if one is not None else _together(ctx, seen),
        "success": all(upstream["success"] for upstream in seen),
        "metadata": one["metadata"] if one is not None else {u["node_id"]: u["metadata"] for u in seen},
        "error": next((u["error"] for u in seen if not u["success"]), _NO_ERROR),
        "upstream": seen,
        "lifetime": {"id": ctx.lifetime_id, "tenant_id": ctx.tenant_id, "graph_id": ctx.graph_id},
        "node": {"id": ctx.node_id, "type": "rules"},
        "iteration": ctx.iteration,
    }


_NO_ERROR = {"code": "", "message": "", "retryable": False}


def _seen(upstream: UpstreamResult) -> dict[str, Any]:
    error = upstream.error
    blob = upstream.lazy.payload.blob
    return {
        "node_id": upstream.node_id,
        "success": upstream.success,
        "result": {"size_bytes": blob.size_bytes, "content_type": blob.content_type}
        if upstream.lazy.is_large
        else upstream.value,
        "metadata": upstream.metadata,
        "error": {"code": error.code, "message": error.message, "retryable": error.retryable}
        if error is not None
        else _NO_ERROR,
        "iteration": upstream.iteration,
    }


def _together(ctx: PlanContext, seen: list[dict[str, Any]]) -> Any:
    return {u["node_id"]: u["result"] for u in seen} if seen else ctx.start_input


async def _passed_on(ctx: PlanContext) -> Any:
    if not ctx.upstream:
        return ctx.start_input
    if len(ctx.upstream) == 1:
        one = ctx.upstream[0]
        return one if one.success else {"error": _seen(one)["error"]}
    return {u.node_id: await asyncio.to_thread(getattr, u, "value") for u in ctx.upstream}


def _holds(rule: RoutingRule, seen: Any) -> bool:
    try:
        return _compiled(rule.when).holds(seen)
    except (ConditionInvalid, ConditionFailed) as error:
        raise RuleFailed(f"rule {rule.when[:200]!a}: {error}") from None


@lru_cache(maxsize=4096)
def _compiled(text: str) -> Condition:
    return EDGE_ENVIRONMENT.compile(text)


RULES = Handler(NodeKind.PLAN, "rules", rules, reads_values=False)
