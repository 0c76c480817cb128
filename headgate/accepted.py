"""Tells apart, for who reads the log, the records that nobody signed and that every gate has refused.

A forged policy is not in force, and an order that nobody signed was not obeyed: no view shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_streams.port import LogRecord

if TYPE_CHECKING:
    from headgate_guardrails.fold.state import PartitionState


class Signatures:
    """Follows the keys of one partition record by record, by the fold's own rules.

    Where retention has taken the log's beginning, keys may be in force that nobody can see any more: then
    every record counts.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._logic_version = 1
        self._clock_ms = 0
        self._is_whole: bool | None = None
        self._state: PartitionState | None = None
        """Made with the first key: most logs have none, and need nothing of the fold."""

    def accept(self, record: LogRecord, envelope: ExecutionEnvelope) -> bool:
        """Whether the next record is signed as it must be; takes in what it says about keys."""
        if self._is_whole is None:
            self._is_whole = record.offset == 0
        self._clock_ms = max(self._clock_ms, record.timestamp_ms)
        kind = envelope.WhichOneof("payload") or ""
        if self._state is not None and not self._is_signed(self._state, kind, envelope):
            return False
        if kind == "logic_version":
            self._logic_version = max(self._logic_version, envelope.logic_version.version)
        elif kind == "key_registered" and self._logic_version > 1 and self._is_whole:
            self._register(record, envelope)
        return True

    def _is_signed(self, state: PartitionState, kind: str, envelope: ExecutionEnvelope) -> bool:
        from headgate_graphs.errors import BadRecord
        from headgate_guardrails.fold.authority import SIGNED, check_signature, is_fork

        state.clock_ms = self._clock_ms
        if not state.keys or not (kind in SIGNED or is_fork(envelope)):
            return True
        try:
            check_signature(state, kind, envelope)
        except BadRecord:
            return False
        return True

    def _register(self, record: LogRecord, envelope: ExecutionEnvelope) -> None:
        from headgate_graphs.errors import BadRecord
        from headgate_guardrails.fold.authority import register_key
        from headgate_guardrails.fold.state import PartitionState

        self._state = self._state or PartitionState(record.partition, self._partitions)
        try:
            register_key(self._state, envelope.key_registered)
        except BadRecord:
            return
