"""The use cases of looking back."""

from holdfast.reports.service.analytics import analyze_bookings, count_bookings_by_day
from holdfast.reports.service.changes import list_audit, walk_audit, walk_changes
from holdfast.reports.service.exports import export_bookings, export_days

__all__ = [
    "analyze_bookings",
    "count_bookings_by_day",
    "export_bookings",
    "export_days",
    "list_audit",
    "walk_audit",
    "walk_changes",
]
