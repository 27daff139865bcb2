"""Reports in SQL."""

from holdfast.reports.queries.analytics import (
    count_by_day,
    count_by_lead_time,
    count_by_resource,
    read_event_use,
    read_rooms,
    sum_time_taken,
)
from holdfast.reports.queries.changes import Wanted, count_changes, list_changes, read_changes
from holdfast.reports.queries.names import is_admin, read_names

__all__ = [
    "Wanted",
    "count_by_day",
    "count_by_lead_time",
    "count_by_resource",
    "count_changes",
    "is_admin",
    "list_changes",
    "read_changes",
    "read_event_use",
    "read_names",
    "read_rooms",
    "sum_time_taken",
]
