"""Lines that tell a person what stopped a run and exactly what to type next."""

from __future__ import annotations

import shlex

from headgate.command.place import Place
from headgate.command.views.state import LifetimeState
from headgate.words import clock, scope_word, usd, violation_line
from headgate_protos.v1.control_pb2 import GuardrailViolation


def ending_lines(state: LifetimeState) -> list[str]:
    """Return one line for each rule that stopped the run, or its reason; none when all is well."""
    view = state.view
    if view is None or state.status in ("running", "completed"):
        return []
    if view.violations:
        return [f"stopped by {violation_line(broken)}" for broken in view.violations]
    return [f"{state.status}: {view.reason}"] if view.reason else []


def held_lines(state: LifetimeState) -> list[str]:
    """Return a line when spend is held for work that nobody has reported on; it counts against the caps."""
    view = state.view
    if view is None or not view.open_holds:
        return []
    amounts = f"{usd(view.held.cost_nano_usd)} and {view.held.tokens_used:,} tokens"
    return [f"{amounts} are held still, for {view.open_holds} of its executions that may be spending"]


def waiting_lines(place: Place, lifetime: str, state: LifetimeState) -> list[str]:
    """Return one line for each person the run waits for, with the command that answers."""
    if state.view is None or state.status not in ("running", "paused"):
        return []
    return [
        f"waits for a person at {one.node_id} until {clock(one.deadline)}: {one.json_input[:200]} "
        f"— answer with: headgate control complete {shlex.quote(lifetime)} {one.execution_id} --approve"
        f"{place.as_options()}"
        for one in state.view.waiting
    ]


def pause_lines(place: Place, lifetime: str, again: str, state: LifetimeState) -> list[str]:
    """Return the commands that go on with a pause; `again` repeats the run.

    Raising the broken caps resumes what they have paused; any other pause is resumed.
    """
    view, where = state.view, place.as_options()
    name = shlex.quote(lifetime)
    raises = [
        f"  headgate control raise-budget{'' if _is_tenants(one) else f' {name}'} --policy {one.policy} "
        f"--rule {one.rule} --metric {_metric(one)} --value {_twice(one)}{where}"
        for one in (view.violations if view is not None else ())
        if one.metric and not one.expression
    ]
    return ["to go on:", *(raises or [f"  headgate control resume {name}{where}"]), f"  {again}"]


def _is_tenants(broken: GuardrailViolation) -> bool:
    return scope_word(broken.scope) == "tenant"


def _metric(broken: GuardrailViolation) -> str:
    return "cost_usd" if broken.metric.startswith("cost") else str(broken.metric)


def _twice(broken: GuardrailViolation) -> str:
    """Return a cap that lets the run go on for a while: twice the larger of limit and measured."""
    value = 2 * max(broken.limit, broken.measured)
    if broken.metric.startswith("cost"):
        return f"{value / 1e9:.9f}".rstrip("0").rstrip(".")
    return str(value)
