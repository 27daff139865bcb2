"""`holdfast doctor --data`: whether what the tables say can be true, on a live database. It reports and never repairs.

Every promise has a constraint or a lock that keeps it; this looks at the rows by themselves, and leans on neither.
"""

from holdfast.inspection.invariants import INVARIANTS
from holdfast.inspection.looking import EXAMPLES, PATIENCE_SECONDS, Finding, check, look
from holdfast.inspection.report import report
from holdfast.inspection.shapes import Invariant, Severity

__all__ = ["EXAMPLES", "INVARIANTS", "PATIENCE_SECONDS", "Finding", "Invariant", "Severity", "check", "look", "report"]
