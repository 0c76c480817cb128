"""What the nodes of graph.yaml do. A model call would stand where these lines are put together."""

from __future__ import annotations

from typing import Any

from headgate import Decision, PlanContext, TaskContext, plan, task

STEPS = ("starts with a sentence", "gives an example", "says why it matters")
"""Each visit adds one; the review accepts a line that has all of them."""


@task("write_line", timeout="30s")
async def write_line(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Write about the topic, following the advice that came back so far."""
    topic = data.get("topic") or "a gate at the head of a stream"
    parts = [*data.get("parts", []), STEPS[min(ctx.iteration, len(STEPS)) - 1]]
    ctx.usage.add(tokens_used=120, cost_usd="0.0006", model="none")  # what a model call would have cost
    return {"topic": topic, "parts": parts, "text": f"A text about {topic} that {', '.join(parts)}."}


@plan("review_line")
async def review_line(ctx: PlanContext) -> Decision:
    """Accept the text when nothing is missing, else send it back."""
    written = ctx.upstream_one.value
    missing = [step for step in STEPS if step not in written["parts"]]
    if missing:
        return Decision(next=["write"], output=written, metadata={"missing": len(missing)})
    return Decision(next=["end"], output=written["text"], metadata={"missing": 0})
