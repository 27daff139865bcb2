"""The use cases of exports: chunks of CSV, each from short reads of its own, so that a slow reader holds nothing open."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog

from holdfast.bookings import service as bookings
from holdfast.bookings.rules import Booking
from holdfast.core.callers import Caller
from holdfast.core.errors import Busy, Unauthenticated
from holdfast.db.database import Database
from holdfast.reports import queries
from holdfast.reports.rules import Period, line

#: Bookings of one read: some 150 kB of CSV.
PAGE = 500
#: Seconds to wait before a page is asked for again where the database was busy; after the last one the export is broken off.
PAUSES = (0.2, 1.0)
_KINDS = ("room", "host", "event")
_HEADER = (
    "id",
    "status",
    "kind",
    "userId",
    "userEmail",
    "roomId",
    "hostId",
    "eventId",
    "resourceName",
    "start",
    "end",
    "title",
    "notes",
    "seats",
    "slotId",
    "slotIds",
    "seriesId",
    "conferenceLink",
    "createdAt",
    "cancelledAt",
)
log = structlog.get_logger(__name__)


async def export_bookings(db: Database, *, by: Caller, **filters: Any) -> AsyncIterator[bytes]:
    """The bookings that fit, newest first, with a header, page by page. Filters: those of `bookings.service.list_bookings`.

    By the key that GET /bookings walks by: each booking that fits from the beginning to the end of the export is in it once,
    whatever is written meanwhile; one made after the beginning is not. Raises Busy for a page that cannot be had, and
    Unauthenticated once the caller is no admin any more: what was given until then is not all there is.
    """
    header = line(_HEADER)
    cursor: str | None = ""
    while cursor is not None:
        if not header and not await queries.is_admin(db, by.user_id):
            raise Unauthenticated
        page, cursor = await _page(db, cursor, filters, patient=not header)
        names = await queries.read_names(
            db,
            resources=(unit.resource_id for one in page for unit in one.units),
            users=(one.user_id for one in page),
        )
        yield (header + "".join(line(_cells(one, names)) for one in page)).encode()
        header = ""


async def _page(db: Database, cursor: str, filters: dict[str, Any], *, patient: bool) -> tuple[list[Booking], str | None]:
    """A page, asked for again after a pause: a restart of the database need not cost an hour's download.

    Nobody waits for the first one: its caller is told that the service is busy.
    """
    for pause in PAUSES if patient else ():
        try:
            return await bookings.walk_bookings(db, cursor=cursor, limit=PAGE, **filters)
        except Busy:
            log.warning("export.waits", seconds=pause)
            await asyncio.sleep(pause)
    return await bookings.walk_bookings(db, cursor=cursor, limit=PAGE, **filters)


def _cells(booking: Booking, names: dict[Any, str]) -> list[object]:
    shape = booking.as_json()
    resources = dict.fromkeys(names.get(unit.resource_id, "") for unit in booking.units)
    told: dict[str, object] = {
        **shape,
        "userEmail": names.get(booking.user_id),
        "resourceName": ", ".join(resources),
        "seats": ", ".join(shape["seats"]),
        "slotIds": " ".join(shape["slotIds"]),
    }
    return [told.get(name) for name in _HEADER]


async def export_days(db: Database, *, period: Period) -> bytes:
    """The table of the period's days, with a header: small, so it comes at once."""
    days = await queries.count_by_day(db, period)
    return (line(("date", "bookings", "cancelled")) + "".join(line((d.date, d.bookings, d.cancelled)) for d in days)).encode()
