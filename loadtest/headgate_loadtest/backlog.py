"""Builds a backlog while nothing serves, then starts gate and workers and watches it drain."""

from __future__ import annotations

import secrets

from headgate_loadtest.checking import check
from headgate_loadtest.installation import Installation
from headgate_loadtest.lab import How
from headgate_loadtest.load import Bounds, Progress, run_load
from headgate_loadtest.processes import embedded, started
from headgate_loadtest.result import LoadResult
from headgate_loadtest.scenario import Scenario, altered
from headgate_streams.settings import StreamSettings

_DRAIN_S = 1_800.0
"""A backlog may take half an hour at least."""


def drain_backlog(
    settings: StreamSettings, scenario: Scenario, runs: int, how: How, progress: Progress
) -> LoadResult:
    """Return what the drain gave; the response times are those of a queue, so they say when each was done."""
    built = altered(
        scenario, name="backlog", rate=50_000, duration=f"{-(-runs // 50)}ms", arrivals="constant"
    )
    bounds = Bounds(max(how.bounds.drain_s, _DRAIN_S))
    settings = settings.model_copy(update={"topic_prefix": f"load-{secrets.token_hex(3)}"})
    with Installation(settings) as installation:
        installation.create_topics()
        serves = (
            embedded(installation, how.crew.concurrency)
            if how.embedded or settings.in_memory
            else started(settings, how.crew, how.logs)
        )
        result, acknowledged = run_load(installation, serves, built, bounds, progress)
        if how.check:
            check(installation, result, acknowledged)
    result.faults = [one for one in result.faults if "the sender lagged" not in one]
    return result
