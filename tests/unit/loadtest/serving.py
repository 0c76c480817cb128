"""A system that answers at once, on a log in memory: it shows what the harness measures, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from headgate_loadtest.installation import Installation
from headgate_loadtest.processes import Serving
from headgate_protos.v1.common_pb2 import LIFETIME_STATUS_COMPLETED
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope, LifetimeView
from headgate_streams.codec import encode
from headgate_streams.settings import MEMORY, StreamSettings


class Answering:
    """Ends every run that is asked for; stalls once, and loses some, when it is told to."""

    def __init__(
        self, installation: Installation, *, stall_s: float, after: int, lose: int, twice: bool
    ) -> None:
        self._installation = installation
        self._stall_s, self._after, self._lose, self._twice = stall_s, after, lose, twice
        self._stop = threading.Event()
        self._seen = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Serving:
        self._reader = self._installation.log.reader()
        self._reader.assign(self._installation.ends(self._installation.topics.executions))
        self._producer = self._installation.log.producer()
        self._thread.start()
        return Serving({}, lambda: None)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._reader.close()
        self._producer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for record in self._reader.poll(0.02, 1):
                envelope = ExecutionEnvelope.FromString(record.value or b"")
                if envelope.WhichOneof("payload") == "lifetime_start":
                    self._answer(envelope, record.partition)

    def _answer(self, envelope: ExecutionEnvelope, partition: int) -> None:
        self._seen += 1
        if self._stall_s and self._seen == self._after:
            time.sleep(self._stall_s)
        if self._seen <= self._lose:
            return
        view = LifetimeView(
            tenant_id=envelope.tenant_id, lifetime_id=envelope.lifetime_id, status=LIFETIME_STATUS_COMPLETED
        )
        value, headers = encode(view, view.tenant_id)
        key = f"{view.tenant_id}/{view.lifetime_id}/end".encode()
        for _ in range(2 if self._twice else 1):
            self._producer.append(
                self._installation.topics.lifetimes, partition, key=key, value=value, headers=headers
            )
        self._producer.flush()


@contextmanager
def answering(
    *, stall_s: float = 0.0, after: int = 0, lose: int = 0, twice: bool = False
) -> Iterator[tuple[Installation, Serving]]:
    """Yield an installation in memory, and a system that answers."""
    settings = StreamSettings(kafka=None, local=MEMORY, partitions=2)
    with Installation(settings) as installation:
        installation.create_topics()
        system = Answering(installation, stall_s=stall_s, after=after, lose=lose, twice=twice)
        with system as serving:
            yield installation, serving
