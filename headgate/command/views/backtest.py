"""A backtest as people see it: verdicts by rule, spend, and the runs that would have been stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.command.printing import say, say_table

if TYPE_CHECKING:
    from headgate_replay.backtest import BacktestReport

SHOWN = 20
"""Runs that are shown; the JSON has more."""


def say_backtest(report: BacktestReport) -> None:
    """Write the report."""
    names = [side.name for side in report.sides]
    rows = list(report.rows())
    if rows:
        say_table(("rule", "verdict", *names), rows, right=names)
    else:
        say("no rule said anything, on any side")
    spent = [f"${side.spent.cost_nano_usd / 1e9:,.4f}" for side in report.sides]
    tokens = [f"{side.spent.tokens:,}" for side in report.sides]
    say_table(("", *names), [("spent", *spent), ("tokens", *tokens)], right=names)
    for side in report.drafts:
        saved = report.saved(side)
        say(f"{side.name}: saves ${saved.cost_nano_usd / 1e9:,.4f} and {saved.tokens:,} tokens")
        for rule, usage in sorted(side.saved_by.items()):
            say(f"  by {rule}: ${usage.cost_nano_usd / 1e9:,.4f} and {usage.tokens:,} tokens")
        if side.unlived:
            say(f"  {side.unlived:,} executions would have been dispatched that were not: no result is known")
        if side.wrongly_stopped:
            say(f"  {side.wrongly_stopped:,} runs that completed would have been stopped:")
        for one in side.named[:SHOWN]:
            stop = one.stop
            run = f"{one.tenant_id}/{one.lifetime_id}"
            say(f"    {run}: {stop.verdict} at record {stop.offset} by {stop.rule}")
    say(f"{report.records:,} records, {report.cpu_seconds:,.1f} s of CPU time, no handler called")
