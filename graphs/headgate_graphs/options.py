"""Keyword arguments of `builder`: the fields of nodes' and joins' configurations, for editors and mypy.

The values are checked by the definitions in `model`; a test holds both to the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypedDict

from headgate_graphs.model import JoinConfiguration, NodeLimits, RoutingRule

Duration = str | int | float
"""As "500ms", "30s", "1h30m", or a number of seconds."""


class LimitOptions(TypedDict, total=False):
    """Fields of NodeLimits."""

    tokens_used: int
    cost_usd: str | Decimal


class JoinOptions(TypedDict, total=False):
    """Fields of JoinConfiguration."""

    strategy: Literal["all", "any", "majority", "quorum"]
    min_inputs: int
    max_inputs: int
    timeout: Duration
    on_timeout: Literal["proceed", "fail"]
    late: Literal["drop", "record"]
    cancel_losers: bool


class NodeOptions(TypedDict, total=False):
    """Fields of NodeConfiguration."""

    timeout: Duration
    max_retries: int
    backoff: Duration
    max_backoff: Duration
    queue: str
    limits: NodeLimits | LimitOptions
    leased: bool
    params: Mapping[str, Any]


class TaskOptions(NodeOptions, total=False):
    """Fields of TaskConfiguration."""

    effects: Literal["none", "external"]
    reminder: Duration


class PlanOptions(NodeOptions, total=False):
    """Fields of PlanConfiguration."""

    rules: Sequence[RoutingRule]
    default: Sequence[str]
    join: JoinConfiguration | JoinOptions
