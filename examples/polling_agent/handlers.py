"""Starts a job, looks at it until it is done, collects what it made.

    begin ─┬→ run_job
           └→ poll → decide → collect → end
               ↑        │
               └────────┘ not done yet

The loop has no counter and no clock of its own: a job that advances may be polled for as long as it takes,
and one that is stuck is told from it by the policy, because its answers repeat.
"""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import BaseModel

from headgate import Decision, NonRetryable, PlanContext, TaskContext, plan, task

HERE = Path(__file__).parent
LOOK_EVERY_S = 0.01


class Request(BaseModel):
    """What a run is started with; every part has a default."""

    readings: Path = HERE / "readings.csv"
    """Temperatures: day, hour, celsius."""
    workdir: Path = Path(".headgate/work")
    """Where the job's state goes, in a directory for each run; shared by all workers of it."""
    day_s: float = 0.06
    """Seconds that the job takes for one day of readings."""
    hang_after: int | None = None
    """So many days after which the job hangs, as if it waited for a lock that nobody lets go; none never."""


class JobState(BaseModel):
    """What the job says of itself."""

    status: str = "running"
    done: int = 0
    """Days that are summed up."""
    days: list[dict[str, Any]] = []
    """Their summaries."""


class Look(BaseModel):
    """What a poll knows already."""

    done: int
    patience_s: float
    """How long it waits for something new."""


@plan
async def begin(ctx: PlanContext) -> Decision:
    """Start the job and the polling; neither waits for the other."""
    return Decision(next=ctx.allowed_next, inputs={"poll": {"done": 0}})


@task
async def run_job(ctx: TaskContext) -> None:
    """Sum up one day after the other; run again, it goes on where it stood. A cancelled one says so."""
    request, state = _request(ctx), _load(ctx)
    try:
        for day, celsius in list(_days(request.readings).items())[state.done :]:
            if state.done == request.hang_after:
                await asyncio.Event().wait()
            await asyncio.sleep(request.day_s)
            summary = {"day": day, "low": min(celsius), "high": max(celsius), "mean": round(mean(celsius), 1)}
            state = JobState(done=state.done + 1, days=[*state.days, summary])
            _save(ctx, state)
        _save(ctx, state.model_copy(update={"status": "done"}))
    except asyncio.CancelledError:
        _save(ctx, state.model_copy(update={"status": "cancelled"}))
        raise


@task
async def poll(ctx: TaskContext, data: Look) -> dict[str, Any]:
    """Return where the job stands, as soon as that is news and in any case after a while."""
    for _ in range(max(1, round(data.patience_s / LOOK_EVERY_S))):
        state = _load(ctx)
        if state.done != data.done or state.status != "running":
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return {"status": state.status, "done": state.done, "news": state.done != data.done}


@plan
async def decide(ctx: PlanContext) -> Decision:
    """Poll again until the job is done."""
    seen = ctx.upstream_one
    if seen.error:
        raise NonRetryable(f"{seen.node_id} failed: {seen.error.message}")
    if seen.value["status"] == "done":
        return Decision(next=["collect"], output={"polls": ctx.iteration})
    return Decision(next=["poll"], output={"done": seen.value["done"]})


@task
def collect(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Make what the job left the outcome of the run."""
    days = _load(ctx).days
    warmest = max(days, key=lambda day: day["high"])
    return {"days": len(days), "warmest": warmest, "polls": data["polls"]}


def _request(ctx: TaskContext | PlanContext) -> Request:
    return Request.model_validate(ctx.start_input or {})


def _days(readings: Path) -> dict[str, list[float]]:
    """Return the temperatures of each day, in the order of the file."""
    try:
        with readings.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise NonRetryable(f"{readings}: {error.strerror}: name a table as `readings`") from None
    days: dict[str, list[float]] = {}
    for row in rows:
        days.setdefault(row["day"], []).append(float(row["celsius"]))
    return days


def _state_file(ctx: TaskContext) -> Path:
    """Return the job's state: each tenant and lifetime has its own."""
    return (_request(ctx).workdir / ctx.tenant_id / ctx.lifetime_id / "job.json").absolute()


def _load(ctx: TaskContext) -> JobState:
    file = _state_file(ctx)
    return JobState.model_validate(json.loads(file.read_text("utf-8"))) if file.is_file() else JobState()


def _save(ctx: TaskContext, state: JobState) -> None:
    """Write the state beside its place and move it there, so that nobody reads half of it."""
    file = _state_file(ctx)
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".new")
    written.write_text(state.model_dump_json(), encoding="utf-8")
    written.replace(file)
