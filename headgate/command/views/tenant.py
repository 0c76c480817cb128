"""Lines of `status` without a lifetime: a tenant's overview, and its stop latencies as a small histogram."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from headgate.command.place import Place
from headgate.command.printing import message_to_dict
from headgate.command.views.advice import frozen_lines, quarantine_lines, waiting_line
from headgate.overview import Latencies, Overview
from headgate.words import moment, shortened, usd

BAR = 30
"""Characters of the longest bar."""


def overview_lines(place: Place, made: Overview, running: Mapping[str, int | None]) -> Iterator[str]:
    """Yield the overview, a line for each thing there is."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(made.statuses.items()))
    below = f" ({made.below} of them sub-graphs)" if made.below else ""
    yield f"tenant {made.tenant_id}: {counts or 'no lifetime yet'}{below}"
    if made.quarantine is not None:
        since = f"since {moment(made.quarantine.since_ms)}"
        yield from (f"{line} ({since})" for line in quarantine_lines(place, made.quarantine.reason))
    today = made.spent_today
    yield f"spent today (UTC): {usd(today.cost_nano_usd)}, {today.tokens_used:,} tokens in {today.runs} runs"
    known = {what: count for what, count in running.items() if count is not None}
    if known:
        yield "running: " + ", ".join(f"{count} {what}" for what, count in known.items())
    by = {one.graph_id: f"{one.reason or 'no reason given'} (by {one.by})" for one in made.frozen}
    yield from frozen_lines(place, by)
    for one in made.waiting:
        yield f"{one.view.lifetime_id} {waiting_line(place, one.view.lifetime_id, one.waiting)}"
    for view in made.paused:
        name = shlex.quote(view.lifetime_id)
        see = f"headgate status {name}{place.as_options()}"
        yield f"paused: {view.lifetime_id}: {shortened(view.reason)} — see: {see}"
    yield from latency_lines(made.latencies)


def latency_lines(latencies: Latencies) -> Iterator[str]:
    """Yield how long what was ended took to stop: three figures and a bar for each bucket in between."""
    count = len(latencies.values_ms)
    if not count:
        return
    p50, p99, longest = (latencies.percentile(percent) for percent in (50, 99, 100))
    yield f"stop latency of {count} lifetimes: p50 {p50:,} ms, p99 {p99:,} ms, max {longest:,} ms"
    buckets = latencies.histogram()
    most = max(found for _, found in buckets)
    filled = [number for number, (_, found) in enumerate(buckets) if found]
    for edge, found in buckets[filled[0] : filled[-1] + 1]:
        label = f"≤ {edge:,} ms" if edge is not None else "longer"
        yield f"  {label:>10}  {'█' * -(-found * BAR // most)} {found}"


def overview_data(made: Overview, running: Mapping[str, int | None]) -> dict[str, Any]:
    """Return the overview as plain data."""
    latencies = made.latencies
    return {
        "tenant": made.tenant_id,
        "lifetimes": made.statuses,
        "sub_graphs": made.below,
        "spent_today": made.spent_today._asdict(),
        "running": dict(running),
        "quarantined": (
            {"reason": made.quarantine.reason, "since": moment(made.quarantine.since_ms)}
            if made.quarantine is not None
            else None
        ),
        "frozen": [asdict(one) | {"since": moment(one.since_ms)} for one in made.frozen],
        "waiting": [
            {"lifetime_id": one.view.lifetime_id} | message_to_dict(one.waiting) for one in made.waiting
        ],
        "paused": [{"lifetime_id": one.lifetime_id, "reason": one.reason} for one in made.paused],
        "stop_latency_ms": {
            "count": len(latencies.values_ms),
            **{f"p{percent}": latencies.percentile(percent) for percent in (50, 99)},
            "max": latencies.percentile(100),
            "histogram": [{"up_to": edge, "count": found} for edge, found in latencies.histogram()],
        },
    }
