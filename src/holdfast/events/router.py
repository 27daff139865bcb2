"""The routes of events (api.md section 6); what gives or takes seats is in `bookings`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from holdfast.core.answers import Answer, answer
from holdfast.events import schemas, service
from holdfast.events.rules import Event
from holdfast.web.access import AdminCaller, AnyCaller
from holdfast.web.errors import send
from holdfast.web.fields import Instant, PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one, refusals
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["events"])

Search = Annotated[Annotated[str, Text(200)] | None, Query(description="Part of the name, description or venue.")]
From = Annotated[Instant | None, Query(alias="from", description="Events that begin then or later.")]
To = Annotated[Instant | None, Query(alias="to", description="Events that begin before that.")]


def _shown(event: Event) -> Answer:
    return answer({"event": event.as_json()}, etag=event.etag)


def _created(event: Event) -> Answer:
    return answer({"event": event.as_json()}, status=201, location=f"/events/{event.id}", etag=event.etag)


@router.post(
    "/events",
    operation_id="createEvent",
    summary="Make an event",
    responses=changes(schemas.EventAnswer, status=201),
    status_code=201,
)
async def create_event(body: schemas.NewEvent, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For admins. Add seats next: POST /events/{id}/seats."""
    event = await service.create_event(db, values=schemas.event_values(body), by=caller, once=once.answering(_created))
    return send(_created(event))


@router.get(
    "/events",
    operation_id="listEvents",
    summary="All events",
    responses=reads(schemas.EventsAnswer, 400),
)
async def list_events(
    request: Request,
    _caller: AnyCaller,
    db: DatabaseDep,
    page: PageDep,
    q: Search = None,
    start: From = None,
    end: To = None,
) -> Response:
    """Soonest first, past ones too, with their counts."""
    events, total = await service.list_events(db, q=q, start=start, end=end, offset=page.offset, limit=page.size)
    return send(page_answer(request, "events", [event.as_json() for event in events], page, total))


@router.get(
    "/events/{event_id}",
    operation_id="getEvent",
    summary="One event",
    responses=reads_one(schemas.EventAnswer, 400, 404),
)
async def get_event(event_id: PathId, request: Request, _caller: AnyCaller, db: DatabaseDep) -> Response:
    """Its counts are of this moment, and so is its ETag; `If-Match` looks at the event alone."""
    return conditional(request, _shown(await service.find_event(db, event_id)))


@router.patch(
    "/events/{event_id}",
    operation_id="changeEvent",
    summary="Change an event",
    responses=changes(schemas.EventAnswer, 404, 412),
)
async def change_event(
    event_id: PathId,
    body: schemas.EventChange,
    caller: AdminCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Another time moves the bookings with it."""
    event = await service.change_event(
        db,
        event_id=event_id,
        changes=schemas.event_values(body),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(event))


@router.delete(
    "/events/{event_id}",
    operation_id="archiveEvent",
    summary="Take an event out of every list",
    responses={204: {"description": "Archived."}, **refusals(400, 401, 403, 404, 409, 412, 422)},
    status_code=204,
)
async def archive_event(
    event_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep, if_match: IfMatch = None
) -> Response:
    """409 `EVENT_IN_USE` while bookings or holds stand. Its cancelled bookings stay readable."""

    def archived(_nothing: None) -> Answer:
        return Answer(204)

    await service.archive_event(db, event_id=event_id, if_match=if_match, by=caller, once=once.answering(archived))
    return send(archived(None))


@router.get(
    "/events/{event_id}/seats",
    operation_id="listSeats",
    summary="An event's seat map",
    responses=reads_one(schemas.SeatsAnswer, 400, 404),
)
async def list_seats(event_id: PathId, request: Request, caller: AnyCaller, db: DatabaseDep) -> Response:
    """Every seat with its status, in the order in which they were made."""
    body, etag = await service.seat_map(db, event_id=event_id, user_id=caller.user_id)
    return conditional(request, Answer(200, body, {"ETag": etag}))
