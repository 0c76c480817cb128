"""The one error tree of Headgate; every loop reads `disposition` and nobody decides by a string.

HeadgateError
├── UserError            CRASH           wrong input at the command line, in YAML or settings (exit code 2)
│   ├── GraphInvalid                     a graph with faults, all of them at once
│   ├── PolicyInvalid                    a policy that does not load
│   └── AccessRefused                    the broker does not let this user do that
├── BadRecord            DEAD_LETTER     one record that cannot be acted on
├── HandlerFailed        FAIL_EXECUTION  user code failed
│   └── NonRetryable                     ... and a retry cannot help
├── BlobUnavailable      RETRY           the blob store did not answer
├── BlobMissing          FAIL_EXECUTION  a reference that resolves to nothing
├── BlobIntegrity        FAIL_EXECUTION  bytes that are not what the reference says
├── LogUnavailable       RETRY           the broker did not answer in time
├── CatalogUnavailable   RETRY           the catalog's database did not answer, or refused
├── DeliveryFailed       CRASH           an append was refused or its fate is unknown
├── PartitionLost        ABANDON         somebody else owns the partition now
├── LogTruncated         CRASH           the log has lost records that are still needed
└── ArchiveBroken        CRASH           an archive is not what its manifest says
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Self

_SHOWN_FAULTS = 20
"""How many faults the one line of a message names; `faults` always holds all."""


def _in_one_line(where: str, faults: Sequence[str]) -> str:
    if len(faults) == 1:
        return faults[0] if faults[0].startswith(where) else f"{where}: {faults[0]}"
    more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    return f"{where}: {len(faults)} faults: " + "; ".join(faults[:_SHOWN_FAULTS]) + more


class Disposition(enum.Enum):
    """What a loop does about an error."""

    RETRY = "retry"
    """Try the same again, with back-off and a bound."""
    DEAD_LETTER = "dead_letter"
    """Write the record to dead-letters and move on."""
    FAIL_EXECUTION = "fail_execution"
    """Report the execution as failed and move on."""
    PAUSE = "pause"
    """Stop intake until the cause is gone."""
    ABANDON = "abandon"
    """Drop the partition's work; its new owner does it."""
    CRASH = "crash"
    """End the process; recovery is replay."""


class HeadgateError(Exception):
    """Root of every error that Headgate raises on purpose."""

    disposition = Disposition.CRASH


class UserError(HeadgateError):
    """The user got something wrong: one line that says what, where and what to do."""

    faults: Sequence[str] = ()
    """One line for each fault of a document, in document order; empty when the error is about one thing."""

    @classmethod
    def from_faults(cls, where: str, faults: Sequence[str]) -> Self:
        """Return the error for a document called `where` that has these faults (at least one)."""
        made = cls(_in_one_line(where, faults))
        made.faults = tuple(faults)
        return made


class GraphInvalid(UserError):
    """A graph with faults; `faults` holds one line for each, in document order."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(_in_one_line(where, faults))

    @classmethod
    def from_faults(cls, where: str, faults: Sequence[str]) -> Self:
        """Return the error for a graph called `where` that has these faults (at least one)."""
        return cls(where, faults)


class PolicyInvalid(UserError):
    """A policy that does not load, with file, line and column where they are known."""


class AccessRefused(UserError):
    """The broker does not let this user do that; asking again cannot help."""


class BadRecord(HeadgateError):
    """One record that cannot be acted on; `reason` is the dead letter's code.

    Codes: EMPTY, DECODE, TYPE_MISMATCH, HEADER_MISSING, HEADERS, TENANT_SPOOF, VERSION, BAD_TENANT_ID, SIZE,
    DEPTH, COUNT, WRONG_PARTITION, ENUM, UNKNOWN_LIFETIME, UNKNOWN_GRAPH, UNKNOWN_NODE, CONFLICT, USAGE_RANGE,
    BLOB_REF, BAD_COMMAND, BAD_GRAPH, BAD_POLICY.
    """

    disposition = Disposition.DEAD_LETTER

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class HandlerFailed(HeadgateError):
    """A handler's failure as it is reported: code, message, whether a retry can help."""

    disposition = Disposition.FAIL_EXECUTION
    code = "HANDLER_ERROR"
    retryable = True


class NonRetryable(HandlerFailed):
    """Raised by a handler to say that a retry cannot help."""

    retryable = False


class BlobUnavailable(HeadgateError):
    """The blob store did not answer, or answered with a server error."""

    disposition = Disposition.RETRY


class BlobMissing(HandlerFailed):
    """A reference to a blob that does not exist."""

    code = "BLOB_MISSING"


class BlobIntegrity(HandlerFailed):
    """A blob whose size, hash or tenant is not what its reference says."""

    code = "BLOB_INTEGRITY"


class DataErased(HandlerFailed):
    """A value whose data key was destroyed: it is gone for good, everywhere."""

    code = "ERASED"
    retryable = False


class LogUnavailable(HeadgateError):
    """The broker or the log file did not answer in time."""

    disposition = Disposition.RETRY


class CatalogUnavailable(HeadgateError):
    """The catalog's database did not answer, or answered with an error."""

    disposition = Disposition.RETRY


class DeliveryFailed(HeadgateError):
    """An append was refused."""


class DeliveryUnknown(DeliveryFailed):
    """Nobody will tell whether an append was taken: what was not committed is done again."""

    disposition = Disposition.RETRY


class PartitionLost(HeadgateError):
    """Somebody else owns the partition now."""

    disposition = Disposition.ABANDON


class LogTruncated(HeadgateError):
    """The log has lost records that are still needed."""


class ArchiveBroken(HeadgateError):
    """An archive is not what its manifest says, or not signed as it must be; names the first such place."""
