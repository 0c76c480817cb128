"""Handlers that every worker has: `chat`, `http`, `subprocess` for tasks and `rules` for plans."""

from headgate_workers.ready.chat import CHAT
from headgate_workers.ready.http import HTTP
from headgate_workers.ready.rules import RULES
from headgate_workers.ready.subprocess import SUBPROCESS

READY = {(handler.kind, handler.type): handler for handler in (CHAT, HTTP, SUBPROCESS, RULES)}
"""The ready handlers by kind and type."""

__all__ = ["READY"]
