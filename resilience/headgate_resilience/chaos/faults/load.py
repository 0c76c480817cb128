"""F15, F16: handlers that misbehave, and a tenant that wants everything."""

from __future__ import annotations

import random

from headgate_resilience.chaos.faults.fault import fault
from headgate_resilience.chaos.stage import Stage

NOISY_STARTS = 600
ROGUE_STARTS = 6


@fault("F15", "handlers", "Handlers hang, swallow their cancellation, print, leak, fork, raise nonsense.")
def rogue_handlers(stage: Stage, dice: random.Random) -> str:
    """Start lifetimes whose tasks misbehave; each must end, and nobody else may notice."""
    tenant = dice.choice(stage.driver.tenants)
    for _ in range(ROGUE_STARTS):
        stage.driver.ask(tenant, "rogue")
    stage.hold(6.0)
    return f"{ROGUE_STARTS} lifetimes of {tenant}"


@fault(
    "F15",
    "segfault",
    "A handler ends its worker's process, each time it is tried.",
    stalls="worker",
    weight=1,
)
def segfault(stage: Stage, dice: random.Random) -> str:
    """Start a lifetime whose only task kills its worker."""
    tenant = dice.choice(stage.driver.tenants)
    stage.driver.ask(tenant, "crash")
    stage.hold(8.0)
    return f"one lifetime of {tenant}"


@fault("F16", "noisy", "One tenant starts twenty times its share at once.")
def noisy_tenant(stage: Stage, dice: random.Random) -> str:
    """Start many lifetimes of one tenant as fast as the log takes them."""
    tenant = dice.choice(stage.driver.tenants)
    for _ in range(NOISY_STARTS):
        stage.driver.ask(tenant, "loop")
    stage.until(lambda: stage.driver.asked_left == 0, 30.0)
    return f"{NOISY_STARTS} lifetimes of {tenant}"
