"""What the nodes of a load do: as little as possible, for as long as they are told."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

from headgate_workers.context import PlanContext, TaskContext
from headgate_workers.handlers import plan, task
from headgate_workers.results import Decision


@plan("load_decide")
async def decide(ctx: PlanContext) -> Decision:
    """Wait as long as the plan takes, then go round once more, until the rounds are over."""
    params = ctx.params
    wait_ms = step_ms(params, ctx.execution_id) if "kind" in params else 0.0
    if wait_ms > 0:
        await asyncio.sleep(wait_ms / 1000)
    return Decision(next=["end"] if ctx.iteration > params["rounds"] else params["next"])


@task("load_work")
async def work(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Wait as long as the step takes, then answer with so many bytes."""
    wait_ms = step_ms(data, ctx.execution_id)
    if wait_ms > 0:
        await asyncio.sleep(wait_ms / 1000)
    if data["leased"]:
        ctx.usage.add(tokens_used=1000, cost_usd="0.001", model="none")
    elif data.get("tokens"):
        ctx.usage.add(tokens_used=data["tokens"])
    return {"text": "x" * data["bytes"]}


@task("load_pass")
async def go_on(ctx: TaskContext) -> None:
    """Lead from a join back to the begin."""
    del ctx


def step_ms(data: dict[str, Any], execution_id: str) -> float:
    """Return how long one execution takes: drawn from the seed and its id, so that a repeat takes as long."""
    kind, median = data["kind"], float(data["ms"])
    if kind == "none" or median <= 0:
        return 0.0
    if kind == "fixed":
        return median
    draw = random.Random(f"{data['seed']}/{execution_id}")  # noqa: S311 - a load, not a secret
    if kind == "lognormal":
        return draw.lognormvariate(math.log(median), float(data["sigma"]))
    alpha = float(data["alpha"])
    return float(min(median * draw.paretovariate(alpha) / 2 ** (1 / alpha), median * 100))
