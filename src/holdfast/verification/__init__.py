"""`holdfast verify`: concurrent clients on a few hot units, all that they ask and are told recorded, and the record judged.

A tool beside the service: it speaks HTTP to it like anybody else, and knows nothing of its database.
"""

from holdfast.verification.histories import History, HistoryError, Kind, Observation, Operation, Sight, from_lines, to_lines
from holdfast.verification.linearizability import Anomaly, Verdict, check
from holdfast.verification.recorder import Plan, VerificationError, record
from holdfast.verification.runs import Report, run_verification, verify_file

__all__ = [
    "Anomaly",
    "History",
    "HistoryError",
    "Kind",
    "Observation",
    "Operation",
    "Plan",
    "Report",
    "Sight",
    "Verdict",
    "VerificationError",
    "check",
    "from_lines",
    "record",
    "run_verification",
    "to_lines",
    "verify_file",
]
