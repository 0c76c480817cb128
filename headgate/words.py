"""Wire values as people read them: statuses, money, tokens, times, broken rules. Used by every view."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from headgate_graphs.units import format_duration
from headgate_protos.v1.common_pb2 import ExecutionStatus, LifetimeStatus
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent, GuardrailViolation, PolicyScope
from headgate_protos.v1.execution_pb2 import ForkOrigin

TERMINAL = frozenset({"completed", "failed", "aborted", "rejected"})
"""Statuses after which a lifetime does nothing more."""
MONEY_METRIC = "cost_usd"
"""The one metric whose wire unit (nano-USD) is not what people write (USD)."""

SHOWN_ID = 10
"""Characters of a sub-graph's id that tell it from its siblings."""
SHOWN_WHY = 240
"""Characters of an error or a reason that are shown to people."""


def status_word(status: int) -> str:
    """Return "running", "paused", … for a LifetimeStatus."""
    return str(LifetimeStatus.Name(status)).removeprefix("LIFETIME_STATUS_").lower()


def execution_word(status: int) -> str:
    """Return "pending", "completed", … for an ExecutionStatus."""
    return str(ExecutionStatus.Name(status)).removeprefix("EXECUTION_STATUS_").lower()


def control_word(kind: int) -> str:
    """Return "PAUSE_LIFETIME", … for a ControlType."""
    return str(ControlType.Name(kind)).removeprefix("CONTROL_TYPE_")


def frozen_word(event: ExecutionEvent) -> str:
    """Return what an event without a lifetime is about."""
    return f"graph {event.graph_id}" if event.graph_id else "everything of the tenant"


def event_words(event: ExecutionEvent) -> str:
    """Return why a control event was published, where no rule that it names says it."""
    if event.type == ControlType.CONTROL_TYPE_QUARANTINE_TENANT:
        return f"the gate failed on a record of the tenant: {event.reason}"
    if event.type == ControlType.CONTROL_TYPE_RELEASE_TENANT:
        return f"the tenant goes on: {event.reason}"
    return event.reason if event.lifetime_id else f"{frozen_word(event)}: {event.reason}"


def scope_word(scope: int) -> str:
    """Return "execution", "lifetime" or "tenant"."""
    return str(PolicyScope.Name(scope)).removeprefix("POLICY_SCOPE_").lower()


def usd(nano: int) -> str:
    """Return nano-USD as dollars: cents at least, more decimals only where they say something."""
    text = f"{nano / 1e9:.6f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"${whole}.{fraction:0<2}"


def nested(node: str, lifetime_id: str, depth: int) -> str:
    """Return a node's name as it stands among those of the lifetimes above it: which sub-graph, indented."""
    return f"{'  ' * depth}{lifetime_id[:SHOWN_ID]}/{node}" if depth else node


def shortened(text: str, most: int = SHOWN_WHY) -> str:
    """Return `text` cut to what a line of a table can bear; `--json` has all of it."""
    return text if len(text) <= most else text[:most] + "…"


def fork_words(origin: ForkOrigin) -> str:
    """Return what a lifetime was forked from."""
    return f"forked from {origin.lifetime_id} at offset {origin.offset}"


def amount(metric: str, value: int) -> str:
    """Return a metric's value in the unit people write: USD, a duration for wall time, a grouped number."""
    if metric == "wall_time_ms":
        return format_duration(value)
    return usd(value) if metric.startswith("cost") else f"{value:,}"


def metric_word(metric: str) -> str:
    """Return a metric as tables name it, whose values bear their unit: cost, wall_time, tokens_used, …."""
    return "cost" if metric.startswith("cost") else "wall_time" if metric == "wall_time_ms" else metric


def clock(when: Timestamp | int) -> str:
    """Return HH:MM:SS.mmm, local time, of a Timestamp or Unix milliseconds."""
    return _local(when).strftime("%H:%M:%S.%f")[:-3]


def moment(when: Timestamp | int) -> str:
    """Return ISO 8601 in UTC with milliseconds."""
    return _local(when).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def millis(when: Timestamp) -> int:
    """Return Unix milliseconds."""
    return int(when.seconds * 1000 + when.nanos // 1_000_000)


def violation_line(broken: GuardrailViolation) -> str:
    """Return one line: the rule, where it stands, the measured value and the limit."""
    rule = (
        f"rule {broken.rule} of policy {broken.policy} v{broken.version} ({scope_word(broken.scope)} scope)"
    )
    if not broken.metric:
        return f"{rule}: {broken.expression or broken.action}"
    parts = f"committed {amount(broken.metric, broken.committed)}, held {amount(broken.metric, broken.held)}"
    asked = f", asked {amount(broken.metric, broken.requested)}" if broken.requested else ""
    measured, limit = amount(broken.metric, broken.measured), amount(broken.metric, broken.limit)
    return f"{rule}: {broken.metric} {measured} against the limit {limit} ({parts}{asked})"


def _local(when: Timestamp | int) -> datetime:
    ms = when if isinstance(when, int) else millis(when)
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone()
