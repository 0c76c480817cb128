"""Handlers of the workload; `headgate worker` loads this file. What they return follows from their input.

A lifetime is started with `{"seed", "canary", "turns", "size", "flaky"}`. Every value carries the canary of
its tenant, so that whatever leaks is found. An attempt may fail, a result may be large, a run may take a
while: all of it is drawn from the seed, the node and the visit, so each run of an execution says the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from headgate_workers.context import Context, PlanContext, TaskContext
from headgate_workers.handlers import plan, task
from headgate_workers.results import Decision, Result

CALL_TOKENS = 100
"""What a paid call uses at least."""
CALL_NANO_USD = 1_000_000
"""And what it costs: a thousandth of a dollar."""


def draw(ctx: Context, below: int, *salt: object) -> int:
    """Return a number in 0..below-1 that is the same for every run of this visit, and every attempt."""
    seed = ctx.start_input["seed"]
    text = "/".join(map(str, (seed, ctx.lifetime_id, ctx.node_id, ctx.iteration, *salt)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % below


def _value(ctx: Context) -> dict[str, Any]:
    start = ctx.start_input
    large = "x" * start["size"] if draw(ctx, 10, "large") == 0 else ""
    return {"canary": start["canary"], "node": ctx.node_id, "turn": ctx.iteration, "pad": large}


async def _take_a_while(ctx: Context) -> None:
    await asyncio.sleep(draw(ctx, 20, "while") / 1000)


@task("chaos_work", timeout="30s")
async def work(ctx: TaskContext) -> Result:
    """Work for some milliseconds; the first attempt of a flaky lifetime's visit may fail."""
    await _take_a_while(ctx)
    if draw(ctx, 100, "fails") < ctx.start_input["flaky"] and ctx.attempt <= 1 + draw(ctx, 2, "times"):
        raise RuntimeError(f"attempt {ctx.attempt} of {ctx.node_id} was drawn to fail")
    value = _value(ctx)
    return Result(value, {"turn": ctx.iteration, "bytes": len(value["pad"])})


@task("chaos_call", timeout="30s")
async def call(ctx: TaskContext) -> dict[str, Any]:
    """Stand for a paid call: leased, its spend told as it goes."""
    await _take_a_while(ctx)
    ctx.usage.add(tokens_used=CALL_TOKENS + draw(ctx, 50, "tokens"), cost_nano_usd=CALL_NANO_USD)
    await _take_a_while(ctx)
    return _value(ctx)


@plan("chaos_open")
def open_all(ctx: PlanContext) -> Decision:
    """Send work to every node that may come next, with the start input."""
    return Decision(next=[name for name in ctx.allowed_next if name != "end"], output=ctx.start_input)


@plan("chaos_judge")
def judge(ctx: PlanContext) -> Decision:
    """Go round again until the lifetime has had its turns."""
    ways = [name for name in ctx.allowed_next if name != "end"]
    if ctx.iteration < ctx.start_input["turns"]:
        return Decision(next=ways[:1], output={"turn": ctx.iteration})
    return Decision(next=["end"], output=_value(ctx))


@plan("chaos_gather")
def gather(ctx: PlanContext) -> Decision:
    """Say which branches have arrived, and go on to all that may come next."""
    arrived = {"arrived": len(ctx.upstream), "canary": ctx.start_input["canary"]}
    return Decision(next=[name for name in ctx.allowed_next if name != "end"] or ["end"], output=arrived)


@task("chaos_rogue", timeout="3s")
def rogue(ctx: TaskContext) -> Any:
    """Misbehave in one of many ways, drawn from the seed."""
    ways: tuple[Callable[[], Any], ...] = (
        _hang,
        _swallow,
        _print,
        _leak,
        _fork,
        _raise_nonsense,
        _colour,
        object,
    )
    return ways[draw(ctx, len(ways), "way")]()


@task("chaos_crash", timeout="30s")
def crash(ctx: TaskContext) -> None:  # noqa: ARG001
    """End the whole process as a segmentation fault would, whoever else works in it."""
    os.abort()


def _hang() -> None:
    time.sleep(6.0)


def _swallow() -> None:
    for _ in range(20):
        try:
            time.sleep(0.3)
        except BaseException:  # noqa: S112 - just this is what it is there to do
            continue


def _print() -> str:
    sys.stdout.write("x" * 5_000_000 + "\n")
    return "printed"


def _leak() -> int:
    return len(bytearray(200_000_000))


def _fork() -> int:
    return subprocess.run([sys.executable, "-c", "print(1)"], check=False, capture_output=True).returncode


def _raise_nonsense() -> None:
    raise ValueError("\x1b[2J\n" + "nonsense " * 100_000)


def _colour() -> str:
    return "\x1b[31m\n" * 500
