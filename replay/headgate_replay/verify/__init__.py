"""`headgate replay verify`: the log is folded again and compared with what was said then, as a stream."""

from headgate_replay.verify.divergence import Divergence
from headgate_replay.verify.report import VerifyReport
from headgate_replay.verify.verifying import VerifyInput, verify_log

__all__ = ["Divergence", "VerifyInput", "VerifyReport", "verify_log"]
