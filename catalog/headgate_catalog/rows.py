"""Turns records into rows of the catalog's tables, a batch at a time. Pure; what comes twice counts once."""

from __future__ import annotations

from typing import Any, Final

from headgate_catalog.happening import Happening, place_of, read_happening
from headgate_catalog.spend import AMOUNTS, MAX_RUN_ID, has_begun, is_closed, run_of
from headgate_catalog.stripping import TYPES, content_of, stripped
from headgate_catalog.tables import OWN_RECORD
from headgate_graphs.ids import is_name
from headgate_protos.v1.common_pb2 import ExecutionHeaders, ExecutionStatus, LifetimeStatus
from headgate_protos.v1.control_pb2 import ControlType, ExecutionEvent
from headgate_protos.v1.execution_pb2 import ExecutionStarted, LifetimeView
from headgate_protos.v1.plan_pb2 import PlanExecution, PlanInput
from headgate_protos.v1.task_pb2 import TaskExecution, TaskInput
from headgate_streams.port import LogRecord
from headgate_streams.topics import Topics, partition_for

MAX_TEXT: Final = 4_096
"""Characters that are kept of a text for people."""
WITHDRAWN: Final = "WITHDRAWN"
"""Code of a run that was not begun and ends nothing: its input is still there for another worker."""

Row = dict[str, Any]
Key = tuple[Any, ...]


class Batch:
    """Rows by their tables' keys. Of executions and lifetimes they are what the batch adds to known ones."""

    def __init__(self, topics: Topics, partitions: int) -> None:
        self._topics = topics
        self._partitions = partitions
        self.records = 0
        self.happenings: dict[Key, Row] = {}
        self.control_events: dict[Key, Row] = {}
        self.lifetimes: dict[Key, Row] = {}
        self.ledger: dict[Key, list[Row]] = {}
        """By lifetime: those of its newest view in the batch."""
        self._places: dict[Key, tuple[bool, int, int]] = {}
        self.executions: dict[Key, Row] = {}
        self.runs: dict[Key, Row] = {}

    def take(self, record: LogRecord) -> None:
        """Take up one record; what does not decode, or lies where no gate reads it, is passed over."""
        self.records += 1
        found = read_happening(record, self._topics)
        if found is None or type(found.message).__name__ not in TYPES or not self._is_at_home(record, found):
            return
        if found.lifetime_id and not is_name(found.lifetime_id):
            return
        self._read(found)
        row = {
            "tenant_id": found.tenant_id,
            "lifetime_id": found.lifetime_id,
            "log_offset": found.order[0],
            "source_index": found.order[2] if found.order[1] else OWN_RECORD,
            "when_ms": found.when_ms,
            "kind": type(found.message).__name__,
            "message": stripped(found.message),
        }
        self.happenings.setdefault((*_whose(found), row["log_offset"], row["source_index"]), row)

    def _is_at_home(self, record: LogRecord, found: Happening) -> bool:
        return found.dispatch is not None or (
            partition_for(found.tenant_id, self._partitions) == record.partition
        )

    def _read(self, found: Happening) -> None:
        message = found.message
        if isinstance(message, TaskExecution | PlanExecution):
            self._result(found, message)
        elif isinstance(message, TaskInput | PlanInput):
            self._execution(found, message.headers.execution_id, _headers(message.headers)).setdefault(
                "dispatched_ms", found.when_ms
            )
        elif isinstance(message, ExecutionStarted):
            known = {name: getattr(message, name) for name in ("node_id", "iteration", "attempt")}
            self._execution(found, message.execution_id, known).setdefault("started_ms", found.when_ms)
        elif isinstance(message, ExecutionEvent):
            self._event(found, message)
        elif isinstance(message, LifetimeView):
            self._view(found, message)

    def _execution(self, found: Happening, execution_id: str, known: Row) -> Row:
        """Return the row of an execution, to which is added what is `known` of it now."""
        if not is_name(execution_id):
            return {}
        row = self.executions.setdefault((*_whose(found), execution_id), {"execution_id": execution_id})
        row |= {"tenant_id": found.tenant_id, "lifetime_id": found.lifetime_id}
        for name, value in known.items():
            if value and not row.get(name):
                row[name] = text(value, MAX_TEXT) if isinstance(value, str) else value
        return row

    def _result(self, found: Happening, message: TaskExecution | PlanExecution) -> None:
        headers, result, run = message.headers, message.result, run_of(found)
        if has_begun(message) or result.error.code != WITHDRAWN:
            row = self._execution(found, headers.execution_id, _headers(headers))
            word = str(ExecutionStatus.Name(headers.status)).removeprefix("EXECUTION_STATUS_").lower()
            _end(row, found, word, result.error.code, headers.run_id)
        if run is not None:
            run_id = text(run.run_id, MAX_RUN_ID)
            kept = {
                "tenant_id": found.tenant_id,
                "lifetime_id": found.lifetime_id,
                "run_id": run_id,
                "execution_id": text(headers.execution_id),
                "node_id": text(run.node_id),
                "model": text(run.model),
                "log_offset": run.offset,
                "when_ms": run.when_ms,
                "is_unpriced": int(message.resource_usage.unpriced),
                "result_bytes": len(result.json_result.encode()) or max(0, result.blob_reference.size_bytes),
            }
            kept |= zip(AMOUNTS, run.spend, strict=False)
            self.runs.setdefault((*_whose(found), run_id), kept)

    def _event(self, found: Happening, event: ExecutionEvent) -> None:
        kind = str(ControlType.Name(event.type)).removeprefix("CONTROL_TYPE_")
        if kind == "REJECT_EXECUTION" and event.execution_id:
            row = self._execution(found, event.execution_id, {"node_id": event.node_id})
            _end(row, found, "rejected", "REJECTED", "")
        first = event.violations[0] if event.violations else None
        row = {
            "tenant_id": found.tenant_id,
            "log_offset": found.order[0],
            "source_index": found.order[2],
            "lifetime_id": found.lifetime_id,
            "graph_id": text(event.graph_id),
            "kind": kind,
            "execution_id": text(event.execution_id),
            "node_id": text(event.node_id),
            "policy": text(first.policy) if first else "",
            "rule": text(first.rule) if first else "",
            "measured": first.measured if first else 0,
            "cap": first.limit if first else 0,
            "is_shadow": int(event.shadow),
            "command_id": text(event.command_id),
            "reason": text(event.reason, MAX_TEXT),
            "when_ms": found.when_ms,
        }
        self.control_events.setdefault((found.tenant_id, *found.order), row)

    def _view(self, found: Happening, view: LifetimeView) -> None:
        known = self.lifetimes.get(_whose(found))
        if known is not None and self._places[_whose(found)] >= place_of(view):
            return
        self._places[_whose(found)] = place_of(view)
        usage = view.usage
        content, plain = content_of(view), LifetimeView()
        plain.CopyFrom(view)
        self.lifetimes[_whose(found)] = {
            "tenant_id": found.tenant_id,
            "lifetime_id": found.lifetime_id,
            "graph_id": text(view.graph_id),
            "graph_version": text(view.graph_version),
            "status": str(LifetimeStatus.Name(view.status)).removeprefix("LIFETIME_STATUS_").lower(),
            "reason": text(view.reason, MAX_TEXT),
            "parent_lifetime_id": text(view.parent_lifetime_id),
            "parent_execution_id": text(view.parent_execution_id),
            "started_ms": view.started_at.ToMilliseconds(),
            "updated_ms": view.updated_at.ToMilliseconds(),
            "ended_ms": view.ended_at.ToMilliseconds() if view.HasField("ended_at") else None,
            "cost_nano_usd": usage.cost_nano_usd,
            "tokens_used": usage.tokens_used,
            "latency_ms": usage.latency_ms,
            "is_closed": int(is_closed(view)),
            "source_offset": found.order[0],
            "source_index": found.order[2],
            "view": stripped(plain),
            "content": content or None,
        }
        self.ledger[_whose(found)] = [
            {
                "tenant_id": found.tenant_id,
                "lifetime_id": found.lifetime_id,
                "node_id": text(node.node_id),
                "visits": node.iterations,
                **{name: getattr(node.usage, name) for name in AMOUNTS},
            }
            for node in view.nodes
        ]


def text(value: str, most: int = 128) -> str:
    """Return a text as every database takes it: PostgreSQL keeps no NUL, and no index takes a long key."""
    return value[:most].replace("\0", "\ufffd")


def _whose(found: Happening) -> tuple[str, str]:
    return found.tenant_id, found.lifetime_id


def _headers(headers: ExecutionHeaders) -> Row:
    names = ("node_id", "node_type", "iteration", "attempt", "parent_execution_id", "queue")
    known = {name: getattr(headers, name) for name in names}
    return known | {"upstream_execution_ids": ",".join(headers.upstream_execution_ids)}


def _end(row: Row, found: Happening, status: str, code: str, run_id: str) -> None:
    """Say how an execution ended, unless something has ended it before."""
    order = 2 * found.order[0] + found.order[1]
    if order < row.get("ended_order", order + 1):
        row |= {"status": status, "error_code": text(code), "run_id": text(run_id, MAX_RUN_ID)}
        row |= {"ended_ms": found.when_ms, "ended_order": order}
