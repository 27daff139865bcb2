"""The routes of looking back."""

from holdfast.reports.router.analytics import router as analytics
from holdfast.reports.router.changes import router as changes
from holdfast.reports.router.exports import router as exports

__all__ = ["analytics", "changes", "exports"]
