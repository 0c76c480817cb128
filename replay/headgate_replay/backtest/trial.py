"""One partition folded side by side: as it was, and under each draft.

A side under a draft is fed the same records, but for what came of executions that it has not dispatched:
those wait until it does, as after a throttle or a pause, or are never fed, as after an abort. So what they
cost is not spent there. What a draft dispatches and the log never did has no result here: that is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate_graphs.errors import BadRecord
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.turn import PLAN_INPUTS, TASK_INPUTS, Output
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_replay.backtest.drafts import Draft
from headgate_replay.backtest.tally import Ended, Run, Tally
from headgate_streams.codec import decode_envelope
from headgate_streams.port import LogRecord

_INPUTS = (TASK_INPUTS, PLAN_INPUTS)
_TAG = ExecutionEnvelope.POLICY_SET_FIELD_NUMBER << 3 | 2
_POLICY = bytes((_TAG & 0x7F | 0x80, _TAG >> 7))
"""The bytes by which a policy begins within its record."""


class Side:
    """The fold under a draft, or as it was when there is none."""

    def __init__(self, engine: GuardrailEngine, draft: Draft | None) -> None:
        self.engine = engine
        self._draft = draft
        self.tally = Tally()
        self.undone: dict[str, Run] = {}
        """Executions that were dispatched, and not (yet) here."""
        self._waiting: dict[str, list[LogRecord]] = {}
        """What came of them."""
        self.ahead: dict[str, Run] = {}
        """Executions that are dispatched here, and were not (yet) then."""
        self.over: dict[Run, Ended] = {}
        """Runs that have ended here, and not then."""
        self.then: dict[Run, Ended] = {}
        """Runs that had ended then, and have not here."""
        self._tenants = len(engine.state.tenants)
        if draft is not None:
            draft.put_in_force(engine.state)

    def take(self, record: LogRecord) -> list[Output]:
        """Fold a record and what has waited for what it leads to; return all that follows."""
        execution = self._execution_of(record) if self.undone else ""
        if execution in self.undone:
            self._waiting.setdefault(execution, []).append(record)
            return []
        return self._apply(record)

    def _apply(self, record: LogRecord) -> list[Output]:
        outputs = self.engine.apply(record)
        if self._draft is not None:
            tenants = len(self.engine.state.tenants)
            if tenants != self._tenants or _POLICY in (record.value or b""):
                self._tenants = tenants
                self._draft.put_in_force(self.engine.state)
        if self._waiting:
            for output in list(outputs):
                if output.topic in _INPUTS and output.key in self.undone:
                    for waited in self._waiting.pop(output.key, ()):
                        outputs += self._apply(waited)
        return outputs

    def _execution_of(self, record: LogRecord) -> str:
        """Return the execution that a record reports on, if it does."""
        try:
            _, _, kind, payload = decode_envelope(record)
        except BadRecord:
            return ""
        if kind == "execution_started":
            return str(payload.execution_id)
        if kind in ("task_execution", "plan_execution"):
            return str(payload.headers.execution_id)
        return ""

    def compare(self, here: Sequence[Output], then: Sequence[Output]) -> None:
        """Note which executions only one side has dispatched."""
        mine = {one.key: one for one in here if one.topic in _INPUTS}
        theirs = {one.key: one for one in then if one.topic in _INPUTS}
        if mine.keys() == theirs.keys():
            return
        for key in mine.keys() - theirs.keys():
            if self.undone.pop(key, None) is None:
                self.ahead[key] = _run_of(mine[key])
        for key in theirs.keys() - mine.keys():
            if self.ahead.pop(key, None) is None:
                self.undone[key] = _run_of(theirs[key])

    def forget(self, run: Run) -> None:
        """Let go of what nobody waits for: the run is over on both sides."""
        for key in [key for key, owner in self.undone.items() if owner == run]:
            del self.undone[key]
            self._waiting.pop(key, None)


def _run_of(output: Output) -> Run:
    message: Any = output.message
    return message.tenant_id, message.headers.lifetime_id
