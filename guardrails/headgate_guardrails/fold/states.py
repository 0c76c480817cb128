"""The state machines: every change of status that there is, and why. The fold moves lifetimes by them.

`python -m headgate_guardrails.fold.states` prints the page docs/states.md, which `make docs` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from headgate_protos.v1 import common_pb2 as pb

if TYPE_CHECKING:
    from headgate_guardrails.fold.lifetime import Lifetime

NOTHING = "[*]"
"""What it is before it begins, as Mermaid writes it; and after its end."""


class Transition(NamedTuple):
    """One change that may happen: statuses of the wire in upper case, in lower case what the gate knows."""

    source: str
    target: str
    causes: str


LIFETIME = (
    Transition(NOTHING, "RUNNING", "a start, or a task of type `graph`"),
    Transition(NOTHING, "REJECTED", "a start of a graph that is not registered, or a stale one"),
    Transition("RUNNING", "PAUSED", "a rule, an operator, a usage that cannot be"),
    Transition("RUNNING", "COMPLETED", "a final edge, or nothing left to do"),
    Transition("RUNNING", "FAILED", "a plan failed, no edge for a failure, a join with too few"),
    Transition("RUNNING", "ABORTED", "a rule, an operator, the deadline, the end of the lifetime above"),
    Transition("PAUSED", "RUNNING", "an operator resumes it, or raises the cap that paused it"),
    Transition("PAUSED", "COMPLETED", "what was in flight took a final edge, or was the last there was"),
    Transition("PAUSED", "FAILED", "what was in flight failed for good, a join with too few"),
    Transition(
        "PAUSED", "ABORTED", "its ttl, a rule, an operator, the deadline, the end of the lifetime above"
    ),
)
"""A lifetime's. COMPLETED, FAILED, ABORTED and REJECTED are final."""

EXECUTION = (
    Transition(NOTHING, "held", "a pause or a freeze, a rule that pauses or throttles, no room, a back-off"),
    Transition(NOTHING, "PENDING", "admitted: its hold is reserved, its input dispatched"),
    Transition(NOTHING, "REJECTED", "a rule says so"),
    Transition(NOTHING, "dropped", "the lifetime ended before it was dispatched"),
    Transition("held", "PENDING", "admitted after a resume, a delay, or when there is room"),
    Transition("held", "REJECTED", "a rule says so when it is asked again"),
    Transition("held", "dropped", "the lifetime ended, or its branch lost at a join"),
    Transition("PENDING", "RUNNING", "a worker announces its run (leased work)"),
    Transition("PENDING", "COMPLETED", "a result; a person's answer; the end of a sub-graph"),
    Transition("PENDING", "FAILED", "a failed result; no person in time; a sub-graph that did not complete"),
    Transition("PENDING", "REJECTED", "a rule withholds the result"),
    Transition("PENDING", "ABORTED", "the lifetime ended, or its branch lost at a join"),
    Transition("PENDING", "lost", "nobody reported in time, or its worker gave it back or up"),
    Transition("RUNNING", "COMPLETED", "a result"),
    Transition("RUNNING", "FAILED", "a failed result, or it outlived its timeout"),
    Transition("RUNNING", "REJECTED", "a rule withholds the result"),
    Transition("RUNNING", "ABORTED", "the lifetime ended, or its branch lost at a join"),
    Transition("RUNNING", "lost", "its lease ran out, or its worker gave it back or up"),
)
"""An execution's, which is one try at one visit to a node: a retry is another execution with its own id."""

_PREFIX = "LIFETIME_STATUS_"
_ALLOWED = frozenset(
    (
        0 if one.source == NOTHING else pb.LifetimeStatus.Value(_PREFIX + one.source),
        pb.LifetimeStatus.Value(_PREFIX + one.target),
    )
    for one in LIFETIME
)


def move(lifetime: Lifetime, status: int) -> None:
    """Give a lifetime its next status; raises RuntimeError when it cannot come after the one it has."""
    if (lifetime.status, status) not in _ALLOWED:
        raise RuntimeError(
            f"lifetime {lifetime.lifetime_id} cannot go from {_word(lifetime.status)} to {_word(status)}"
        )
    lifetime.status = status


def _word(status: int) -> str:
    name = pb.LifetimeStatus.DESCRIPTOR.values_by_number.get(status)
    return name.name.removeprefix(_PREFIX) if name is not None else str(status)


def ends(table: Iterable[Transition]) -> list[str]:
    """Return the states after which nothing comes, in the table's order."""
    sources = {one.source for one in table}
    return list(dict.fromkeys(one.target for one in table if one.target not in sources))


def _picture(table: tuple[Transition, ...]) -> str:
    lines = [f"    {one.source} --> {one.target}" for one in table]
    lines += [f"    {state} --> {NOTHING}" for state in ends(table)]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _table(name: str, table: tuple[Transition, ...]) -> str:
    lines = [f"| {_cell(one.source)} | {_cell(one.target)} | {one.causes} |" for one in table]
    return "\n".join(
        [f"<!-- table: states {name} -->", "| from | to | because of |", "|---|---|---|", *lines]
    )


def _cell(state: str) -> str:
    return "nothing" if state == NOTHING else f"`{state}`"


def page() -> str:
    """Return docs/states.md."""
    return f"""# State machines

Made by `make docs` from `guardrails/headgate_guardrails/fold/states.py`; do not edit.
What is not in a table cannot happen: the gate moves a lifetime by the first one and stops when it is asked
for anything else, and the tests of the fold reach every line of both.

## A lifetime

{_picture(LIFETIME)}

{_table("LIFETIME", LIFETIME)}

{_listed(ends(LIFETIME))} are final. A lifetime that was refused (`REJECTED`) never began:
all there is of it is its answer on the topic `lifetimes`. An ended one is kept whole until its last hold
is closed, and at least five minutes, then as a tombstone for a day, so that a start that is read twice
runs once.

## An execution

One try at one visit to a node. A retry, and what is dispatched anew because it was `lost`, is another
execution with an id of its own.

{_picture(EXECUTION)}

{_table("EXECUTION", EXECUTION)}

States in lower case are known to the gate alone: nothing was dispatched that is `held` or `dropped`, and what
is `lost` is dispatched anew as long as its visit may be tried.
{_listed(ends(EXECUTION))} are final for the execution, not for
its money: a run that is still out keeps its hold, as an orphan, until it reports or its grace is over.
"""


def _listed(states: list[str]) -> str:
    return ", ".join(f"`{state}`" for state in states[:-1]) + f" and `{states[-1]}`"


if __name__ == "__main__":
    print(page(), end="")
