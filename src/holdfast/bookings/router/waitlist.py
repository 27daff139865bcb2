"""The routes of the waitlist (api.md section 6)."""

from fastapi import APIRouter, Request, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.rules import ByQuantity, WaitlistEntry
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.web.access import AdminCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, refusals
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["waitlist"])


def _created(entry: WaitlistEntry) -> Answer:
    return answer({"entry": entry.as_json()}, status=201, location=f"/waitlist/{entry.id}")


@router.post(
    "/waitlist",
    operation_id="joinWaitlist",
    summary="Wait for seats of an event, or for a slot",
    responses=changes(schemas.EntryAnswer, 404, status=201),
    status_code=201,
)
async def join_waitlist(body: schemas.NewWait, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For users. 409 `STILL_AVAILABLE` while it could be had. What gets free is offered in the order of the line: a hold."""
    entry = await service.join_waitlist(
        db,
        wanted=body.wanted(),
        auto_book=body.autoBook,
        now=clock.now(),
        by=caller,
        once=once.answering(_created),
    )
    return send(_created(entry))


@router.post(
    "/events/{event_id}/waitlist",
    operation_id="joinEventWaitlist",
    summary="Wait for seats of this event",
    responses=changes(schemas.EntryAnswer, 404, status=201),
    status_code=201,
)
async def join_event_waitlist(
    event_id: PathId, body: schemas.EventWait, caller: UserCaller, db: DatabaseDep, once: OnceDep
) -> Response:
    """As POST /waitlist."""
    entry = await service.join_waitlist(
        db,
        wanted=ByQuantity(event_id, body.quantity),
        auto_book=body.autoBook,
        now=clock.now(),
        by=caller,
        once=once.answering(_created),
    )
    return send(_created(entry))


@router.get(
    "/events/{event_id}/waitlist",
    operation_id="listWaitlist",
    summary="Who waits for an event",
    responses=reads(schemas.EntriesAnswer, 400, 403, 404),
)
async def list_waitlist(event_id: PathId, request: Request, _caller: AdminCaller, db: DatabaseDep, page: PageDep) -> Response:
    """For admins: those who wait and those who have an offer, first come first."""
    entries, total = await service.list_entries(db, event_id=event_id, offset=page.offset, limit=page.size)
    items = [{**entry.as_json(), "userId": str(entry.user_id), "holdToken": None} for entry in entries]
    return send(page_answer(request, "entries", items, page, total))


@router.get(
    "/waitlist/my",
    operation_id="listMyWaitlistEntries",
    summary="What you wait for",
    responses=reads(schemas.EntriesAnswer, 403),
)
async def list_own_entries(caller: UserCaller, db: DatabaseDep) -> Response:
    """The latest first, ended ones too."""
    entries = await service.list_own_entries(db, by=caller)
    return send(answer({"entries": [entry.as_json() for entry in entries]}))


@router.get(
    "/waitlist/{entry_id}",
    operation_id="getWaitlistEntry",
    summary="Your place in a line",
    responses=reads(schemas.EntryAnswer, 400, 403, 404),
)
async def get_entry(entry_id: PathId, caller: UserCaller, db: DatabaseDep) -> Response:
    """`position` is of this moment. Once offered, it has the `holdToken` to book with before `expiresAt`."""
    entry = await service.get_entry(db, entry_id=entry_id, by=caller)
    return send(answer({"entry": entry.as_json()}))


@router.delete(
    "/waitlist/{entry_id}",
    operation_id="leaveWaitlist",
    summary="Leave a line, or decline an offer",
    responses={204: {"description": "Left."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def leave_waitlist(entry_id: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """May be repeated; you can join again, at the end of the line."""

    def left(_nothing: None) -> Answer:
        return Answer(204)

    await service.leave_waitlist(db, entry_id=entry_id, now=clock.now(), by=caller, once=once.answering(left))
    return send(left(None))
