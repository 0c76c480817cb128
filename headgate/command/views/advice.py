"""Lines that tell a person what stopped a run and exactly what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from headgate.command.place import Place
from headgate.command.views.state import LifetimeState
from headgate.words import clock, scope_word, shortened, usd, violation_line
from headgate_protos.v1.control_pb2 import GuardrailViolation
from headgate_protos.v1.execution_pb2 import WaitingView


def ending_lines(state: LifetimeState) -> list[str]:
    """Return one line for each rule that stopped the run or a sub-graph of it, or the reason."""
    lines = _stop_lines(state)
    for name, below in state.below.items():
        if below.status == "paused":
            lines += [f"sub-graph {name}: {line}" for line in _stop_lines(below)]
    return lines


def _stop_lines(state: LifetimeState) -> list[str]:
    view = state.view
    if view is None or state.status in ("running", "completed"):
        return []
    if view.violations:
        return [f"stopped by {violation_line(broken)}" for broken in view.violations]
    return [f"{state.status}: {shortened(view.reason)}"] if view.reason else []


def frozen_lines(place: Place, frozen: Mapping[str, str]) -> list[str]:
    """Return one line for each freeze in force, by graph id ("" for all), with the command that thaws it."""
    return [
        f"frozen: {f'graph {graph}' if graph else 'everything of the tenant'}: {reason} "
        f"— go on with: headgate control resume {f'--graph {graph}' if graph else '--everything'}"
        f"{place.as_options()}"
        for graph, reason in frozen.items()
    ]


def quarantine_lines(place: Place, reason: str) -> list[str]:
    """Return the line about a quarantine in force, with the command that ends it; none without a reason."""
    if not reason:
        return []
    after = "after the gates have the fix, go on with"
    release = f"headgate control release{place.as_options()}"
    return [f"quarantined: the gate failed on a record of the tenant: {reason} — {after}: {release}"]


def held_lines(state: LifetimeState) -> list[str]:
    """Return a line when spend is held for work that nobody has reported on; it counts against the caps."""
    view = state.view
    if view is None or not view.open_holds:
        return []
    amounts = f"{usd(view.held.cost_nano_usd)} and {view.held.tokens_used:,} tokens"
    return [f"{amounts} are held still, for {view.open_holds} of its executions that may be spending"]


def waiting_lines(place: Place, lifetime: str, state: LifetimeState) -> list[str]:
    """Return one line for each person the run or a sub-graph waits for, with the command that answers."""
    return [
        waiting_line(place, name, waiting)
        for name, one in {lifetime: state, **state.below}.items()
        if one.view is not None and one.status in ("running", "paused")
        for waiting in one.view.waiting
    ]


def waiting_line(place: Place, lifetime: str, waiting: WaitingView) -> str:
    """Return one line for one person that is waited for."""
    asked = f"at {waiting.node_id} until {clock(waiting.deadline)}: {waiting.json_input[:200]}"
    return f"waits for a person {asked} — answer with: {answer_command(place, lifetime, waiting)}"


def answer_command(place: Place, lifetime: str, waiting: WaitingView) -> str:
    """Return the command that says yes to a person's task; --reject and --answer say something else."""
    name = shlex.quote(lifetime)
    return f"headgate control complete {name} {waiting.execution_id} --approve{place.as_options()}"


def pause_lines(place: Place, lifetime: str, again: str, state: LifetimeState) -> list[str]:
    """Return the commands that go on with a pause; `again` repeats the run.

    Raising the broken caps resumes what they have paused; any other pause is resumed.
    """
    paused = {name: one for name, one in {lifetime: state, **state.below}.items() if one.status == "paused"}
    lines = [line for name, one in paused.items() for line in _go_on_lines(place, name, one)]
    return ["to go on:", *dict.fromkeys(lines), f"  {again}"]


def _go_on_lines(place: Place, lifetime: str, state: LifetimeState) -> list[str]:
    view, where = state.view, place.as_options()
    name = shlex.quote(lifetime)
    raises = [
        f"  headgate control raise-budget{'' if _is_tenants(one) else f' {name}'} --policy {one.policy} "
        f"--rule {one.rule} --metric {_metric(one)} --value {_twice(one)}{where}"
        for one in (view.violations if view is not None else ())
        if one.metric and not one.expression
    ]
    return raises or [f"  headgate control resume {name}{where}"]


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
