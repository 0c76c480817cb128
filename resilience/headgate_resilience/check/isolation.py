"""I9: canary strings of one tenant are searched in everything that belongs to another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headgate_resilience.check.decoding import EVERYBODY
from headgate_resilience.check.findings import Findings
from headgate_streams.port import LogRecord

MARK: Final = b"canary-"
_PLANTED: Final = re.compile(rb"canary-([a-z0-9-]{3,80})")
LINE_BYTES: Final = 1 << 20
"""Bytes of a log file that are looked at together."""
OVERLAP: Final = 256
"""A canary is shorter, so that none is cut in two."""


class Isolation:
    """Looks for canaries: those that were named, and what reads canary-<tenant>-<anything>."""

    def __init__(self, canaries: Mapping[str, str], findings: Findings) -> None:
        self._named = [(tenant, text.encode()) for tenant, text in canaries.items()]
        self._findings = findings
        self.found: set[bytes] = set()
        """Planted canaries that were seen with their own tenants: log files are searched for them."""

    def look(self, record: LogRecord, tenant: str) -> None:
        """Look at a record's key, value and headers; what is filed under `*` is for the operators alone."""
        if tenant == EVERYBODY:
            return
        value = record.value or b""
        if self._named or MARK in value or MARK in (record.key or b""):
            whole = b"\n".join((value, record.key or b"", *(said for _, said in record.headers)))
            where = f"{record.topic}[{record.partition}]@{record.offset}"
            self.search(whole, tenant, where)

    def search(self, content: bytes, tenant: str, where: str) -> None:
        """Look at some bytes that belong to a tenant."""
        for owner, text in self._named:
            if text in content:
                self._findings.need("I9", owner == tenant, where, f"{tenant} has a canary of {owner}")
        own = tenant.encode() + b"-"
        for match in _PLANTED.finditer(content):
            is_own = match[1].startswith(own)
            if is_own and len(self.found) < 10_000:
                self.found.add(match[0])
            what = f"{tenant} has {match[0][:60].decode()!a}"
            self._findings.need("I9", is_own, where, what)

    def search_files(self, directory: Path) -> None:
        """Look at every file of a directory of logs, in which no canary may be."""
        wanted = {text for _, text in self._named} | self.found
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self._findings.counts["log files"] += 1
                self._search_file(path, wanted)

    def _search_file(self, path: Path, wanted: set[bytes]) -> None:
        before = b""
        with path.open("rb") as file:
            while block := file.read(LINE_BYTES):
                content = before + block
                self._findings.saw("I9")
                for text in [text for text in wanted if text in content]:
                    self._findings.fail("I9", path.name, f"holds the canary {text[:60].decode()!a}")
                before = content[-OVERLAP:]
