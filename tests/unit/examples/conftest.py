"""The coding agent's fixtures."""

from tests.coding_agent import (  # noqa: F401
    handlers,
    issue_read,
    module,
    no_endpoint,
    plan_context,
    recorded,
    repo,
    run,
    shared,
    task_context,
    workspace,
)
