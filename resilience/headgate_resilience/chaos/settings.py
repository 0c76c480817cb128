"""What one run of chaos is told: how many, how fast, how long, which faults, from which seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ChaosSettings(BaseModel):
    """One run. The same settings make the same starts, orders and faults in the same order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Where every choice is drawn from."""
    gates: Annotated[int, Field(ge=1, le=50)] = 2
    """Gates that share the partitions (default 2)."""
    workers: Annotated[int, Field(ge=2, le=200)] = 4
    """Workers, half of them for tasks and half for plans (default 4)."""
    tenants: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Tenants that start lifetimes (default 20)."""
    rate: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    """Lifetimes started a second, over all tenants (default 10)."""
    most_open: Annotated[int, Field(ge=1)] = 400
    """Lifetimes that may be open before no more are started: a stall does not pile up (default 400)."""
    duration_s: Annotated[float, Field(gt=0)] = 60.0
    """How long faults are injected, in seconds; healing and judging come after it (default 60)."""
    kills: Annotated[int, Field(ge=0)] = 0
    """Kills that must have happened before it is over, even when that takes longer; 0 for none."""
    at_once: Annotated[int, Field(ge=1, le=10)] = 1
    """Faults of a mix that are injected at the same time (default 1)."""
    rest_s: Annotated[float, Field(ge=0)] = 1.0
    """Seconds without a fault after each has healed (default 1)."""
    calm_s: Annotated[float, Field(ge=0)] = 5.0
    """Seconds without a fault at the beginning, which the others are compared with (default 5)."""
    steady_s: Annotated[float, Field(gt=0)] = 60.0
    """How long nothing may lag after a fault before the next begins all the same (default 60)."""
    quiet_s: Annotated[float, Field(gt=0)] = 180.0
    """How long all that was started may take to end after the last fault (default 180)."""
    old_logic: bool = False
    """Whether the run begins with gates of logic version 1 alone, so that F4-upgrade can be injected."""
    checkpoint_s: Annotated[float, Field(gt=0)] = 3.0
    """How often the gates save their state, so that there is something to damage (default 3)."""
    out: Path = Path("chaos-report")
    """Directory of the report and of the processes' logs."""
