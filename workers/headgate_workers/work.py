"""One input on its way through a worker. Made at intake, carried by the run, reported and let go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headgate_protos.v1.common_pb2 import ResourceUsage
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_workers.metering import UsageMeter

if TYPE_CHECKING:
    from headgate_workers.share import Share


class Work:
    """An input, the run it became, and the place of its record."""

    __slots__ = (
        "_began_ns",
        "execution_id",
        "has_begun",
        "is_early",
        "is_leased",
        "is_suspect",
        "lifetime_id",
        "node_type",
        "offset",
        "received",
        "run_id",
        "share",
        "tenant_id",
        "usage",
    )

    def __init__(self, received: TaskInput | PlanInput, share: Share, offset: int, run_id: str) -> None:
        headers = received.headers
        self.received = received
        self.share = share
        """The partition it came from, as this worker holds it."""
        self.offset = offset
        self.tenant_id: str = received.tenant_id
        self.lifetime_id: str = headers.lifetime_id
        self.execution_id: str = headers.execution_id
        self.node_type: str = headers.node_type
        self.is_leased: bool = received.leased
        """Whether the run is announced, leased and committed on pickup; else it is plain."""
        self.is_early = False
        """Whether it was there when its partition was taken over, and so may have ended another worker."""
        self.is_suspect = False
        """Whether it may have ended several, and is run alone, as leased work is, whatever its node says."""
        self.run_id = run_id
        self.usage = UsageMeter()
        self.has_begun = False
        """Whether the handler was called."""
        self._began_ns = 0

    def begin(self) -> None:
        """The handler is about to be called: from here on it may spend."""
        self.has_begun = True
        self._began_ns = time.monotonic_ns()

    def elapsed_ns(self) -> int:
        """Nanoseconds since the handler began, by the monotonic clock; 0 when it did not."""
        return time.monotonic_ns() - self._began_ns if self.has_begun else 0

    def usage_so_far(self) -> ResourceUsage:
        """Return what the run has used until now."""
        return self.usage.snapshot(self.elapsed_ns() // 1_000_000)
