"""Counts the words of a text: split, map over parallel branches, join, reduce.

             ┌→ map_1 ─┐
    split ───┼→ map_2 ─┼──→ gather → reduce → end
             ├→ map_3 ─┤
             └→ map_4 ─┘

The same handlers serve graph.yaml, where a mapper is a task, and subgraphs.yaml, where it is a graph.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from headgate import Decision, NonRetryable, PlanContext, TaskContext, plan, task

HERE = Path(__file__).parent


class Request(BaseModel):
    """What a run is started with; every part has a default."""

    text: Path = HERE / "poem.txt"
    """The text whose words are counted."""
    top: int = 5
    """How many of the most frequent words are told."""


class Shard(BaseModel):
    """One mapper's part of the text."""

    lines: list[str]


@plan
def split(ctx: PlanContext) -> Decision:
    """Cut the text into as many parts as the graph has mappers, and send them all out at once."""
    lines = _read(_request(ctx).text).splitlines()
    mappers = ctx.allowed_next
    starts = [len(lines) * number // len(mappers) for number in range(len(mappers) + 1)]
    inputs = {
        mapper: {"lines": lines[start:stop]}
        for mapper, start, stop in zip(mappers, starts, starts[1:], strict=False)
    }
    return Decision(next=mappers, inputs=inputs)


@task
def count_words(ctx: TaskContext, data: Shard) -> dict[str, int]:
    """Return how often each word occurs in one part; a word costs a token."""
    words = re.findall(r"[a-z]+(?:['-][a-z]+)*", " ".join(data.lines).lower().replace("--", " "))
    ctx.usage.add(tokens_used=len(words))
    return dict(Counter(words))


@plan
def gather(ctx: PlanContext) -> Decision:
    """Hand all counts to the reducer, once every mapper has answered; one that failed fails the run."""
    for result in ctx.upstream:
        if result.error:
            raise NonRetryable(f"{result.node_id} failed: {result.error.message}")
    return Decision(next=["reduce"], output={"counts": [result.value for result in ctx.upstream]})


@task
def reduce(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of all counts: the outcome of the run."""
    total: Counter[str] = Counter()
    for counts in data["counts"]:
        total.update(counts)
    most_frequent = sorted(total.items(), key=lambda one: (-one[1], one[0]))
    return {
        "words": total.total(),
        "different": len(total),
        "top": dict(most_frequent[: _request(ctx).top]),
        "shards": len(data["counts"]),
    }


def _request(ctx: TaskContext | PlanContext) -> Request:
    return Request.model_validate(ctx.start_input or {})


def _read(text: Path) -> str:
    try:
        return text.read_text(encoding="utf-8")
    except OSError as error:
        raise NonRetryable(f"{text}: {error.strerror}: name a text as `text`") from None
