"""`headgate check`: recomputes the invariants I1 to I14 from the raw topics of a log."""

from headgate_resilience.check.checking import Check, check_log
from headgate_resilience.check.records import LogRecords, Records
from headgate_resilience.check.report import Invariant, Report, Verdict, Violation

__all__ = [
    "Check",
    "Invariant",
    "LogRecords",
    "Records",
    "Report",
    "Verdict",
    "Violation",
    "check_log",
]
