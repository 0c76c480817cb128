"""The checker is checked: a real system with a deliberate bug fails it, and passes it without the bug."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headgate_guardrails.fold.turn import PLAN_INPUTS, TASK_INPUTS, Output
from headgate_guardrails.gate import Gate
from headgate_resilience.check import Verdict
from headgate_streams.settings import StreamSettings
from headgate_workers.intake import Intake
from tests.e2e.semantics import BILL, LIMITS, Run, graph, visits
from tests.e2e.stage import PARTITIONS, staged
from tests.integration.resilience.systems import (
    append_again,
    checked,
    running,
    tenant_of,
    wait_until_committed,
)
from tests.support import eventually
from tests.unit.guardrails.properties.mutations import (
    dispatch_after_abort,
    double_settle,
    join_fires_again,
    join_forgets_its_visit,
)

ACME, GLOBEX = "acme", "globex"
SLOW = {"type": "slow"}


# -- the bugs ----------------------------------------------------------------------------------------


def commit_is_dropped_on_the_floor(patch: pytest.MonkeyPatch) -> None:
    """A worker commits what it has read and not done."""
    before = Intake._open

    def open_(self: Intake, record: Any, share: Any) -> Any:
        work = before(self, record, share)
        if work is not None:
            share.settle(record.offset)
        return work

    patch.setattr(Intake, "_open", open_)


def gate_forgets_an_output(patch: pytest.MonkeyPatch) -> None:
    """A gate commits beyond a record although an input that it led to was never written."""
    before = Gate._append
    forgotten: list[Any] = []

    def append(self: Gate, output: Any) -> None:
        if output.topic == TASK_INPUTS and not forgotten:
            forgotten.append(output)
        else:
            before(self, output)

    patch.setattr(Gate, "_append", append)


def tenant_is_mixed_up(patch: pytest.MonkeyPatch) -> None:
    """What one tenant's plan must decide is given to another tenant."""
    before = Gate._append

    def append(self: Gate, output: Output) -> None:
        if output.topic == PLAN_INPUTS and output.tenant_id == ACME:
            message = output.kind.FromString(output.value)
            message.tenant_id = GLOBEX
            output = Output(output.topic, output.key, GLOBEX, output.kind, message, None, output.queue)
        before(self, output)

    patch.setattr(Gate, "_append", append)


# -- what the systems do -------------------------------------------------------------------------------


def worker_dies_with_work(settings: StreamSettings, *, is_broken: bool) -> None:
    """A worker is stopped while it works; the next one finds the work, or should."""
    with staged(settings) as stage:
        run = tenant_of(stage, ACME, graph("t normal p", "p final", t=SLOW))
        run.start("x")
        run.begins("t")
        if is_broken:
            wait_until_committed(run, "t", "task-workers")
    with running(settings) as stage:
        again = Run(stage, ACME)
        again.open()
        again.start("y", "second", graph="g")
        again.ends("completed", "second")
        if not is_broken:
            again.ends("completed")


def result_comes_twice(settings: StreamSettings, *, is_broken: bool) -> None:
    """A result that has been paid is in the log a second time."""
    looping = graph(
        "p normal t", "t normal p", "p final", p=visits("t", "end"), t={"limits": LIMITS, "does": BILL}
    )
    with running(settings) as stage:
        run = tenant_of(stage, ACME, looping)
        run.start("x")
        run.ends("completed")
        append_again(run, "t")
        run.barrier()


def branch_comes_late(settings: StreamSettings, *, is_broken: bool) -> None:
    """A branch arrives at a join that has gone on without it."""
    joining = graph(
        "p parallel ta,tb",
        "ta,tb join j",
        "j normal tz",
        "tz normal q",
        "q final",
        p=visits("ta,tb"),
        j={"join": {"strategy": "any"}},
        tb=SLOW,
        tz=SLOW,
    )
    with running(settings) as stage:
        run = tenant_of(stage, ACME, joining)
        run.start("x")
        run.begins("tz")
        run.open("tb")
        run.waits_until(lambda: run.results("tb"))
        run.barrier()
        run.open()
        run.ends("completed")


def fork_is_visited_twice(settings: StreamSettings, *, is_broken: bool) -> None:
    """A loop comes to a fork and its join a second time."""
    looping = graph(
        "p parallel ta,tb",
        "ta,tb join j",
        "j normal tz",
        "tz normal p",
        "p final",
        p=visits("ta,tb", "ta,tb", "end"),
    )
    with running(settings) as stage:
        run = tenant_of(stage, ACME, looping)
        run.start("x")
        eventually(lambda: (view := run.view()) and view.ended_at.seconds)


def abort_meets_held_back_work(settings: StreamSettings, *, is_broken: bool) -> None:
    """A lifetime is aborted while a pause holds its next step back."""
    with running(settings) as stage:
        run = tenant_of(stage, ACME, graph("t normal p", "p final", t=SLOW))
        run.start("x")
        run.begins("t")
        run.pause()
        run.open()
        run.waits_until(lambda: run.results("t"))
        run.barrier()
        run.abort()
        run.ends("aborted", settled=False)
        run.barrier()


def two_tenants_work(settings: StreamSettings, *, is_broken: bool) -> None:
    """Two tenants run the same graph with inputs of their own."""
    with running(settings) as stage:
        runs = [tenant_of(stage, tenant, graph("t normal p", "p final")) for tenant in (ACME, GLOBEX)]
        for run in runs:
            run.start({"secret": f"canary-{run.tenant}-4711"}, f"run-of-{run.tenant}")
        runs[1].ends("completed", "run-of-globex")
        if is_broken:
            runs[0].waits_until(lambda: runs[0].dispatched("t", "run-of-acme"))
            runs[0].waits_until(lambda: runs[0].results("t", "run-of-acme"))
        else:
            runs[0].ends("completed", "run-of-acme")


def one_run(settings: StreamSettings, *, is_broken: bool) -> None:
    """One lifetime takes two steps."""
    with running(settings) as stage:
        run = tenant_of(stage, ACME, graph("t normal p", "p final"))
        run.start("x")
        if is_broken:
            run.barrier()
        else:
            run.ends("completed")


@dataclass(frozen=True)
class Bug:
    """A bug, a system that meets it, and the invariants that must be found broken."""

    plant: Callable[[pytest.MonkeyPatch], None]
    system: Callable[..., None]
    caught_by: tuple[str, ...]


BUGS = (
    Bug(commit_is_dropped_on_the_floor, worker_dies_with_work, ("I1", "I10")),
    Bug(gate_forgets_an_output, one_run, ("I1", "I11")),
    Bug(double_settle, result_comes_twice, ("I3",)),
    Bug(join_fires_again, branch_comes_late, ("I6",)),
    Bug(join_forgets_its_visit, fork_is_visited_twice, ("I6",)),
    Bug(dispatch_after_abort, abort_meets_held_back_work, ("I4",)),
    Bug(tenant_is_mixed_up, two_tenants_work, ("I1", "I9")),
)
"""The five of the issue and two more of their kinds."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_deliberate_bug_is_seen_in_the_log_of_a_real_system(bug: Bug, tmp_path: Path) -> None:
    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix="broken")
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        bug.system(settings, is_broken=True)
    report = checked(settings)
    broken = [name for name, one in report.invariants.items() if one.verdict is Verdict.FAIL]
    print("\n".join(report.lines()))
    assert set(bug.caught_by) <= set(broken), f"{bug.caught_by} expected, {broken} found"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.system.__name__)
def test_the_same_system_without_the_bug_has_no_violation(bug: Bug, tmp_path: Path) -> None:
    settings = StreamSettings.read(local=tmp_path, partitions=PARTITIONS, topic_prefix="sound")
    bug.system(settings, is_broken=False)
    report = checked(settings)
    assert not report.violated, "\n".join(report.lines())
