"""The catalog's tables. All begin with `headgate_`, as the database may hold other things.

Positions and rows are written in one transaction, so the rows are exactly what the log holds up to the
positions. Keys are the log's own (run ids, sources of outputs), so a record that comes twice changes nothing.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

SCHEMA_VERSION: Final = 1
"""Of these tables; another one is refused, and made anew by a rebuild."""
OWN_RECORD: Final = -1
"""As `source_index`: the record of the log itself, not an output that the gate made from it."""

METADATA: Final = MetaData()


def _table(name: str, *columns: Column[object] | Index) -> Table:
    return Table(f"headgate_{name}", METADATA, *columns, sqlite_with_rowid=False)


def _text(name: str, *, key: bool = False) -> Column[object]:
    return Column(name, Text, primary_key=key, nullable=False, default=None if key else "")


def _number(name: str, *, key: bool = False, nullable: bool = False) -> Column[object]:
    # autoincrement would make a sequence of a key's only number.
    return Column(name, BigInteger, primary_key=key, nullable=nullable, autoincrement=False)


CATALOG: Final = _table("catalog", _text("name", key=True), _text("value"))
"""What this is a catalog of: schema_version, log (what its topics begin with)."""

POSITIONS: Final = _table(
    "positions",
    _text("topic", key=True),
    _number("partition", key=True),
    _number("next_offset"),
    _text("topic_id"),
    _number("as_of_ms"),
)
"""Up to where each partition has been projected, and the log time of its newest record, 0 for none."""

LIFETIMES: Final = _table(
    "lifetimes",
    _text("tenant_id", key=True),
    _text("lifetime_id", key=True),
    _text("graph_id"),
    _text("graph_version"),
    _text("status"),
    _text("reason"),
    _text("parent_lifetime_id"),
    _text("parent_execution_id"),
    _number("started_ms"),
    _number("updated_ms"),
    _number("ended_ms", nullable=True),
    _number("cost_nano_usd"),
    _number("tokens_used"),
    _number("latency_ms"),
    _number("is_closed"),
    _number("source_offset"),
    _number("source_index"),
    Column("view", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=True),
    Index("headgate_lifetimes_below", "tenant_id", "parent_lifetime_id"),
)
"""The newest view of each lifetime: settled spend with that of its sub-graphs, is_closed when it is final.
`view` is the LifetimeView without what users put into it, `content` the rest of it: outcome and questions."""

LEDGER: Final = _table(
    "ledger",
    _text("tenant_id", key=True),
    _text("lifetime_id", key=True),
    _text("node_id", key=True),
    _number("visits"),
    _number("cost_nano_usd"),
    _number("tokens_used"),
    _number("input_tokens"),
    _number("output_tokens"),
    _number("cached_tokens"),
    _number("latency_ms"),
)
"""What the newest view says that each node has spent, without what sub-graphs below it have."""

EXECUTIONS: Final = _table(
    "executions",
    _text("tenant_id", key=True),
    _text("lifetime_id", key=True),
    _text("execution_id", key=True),
    _text("node_id"),
    _text("node_type"),
    Column("iteration", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    _text("parent_execution_id"),
    _text("upstream_execution_ids"),
    _text("queue"),
    _text("status"),
    _text("error_code"),
    _text("run_id"),
    _number("dispatched_ms", nullable=True),
    _number("started_ms", nullable=True),
    _number("ended_ms", nullable=True),
    _number("ended_order", nullable=True),
)
"""Every attempt at a visit to a node; the upstream ids joined by commas; `run_id` of the run whose result
came first. All times are the log's. `ended_order` is twice the offset of what ended it, plus one for the
gate's event."""

RUNS: Final = _table(
    "runs",
    _text("tenant_id", key=True),
    _text("lifetime_id", key=True),
    _text("run_id", key=True),
    _text("execution_id"),
    _text("node_id"),
    _text("model"),
    _number("log_offset"),
    _number("when_ms"),
    _number("cost_nano_usd"),
    _number("tokens_used"),
    _number("input_tokens"),
    _number("output_tokens"),
    _number("cached_tokens"),
    _number("latency_ms"),
    _number("is_unpriced"),
    _number("result_bytes"),
    Index("headgate_runs_when", "tenant_id", "when_ms"),
)
"""The first report of each run: a run is paid once, whether or not its result was accepted."""

HAPPENINGS: Final = _table(
    "happenings",
    _text("tenant_id", key=True),
    _text("lifetime_id", key=True),
    _number("log_offset", key=True),
    Column("source_index", Integer, primary_key=True, autoincrement=False),
    _number("when_ms"),
    _text("kind"),
    Column("message", LargeBinary, nullable=False),
    Index("headgate_happenings_when", "tenant_id", "when_ms"),
)
"""All that a timeline shows, in the order in which the gate saw it: records of the log, and outputs behind
the record they were made from. `lifetime_id` is empty for what concerns a graph or the whole tenant. `kind`
names the message's type; what users put into it is left out."""

CONTROL_EVENTS: Final = _table(
    "control_events",
    _text("tenant_id", key=True),
    _number("log_offset", key=True),
    Column("source_index", Integer, primary_key=True, autoincrement=False),
    _text("lifetime_id"),
    _text("graph_id"),
    _text("kind"),
    _text("execution_id"),
    _text("node_id"),
    _text("policy"),
    _text("rule"),
    _number("measured"),
    _number("cap"),
    _number("is_shadow"),
    _text("command_id"),
    _text("reason"),
    _number("when_ms"),
)
"""Every control event; policy, rule, measured and cap (wire units) are of the strongest rule it names."""
