"""The routes of calendars (api.md sections 3 and 8)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from holdfast.calendars import rules, schemas, service
from holdfast.calendars.rules import Party
from holdfast.calendars.service import Document
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.core.preconditions import named_tags
from holdfast.core.settings import Settings
from holdfast.web.access import AnyCaller, LoggedInCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import reads, refusals
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep, StateDep

router = APIRouter(route_class=Route, tags=["calendars"])

FeedToken = Annotated[
    Annotated[str, Text(200)], Path(description="The secret part of a feed's address, out of POST /calendar-feeds.")
]
_CALENDAR: dict[int | str, dict[str, Any]] = {
    200: {"description": "Done.", "content": {"text/calendar": {"schema": {"type": "string"}}}},
    304: {"description": "`If-None-Match` names the present content."},
}


def _organizer(settings: Settings) -> Party:
    return rules.party(settings.mail_from)


def _sent(request: Request, document: Document, *, filename: str | None = None) -> Response:
    """The calendar, or 304 where the client has it. Nobody between us and the client may keep it."""
    headers = {"ETag": document.tag, "Cache-Control": "private, no-cache"}
    known = request.headers.get("if-none-match")
    if known is not None and (known.strip() == "*" or document.tag in named_tags(known)):
        return Response(status_code=304, headers=headers)
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return send(Answer(200, document.content, headers, rules.CONTENT_TYPE))


@router.get(
    "/bookings/{booking_id}/calendar.ics",
    operation_id="getBookingCalendar",
    summary="One booking as a calendar file",
    responses={**_CALENDAR, **refusals(400, 401, 403, 404)},
    response_class=Response,
)
async def get_booking_calendar(booking_id: PathId, request: Request, caller: AnyCaller, state: StateDep) -> Response:
    """For its owner, the host whose time it takes, and admins. The UID stays, SEQUENCE rises with each change."""
    document = await service.read_booking(state.db, booking_id=booking_id, organizer=_organizer(state.settings), by=caller)
    return _sent(request, document, filename=f"booking-{booking_id}.ics")


@router.post(
    "/calendar-feeds",
    operation_id="createCalendarFeed",
    summary="Make a private calendar address",
    responses={
        201: {"description": "Done.", "model": schemas.NewFeedAnswer},
        **refusals(400, 401, 403, 404, 409),
    },
    status_code=201,
)
async def create_feed(caller: LoggedInCaller, state: StateDep, body: schemas.NewFeed | None = None) -> Response:
    """Of your own bookings (a host's guests' too), or with `roomId`, for admins, of a room's. The addresses are shown once.

    Not with an API key: an address that was made with one would outlive it. An Idempotency-Key is ignored: secrets are not
    kept to be replayed.
    """
    feed, token = await service.create_feed(state.db, room_id=body.roomId if body else None, by=caller)
    settings = state.settings
    base = settings.reached_at
    shape = {
        "feed": feed.as_json(),
        "url": f"{base}/calendar/{token}.ics",
        "freeBusyUrl": f"{base}/calendar/{token}/freebusy.ics",
    }
    return send(answer(shape, status=201, location=f"/calendar-feeds/{feed.id}"))


@router.get(
    "/calendar-feeds",
    operation_id="listCalendarFeeds",
    summary="Your calendar addresses",
    responses=reads(schemas.FeedsAnswer),
)
async def list_feeds(caller: AnyCaller, db: DatabaseDep) -> Response:
    """The latest first, without their secrets."""
    return send(answer({"feeds": [feed.as_json() for feed in await service.list_feeds(db, by=caller)]}))


@router.get(
    "/calendar-feeds/{feed_id}",
    operation_id="getCalendarFeed",
    summary="One of your calendar addresses",
    responses=reads(schemas.FeedAnswer, 400, 403, 404),
)
async def get_feed(feed_id: PathId, caller: AnyCaller, db: DatabaseDep) -> Response:
    """Without its secret, which was shown once."""
    feed = await service.get_feed(db, feed_id=feed_id, by=caller)
    return send(answer({"feed": feed.as_json()}))


@router.delete(
    "/calendar-feeds/{feed_id}",
    operation_id="deleteCalendarFeed",
    summary="End a calendar address",
    responses={204: {"description": "Ended."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def delete_feed(feed_id: PathId, caller: LoggedInCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For its owner. The address leads nowhere from then on."""

    def ended(_nothing: None) -> Answer:
        return Answer(204)

    await service.delete_feed(db, feed_id=feed_id, by=caller, once=once.answering(ended))
    return send(ended(None))


@router.get(
    "/calendar/{feed_token}.ics",
    operation_id="readCalendarFeed",
    summary="A feed's bookings, for calendar programs",
    responses={**_CALENDAR, **refusals(400, 404)},
    response_class=Response,
)
async def read_feed(feed_token: FeedToken, request: Request, state: StateDep) -> Response:
    """Needs no log-in: the address is the secret. 90 days back and 400 ahead; cancelled bookings stay, and say so.

    404 alike for an unknown and a deleted feed, a suspended owner, and a room's feed whose owner is no admin any more.
    """
    document = await service.read_feed(state.db, token=feed_token, organizer=_organizer(state.settings), now=clock.now())
    return _sent(request, document)


@router.get(
    "/calendar/{feed_token}/freebusy.ics",
    operation_id="readCalendarFreeBusy",
    summary="When a feed's owner or room is busy",
    responses={**_CALENDAR, **refusals(400, 404)},
    response_class=Response,
)
async def read_busy(feed_token: FeedToken, request: Request, state: StateDep) -> Response:
    """Times and nothing else. Busy is whatever takes the time: bookings, closures, and holds until they lapse."""
    document = await service.read_busy(state.db, token=feed_token, organizer=_organizer(state.settings), now=clock.now())
    return _sent(request, document)
