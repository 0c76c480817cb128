"""What happened, put together from the log: who did what, when, at what cost, and why."""
