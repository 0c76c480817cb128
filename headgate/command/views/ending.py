"""What a run says when it is over: outcome, spend per node, the rule that stopped it, how to go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from headgate.command.faults import ExitCode
from headgate.command.place import Place
from headgate.command.printing import message_to_dict, say, say_json, say_table
from headgate.command.views.advice import ending_lines, held_lines, pause_lines
from headgate.command.views.caps import caps_of
from headgate.command.views.state import LifetimeState
from headgate.command.views.tables import SPEND_COLUMNS, SPEND_NUMBERS, spend_rows
from headgate.running import Run

SHOWN_OUTCOME = 2_000
"""Characters of the outcome that are shown to people; `--json` has all of it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and the command that repeats it."""

    place: Place
    run: Run
    state: LifetimeState
    value: Any
    code: ExitCode
    again: str


def say_ending(ending: Ending) -> None:
    """Tell people, or scripts."""
    if ending.place.json:
        say_json(ending_json(ending))
        return
    state = ending.state
    say_table(SPEND_COLUMNS, spend_rows(state), right=SPEND_NUMBERS)
    for line in outcome_lines(ending.value):
        say(line)
    is_below = ending.code is ExitCode.PAUSED and state.status == "running"
    say(f"{ending.run.lifetime_id}: {'PAUSED in its sub-graphs' if is_below else state.status.upper()}")
    for line in (*ending_lines(state), *held_lines(state), *_what_next(ending)):
        say(line)


def ending_json(ending: Ending) -> dict[str, Any]:
    """Return the ending as plain data: the same facts, whole."""
    state, run = ending.state, ending.run
    return {
        "lifetime_id": run.lifetime_id,
        "tenant": run.tenant,
        "status": state.status,
        "exit_code": int(ending.code),
        "reason": state.view.reason if state.view is not None else "",
        "outcome": ending.value,
        "spent": asdict(state.settled_total()),
        "nodes": {node: asdict(spend) for node, spend in state.settled().items()},
        "held": message_to_dict(state.view.held) if state.view is not None else {},
        "caps": [asdict(cap) for cap in caps_of(run.policies, state)],
        "violations": [
            message_to_dict(one) for one in (state.view.violations if state.view is not None else ())
        ],
        "next": [line.strip() for line in _what_next(ending)],
    }


def _what_next(ending: Ending) -> list[str]:
    match ending.code:
        case ExitCode.PAUSED:
            return pause_lines(ending.place, ending.run.lifetime_id, ending.again, ending.state)
        case ExitCode.UNFINISHED:
            return [f"not at its end yet; go on with: {ending.again}"]
        case _:
            return []


def outcome_lines(value: Any) -> list[str]:
    """Return the outcome for people: an object field by field, text with its lines, each value capped."""
    if value is None:
        return []
    if not isinstance(value, dict):
        return _field("outcome", value, "")
    return ["outcome:", *(line for name, inner in value.items() for line in _field(str(name), inner, "  "))]


def _field(name: str, value: Any, indent: str) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    rest = f"… ({len(text):,} characters)" if len(text) > SHOWN_OUTCOME else ""
    lines = text[:SHOWN_OUTCOME].splitlines() or [""]
    if len(lines) == 1:
        return [f"{indent}{name}: {lines[0]}{rest}"]
    return [f"{indent}{name}:", *(f"{indent}  {line}" for line in lines), *([indent + rest] if rest else [])]
