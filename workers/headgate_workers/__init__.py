"""Who does the work: handlers, how they are found, and the worker that runs them."""

from headgate_graphs.errors import NonRetryable
from headgate_workers.context import PlanContext, TaskContext, UpstreamResult
from headgate_workers.handlers import Handler, HandlerRegistry, plan, task
from headgate_workers.loading import load_handlers
from headgate_workers.results import Cancelled, Decision, Result
from headgate_workers.settings import WorkerSettings
from headgate_workers.worker import Worker

__all__ = [
    "Cancelled",
    "Decision",
    "Handler",
    "HandlerRegistry",
    "NonRetryable",
    "PlanContext",
    "Result",
    "TaskContext",
    "UpstreamResult",
    "Worker",
    "WorkerSettings",
    "load_handlers",
    "plan",
    "task",
]
