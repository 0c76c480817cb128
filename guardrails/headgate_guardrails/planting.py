"""A bug that tests plant in the fold: HEADGATE_FOLD_FAILS_FOR names the tenant whose results it hurts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headgate_guardrails.fold.engine import GuardrailEngine, Surroundings
from headgate_guardrails.fold.quarantine import Hold
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import Turn
from headgate_protos.v1 import execution_pb2
from headgate_streams.settings import FaultSettings


def engine_of(
    state: PartitionState, means: Surroundings, holds: Iterable[Hold], heeded: range
) -> GuardrailEngine:
    """Return the engine of this process: without the bug, unless a test has planted it."""
    fails_for = FaultSettings().fold_fails_for
    if not fails_for:
        return GuardrailEngine(state, means, holds, heeded)
    engine = _BrokenEngine(state, means, holds, heeded)
    engine.fails_for = fails_for
    return engine


class _BrokenEngine(GuardrailEngine):
    fails_for = ""

    def _serve(
        self, turn: Turn, tenant_id: str, kind: str, envelope: execution_pb2.ExecutionEnvelope, payload: Any
    ) -> None:
        super()._serve(turn, tenant_id, kind, envelope, payload)
        if tenant_id == self.fails_for and kind == "task_execution":
            raise RuntimeError("planted by HEADGATE_FOLD_FAILS_FOR")
