"""Graphs and policies of the workload: a loop, joins of both kinds, sub-graphs, paid and capped calls."""

from __future__ import annotations

from typing import Final

from headgate_graphs.builder import GraphBuilder
from headgate_graphs.ids import END
from headgate_graphs.model import AgentGraph
from headgate_graphs.options import JoinOptions, TaskOptions
from headgate_guardrails.policy import Policy

DEADLINE: Final = "2h"
"""Longer than any run: a lifetime that is stuck must be seen as stuck, not be ended by its deadline."""
_QUICK: Final[TaskOptions] = {"backoff": "100ms", "max_backoff": "1s", "max_retries": 4}
_PAID: Final[TaskOptions] = {**_QUICK, "limits": {"tokens_used": 200, "cost_usd": "0.002"}}
_ENOUGH: Final[JoinOptions] = {"strategy": "quorum", "min_inputs": 2, "max_inputs": 2, "cancel_losers": True}


def loop() -> AgentGraph:
    """Task and plan take turns; attempts fail and are retried."""
    g = GraphBuilder("loop", version="1.0.0", limits={"deadline": DEADLINE})
    aim = g.plan("aim", type="chaos_open")
    work = g.task("work", type="chaos_work", **_QUICK)
    judge = g.plan("judge", type="chaos_judge")
    g.start(aim) >> work >> judge >> work
    judge >> END
    return g.build()


def fan() -> AgentGraph:
    """Four branches that are all waited for, then three of which two are enough."""
    g = GraphBuilder("fan", version="1.0.0", limits={"deadline": DEADLINE})
    split = g.plan("split", type="chaos_open")
    four = [g.task(f"part_{n}", type="chaos_work", **_QUICK) for n in range(1, 5)]
    gather = g.plan("gather", type="chaos_gather", join={"strategy": "all"})
    three = [g.task(f"ask_{n}", type="chaos_work", **_QUICK) for n in range(1, 4)]
    pick = g.plan("pick", type="chaos_gather", join=_ENOUGH)
    g.start(split) >> four >> gather >> three >> pick >> END
    return g.build()


def leaf() -> AgentGraph:
    """One paid call: what `nest` starts."""
    g = GraphBuilder("leaf", version="1.0.0", limits={"deadline": DEADLINE})
    g.start(g.task("call", type="chaos_call", **_PAID)) >> END
    return g.build()


def nest() -> AgentGraph:
    """Two sub-graphs side by side."""
    g = GraphBuilder("nest", version="1.0.0", limits={"deadline": DEADLINE})
    split = g.plan("split", type="chaos_open")
    below = [g.task(f"below_{n}", type="graph", params={"graph": "leaf"}) for n in (1, 2)]
    gather = g.plan("gather", type="chaos_gather")
    g.start(split) >> below >> gather >> END
    return g.build()


def spend() -> AgentGraph:
    """Paid calls in a loop, until it is enough or a cap ends it."""
    g = GraphBuilder("spend", version="1.0.0", limits={"deadline": DEADLINE})
    aim = g.plan("aim", type="chaos_open")
    call = g.task("call", type="chaos_call", **_PAID)
    judge = g.plan("judge", type="chaos_judge")
    g.start(aim) >> call >> judge >> call
    judge >> END
    return g.build()


def rogue() -> AgentGraph:
    """One task that misbehaves, and a plan that takes whatever comes of it."""
    return _alone("rogue", "chaos_rogue", {"max_retries": 1, "backoff": "100ms", "timeout": "3s"})


def crash() -> AgentGraph:
    """One leased task that takes its worker along, so that it is given up after some workers."""
    return _alone("crash", "chaos_crash", {"max_retries": 0, "leased": True, "timeout": "30s"})


def _alone(name: str, type: str, options: TaskOptions) -> AgentGraph:
    g = GraphBuilder(name, version="1.0.0", limits={"deadline": DEADLINE})
    task, end = g.task("task", type=type, **options), g.plan("end_it", type="chaos_gather")
    g.start(task) >> end >> END
    return g.build()


GRAPHS: Final = (loop, fan, leaf, nest, spend, rogue, crash)
STARTED: Final = {"loop": 5, "fan": 3, "nest": 1, "spend": 2}
"""Graphs that clients start, and how often in proportion."""


def policy() -> Policy:
    """Return the caps: some lifetimes of `spend` are aborted, some paused until their pause expires."""
    return Policy.model_validate(
        {
            "kind": "GuardrailPolicy",
            "metadata": {"name": "chaos", "version": 1},
            "rules": [
                {
                    "name": "run-tokens",
                    "scope": "lifetime",
                    "limit": {"tokens_used": 700},
                    "action": "abort_lifetime",
                },
                {
                    "name": "run-dollars",
                    "scope": "lifetime",
                    "limit": {"cost_usd": "0.0055"},
                    "action": "pause_lifetime",
                    "pause": {"ttl": "5s"},
                },
                {
                    "name": "visits",
                    "scope": "lifetime",
                    "limit": {"iterations": 12},
                    "action": "abort_lifetime",
                },
            ],
        }
    )
