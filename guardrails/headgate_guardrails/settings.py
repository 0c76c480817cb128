"""Settings of the gate process; nothing here can change a decision, only when work is saved or noticed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GateSettings(BaseModel):
    """How the gate runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_records: int = Field(default=200, ge=1, le=10_000)
    """Records folded before outputs are flushed, shared out evenly among the partitions in which something
    waits; more is a little faster and later for everybody."""
    commit_s: float = Field(default=0.1, ge=0)
    """Shortest time between two commits: what a crash folds and says again. Nobody waits for a commit."""
    poll_ms: int = Field(default=50, ge=1, le=1_000)
    """Longest wait for a record; also how exactly timers fire on an idle partition."""
    checkpoint_records: int = Field(default=20_000, ge=1)
    """A partition is checkpointed after so many records (a restart folds no more than these again) ..."""
    checkpoint_s: float = Field(default=60.0, gt=0)
    """... or after so many seconds in which there was any record."""
    dead_letter_limit_per_minute: int = Field(default=60_000, ge=0)
    """A partition that yields more dead letters is not read for a while (5 s to 60 s); 0 for no limit."""
    stop_s: float = Field(default=20.0, gt=0)
    """How long a graceful stop may take to save its checkpoints."""
