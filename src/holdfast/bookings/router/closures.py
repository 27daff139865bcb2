"""The routes that close rooms and hosts' time (api.md sections 2 and 5), and that of ending an account."""

from fastapi import APIRouter, Request, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.rules import Closure
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.core.callers import Caller
from holdfast.db.database import Database
from holdfast.idempotency import Once
from holdfast.web.access import AdminCaller, AnyCaller, LoggedInCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, refusals
from holdfast.web.paging import Page, PageDep, page_answer
from holdfast.web.preconditions import IfMatch
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep, StateDep

rooms = APIRouter(route_class=Route, tags=["rooms"])
hosts = APIRouter(route_class=Route, tags=["hosts"])
account = APIRouter(route_class=Route, tags=["accounts"])
_GONE = {204: {"description": "Open again."}, **refusals(400, 401, 403, 404, 409, 422)}


async def _close(place: service.Place, body: schemas.NewClosure, caller: Caller, db: Database, once: Once) -> Response:
    def created(closure: Closure) -> Answer:
        location = f"/{place.kind}s/{place.id}/closures/{closure.id}"
        return answer({"closure": closure.as_json()}, status=201, location=location)

    closure = await service.close(
        db,
        place=place,
        start=body.start,
        end=body.end,
        reason=body.reason,
        cancel_bookings=body.cancelBookings,
        now=clock.now(),
        by=caller,
        once=once.answering(created),
    )
    return send(created(closure))


async def _list(place: service.Place, request: Request, caller: Caller, db: Database, page: Page) -> Response:
    found, total = await service.list_closures(db, place=place, offset=page.offset, limit=page.size, by=caller)
    return send(page_answer(request, "closures", [closure.as_json() for closure in found], page, total))


def _nothing(_result: None) -> Answer:
    return Answer(204)


async def _reopen(place: service.Place, closure_id: PathId, caller: Caller, db: Database, once: Once) -> Response:
    await service.reopen(db, place=place, closure_id=closure_id, now=clock.now(), by=caller, once=once.answering(_nothing))
    return send(_nothing(None))


@rooms.post(
    "/rooms/{room_id}/closures",
    operation_id="closeRoom",
    summary="Close a room for a time",
    responses=changes(schemas.ClosureAnswer, 404, status=201),
    status_code=201,
)
async def close_room(room_id: PathId, body: schemas.NewClosure, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """409 `BOOKINGS_IN_THE_WAY` names what stands there; `cancelBookings: true` cancels it in the same transaction."""
    return await _close(service.Place("room", room_id), body, caller, db, once)


@rooms.get(
    "/rooms/{room_id}/closures",
    operation_id="listClosures",
    summary="A room's closures",
    responses=reads(schemas.ClosuresAnswer, 400, 403, 404),
)
async def list_closures(room_id: PathId, request: Request, caller: AdminCaller, db: DatabaseDep, page: PageDep) -> Response:
    """Soonest first, past ones too."""
    return await _list(service.Place("room", room_id), request, caller, db, page)


@rooms.delete(
    "/rooms/{room_id}/closures/{closure_id}",
    operation_id="reopenRoom",
    summary="Delete a closure",
    responses=_GONE,
    status_code=204,
)
async def reopen_room(room_id: PathId, closure_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """The time can be booked again from then on; those who wait for it come first."""
    return await _reopen(service.Place("room", room_id), closure_id, caller, db, once)


@hosts.post(
    "/hosts/{host_id}/closures",
    operation_id="closeHost",
    summary="Close a host's time",
    responses=changes(schemas.ClosureAnswer, 404, status=201),
    status_code=201,
)
async def close_host(host_id: PathId, body: schemas.NewClosure, caller: AnyCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For the host and for admins; as for rooms."""
    return await _close(service.Place("host", host_id), body, caller, db, once)


@hosts.get(
    "/hosts/{host_id}/closures",
    operation_id="listHostClosures",
    summary="A host's closures",
    responses=reads(schemas.ClosuresAnswer, 400, 403, 404),
)
async def list_host_closures(host_id: PathId, request: Request, caller: AnyCaller, db: DatabaseDep, page: PageDep) -> Response:
    """For the host and for admins; soonest first, past ones too."""
    return await _list(service.Place("host", host_id), request, caller, db, page)


@hosts.delete(
    "/hosts/{host_id}/closures/{closure_id}",
    operation_id="reopenHost",
    summary="Delete a closure of a host",
    responses=_GONE,
    status_code=204,
)
async def reopen_host(host_id: PathId, closure_id: PathId, caller: AnyCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For the host and for admins; those who wait for the time come first."""
    return await _reopen(service.Place("host", host_id), closure_id, caller, db, once)


@account.delete(
    "/users/me",
    operation_id="deleteMe",
    summary="Delete your account",
    responses={204: {"description": "Deleted."}, **refusals(400, 401, 403, 404, 409, 412, 422)},
    status_code=204,
)
async def delete_me(caller: LoggedInCaller, state: StateDep, once: OnceDep, if_match: IfMatch = None) -> Response:
    """Future bookings (a host's guests' too) are cancelled, all tokens end, name and e-mail are emptied; the past stays."""
    await service.end_account(
        state.db,
        state.revocations,
        user_id=caller.own_id,
        if_match=if_match,
        now=clock.now(),
        by=caller,
        once=once.answering(_nothing),
    )
    return send(_nothing(None))
