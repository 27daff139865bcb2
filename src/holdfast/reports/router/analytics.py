"""The route of the analytics (api.md section 9)."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from holdfast.core.answers import answer
from holdfast.reports import schemas, service
from holdfast.reports.router.periods import PeriodDep
from holdfast.reports.rules import DEFAULT_TOP, MAX_TOP
from holdfast.web.access import AdminCaller
from holdfast.web.errors import send
from holdfast.web.openapi import reads
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["reports"])

#: How many of each top list are wanted.
Top = Annotated[int, Query(alias="topN", ge=1, le=MAX_TOP, description="Entries of each top list.")]


@router.get(
    "/analytics/bookings",
    operation_id="analyzeBookings",
    summary="Bookings by day, the most booked, how long ahead, and how well used",
    responses=reads(schemas.AnalyticsAnswer, 400, 403),
)
async def analyze_bookings(_caller: AdminCaller, db: DatabaseDep, period: PeriodDep, top: Top = DEFAULT_TOP) -> Response:
    """For admins. A day goes from midnight to midnight on the clock of `tz`, whatever its hours.

    - `totals`, `perDay`, the top lists and `leadTime` are about the bookings that were *made* in the period; `cancelled` says
      how many of those are cancelled by now. A top list counts these too, and a booking of several resources once for each.
    - `leadTime` is in whole minutes from a booking to its start, interpolated between two where none lies in the middle.
    - `utilization` is about the time that was *taken* in the period, by bookings that stand, past ones included.
      `openMinutes` is the time of the slots that the room's present schedule makes in its own zone, without what is closed;
      of an archived room (listed only where it was booked) until it was archived. Where a schedule was cut short under
      standing bookings, `percent` may be above 100.
    - `eventUtilization` is about the events that *begin* in the period.
    """
    found = await service.analyze_bookings(db, period=period)
    return send(answer(found.as_json(top=top)))
