"""The bench of the unit tests, for handlers that start processes."""

from __future__ import annotations

from tests.unit.workers.conftest import bench

__all__ = ["bench"]
