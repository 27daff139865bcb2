"""The routes of exports: comma-separated values, streamed (api.md section 9)."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from holdfast.bookings.router.bookings import From, Status, To
from holdfast.core import clock
from holdfast.reports import service
from holdfast.reports.router.analytics import Top
from holdfast.reports.router.periods import PeriodDep
from holdfast.reports.rules import CSV, DEFAULT_TOP, file_name
from holdfast.web.access import AdminCaller
from holdfast.web.fields import Id
from holdfast.web.openapi import refusals
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["reports"])


def _table(description: str, header: str) -> dict[int | str, dict[str, Any]]:
    content = {"text/csv": {"schema": {"type": "string"}, "example": f"{header}\r\n"}}
    return {200: {"description": description, "content": content}, **refusals(400, 401, 403)}


def _headers(what: str) -> dict[str, str]:
    # Nothing on the way may keep it, or wait for the end of it.
    return {
        "Content-Disposition": file_name(what, now=clock.now()),
        "Content-Type": CSV,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }


@router.get(
    "/analytics/bookings.csv",
    operation_id="exportBookingsPerDay",
    summary="Bookings by day, as CSV",
    responses=_table("Every date of the period.", "date,bookings,cancelled"),
    response_class=Response,
)
async def export_bookings_per_day(_caller: AdminCaller, db: DatabaseDep, period: PeriodDep, _top: Top = DEFAULT_TOP) -> Response:
    """For admins: `perDay` of GET /analytics/bookings, with the same parameters."""
    return Response(await service.export_days(db, period=period), headers=_headers("bookings-per-day"))


@router.get(
    "/bookings.csv",
    operation_id="exportBookings",
    summary="Everybody's bookings, as CSV",
    responses=_table("All that fit, newest first.", "id,status,kind,userId,userEmail,roomId,hostId,eventId,resourceName,..."),
    response_class=Response,
)
async def export_bookings(
    caller: AdminCaller,
    db: DatabaseDep,
    status: Status = None,
    user_id: Annotated[Id | None, Query(alias="userId")] = None,
    room_id: Annotated[Id | None, Query(alias="roomId")] = None,
    host_id: Annotated[Id | None, Query(alias="hostId")] = None,
    event_id: Annotated[Id | None, Query(alias="eventId")] = None,
    start: From = None,
    end: To = None,
) -> Response:
    """For admins; the filters and the order of GET /bookings, all of it in one answer, however long.

    What a spreadsheet would run as a formula has an apostrophe in front: cells, and in them lines and what follows a semicolon.
    An answer that breaks off, without its last chunk, is not all there is: ask again.
    """
    chunks = service.export_bookings(
        db,
        by=caller,
        status=status,
        user_id=user_id,
        resource_ids=[one for one in (room_id, host_id, event_id) if one is not None],
        start=start,
        end=end,
    )
    # Before the status is sent: where there is no first page, the answer is a refusal.
    first = await anext(chunks)
    return StreamingResponse(_all_of(first, chunks), headers=_headers("bookings"))


async def _all_of(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(chunks):  # type: ignore[type-var]  # it is a generator
        yield first
        async for chunk in chunks:
            yield chunk
