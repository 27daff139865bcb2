"""The routes of taking and giving back (api.md sections 2 and 3), each at its contract path too."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.rules import Booking, Closure
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.web.access import AdminCaller, AnyCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import Id, Instant, PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one, refusals
from holdfast.web.paging import OptionalPageDep, PageDep, cursor_answer, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route, at_both_paths
from holdfast.web.state import DatabaseDep, StateDep

router = APIRouter(route_class=Route, tags=["bookings"])
closures = APIRouter(route_class=Route, tags=["rooms"])
account = APIRouter(route_class=Route, tags=["accounts"])

Status = Annotated[Literal["active", "cancelled"] | None, Query()]
From = Annotated[Instant | None, Query(alias="from", description="Bookings that begin then or later.")]
To = Annotated[Instant | None, Query(alias="to", description="Bookings that begin before that.")]


def _shown(booking: Booking) -> Answer:
    return answer({"booking": booking.as_json()}, etag=booking.etag)


def _created(booking: Booking) -> Answer:
    return answer({"booking": booking.as_json()}, status=201, location=f"/bookings/{booking.id}", etag=booking.etag)


def _request(body: schemas.NewBooking, user_id: UUID) -> service.BookingRequest:
    return service.BookingRequest(
        user_id=user_id,
        selection=body.selection(),
        title=body.title,
        notes=body.notes,
        wants_link=bool(body.createConferenceLink),
    )


@at_both_paths(
    router,
    "/bookings",
    "/bookings/create",
    method="POST",
    operation_id="createBooking",
    summary="Book one slot, several, or a stretch of time",
    responses=changes(schemas.BookingAnswer, 404, 502, status=201),
    status_code=201,
)
async def create_booking(body: schemas.NewBooking, caller: UserCaller, state: StateDep, once: OnceDep) -> Response:
    """For users. A taken slot is 409 `SLOT_ALREADY_BOOKED`, with free slots of the same room and date nearby."""
    booking = await service.book(
        state.db,
        state.conferencing,
        request=_request(body, caller.own_id),
        now=clock.now(),
        by=caller,
        once=once.answering(_created),
    )
    return send(_created(booking))


@router.post(
    "/users/{user_id}/bookings",
    operation_id="createBookingForUser",
    summary="Book on behalf of a user (the front desk)",
    responses=changes(schemas.BookingAnswer, 404, 502, status=201),
    status_code=201,
)
async def create_booking_for_user(
    user_id: PathId, body: schemas.NewBooking, caller: AdminCaller, state: StateDep, once: OnceDep
) -> Response:
    """For admins; the user's limits hold here too."""
    booking = await service.book(
        state.db,
        state.conferencing,
        request=_request(body, user_id),
        now=clock.now(),
        by=caller,
        once=once.answering(_created),
    )
    return send(_created(booking))


@at_both_paths(
    router,
    "/bookings",
    "/bookings/list",
    method="GET",
    operation_id="listBookings",
    summary="Everybody's bookings",
    responses=reads(schemas.BookingsAnswer, 400, 403),
)
async def list_bookings(
    request: Request,
    _caller: AdminCaller,
    db: DatabaseDep,
    page: PageDep,
    status: Status = None,
    user_id: Annotated[Id | None, Query(alias="userId")] = None,
    room_id: Annotated[Id | None, Query(alias="roomId")] = None,
    start: From = None,
    end: To = None,
    cursor: Annotated[
        Annotated[str, Text(500)] | None,
        Query(description="Walk instead of paging: empty to begin, then `nextCursor` of the answer before."),
    ] = None,
) -> Response:
    """For admins; newest first."""
    filters = {"status": status, "user_id": user_id, "resource_id": room_id, "start": start, "end": end}
    if cursor is not None:
        found, following = await service.walk_bookings(db, cursor=cursor, limit=page.size, **filters)
        return send(cursor_answer(request, "bookings", [one.as_json() for one in found], following))
    found, total = await service.list_bookings(db, offset=page.offset, limit=page.size, **filters)
    return send(page_answer(request, "bookings", [one.as_json() for one in found], page, total))


@router.get(
    "/bookings/my",
    operation_id="listMyBookings",
    summary="Your own bookings",
    responses=reads(schemas.BookingsAnswer, 400, 403),
)
async def list_my_bookings(
    request: Request,
    caller: UserCaller,
    db: DatabaseDep,
    page: OptionalPageDep,
    scope: Annotated[
        Literal["future", "past", "all"], Query(description="By when they begin: from now on, before, or any.")
    ] = "future",
    status: Status = None,
    start: From = None,
    end: To = None,
) -> Response:
    """From now on, cancelled ones included, soonest first; whole unless `page` is given."""
    now = clock.now()
    since = max(filter(None, (start, now if scope == "future" else None)), default=None)
    bookings, total = await service.list_own_bookings(
        db,
        user_id=caller.own_id,
        status=status,
        start=since,
        end=end,
        before=now if scope == "past" else None,
        offset=page.offset if page else 0,
        limit=page.size if page else None,
    )
    items = [booking.as_json() for booking in bookings]
    if page is not None:
        return send(page_answer(request, "bookings", items, page, total))
    return send(answer({"bookings": items}))


@router.get(
    "/bookings/{booking_id}",
    operation_id="getBooking",
    summary="One booking",
    responses=reads_one(schemas.BookingAnswer, 400, 403, 404),
)
async def get_booking(booking_id: PathId, request: Request, caller: AnyCaller, db: DatabaseDep) -> Response:
    """For its owner and for admins."""
    return conditional(request, _shown(await service.get_booking(db, booking_id=booking_id, by=caller)))


@router.post(
    "/bookings/{booking_id}/cancel",
    operation_id="cancelBooking",
    summary="Cancel your booking",
    responses=changes(schemas.BookingAnswer, 404),
)
async def cancel_booking(booking_id: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """May be repeated. Everybody but the owner is 403, an admin too (who has DELETE), also when it is cancelled."""
    booking = await service.cancel_booking(db, booking_id=booking_id, now=clock.now(), by=caller, once=once.answering(_shown))
    return send(_shown(booking))


@router.delete(
    "/bookings/{booking_id}",
    operation_id="deleteBooking",
    summary="Cancel a booking as its owner or as an admin",
    responses=changes(schemas.BookingAnswer, 404, 412),
)
async def delete_booking(
    booking_id: PathId, caller: AnyCaller, db: DatabaseDep, once: OnceDep, if_match: IfMatch = None
) -> Response:
    """The same effect as cancel; the notice of the policy binds the owner only. The booking stays readable."""
    booking = await service.cancel_booking(
        db,
        booking_id=booking_id,
        now=clock.now(),
        by=caller,
        once=once.answering(_shown),
        admin_too=True,
        if_match=if_match,
    )
    return send(_shown(booking))


@router.post(
    "/bookings/{booking_id}/reschedule",
    operation_id="rescheduleBooking",
    summary="Move your booking",
    responses=changes(schemas.BookingAnswer, 404, 412),
)
async def reschedule_booking(
    booking_id: PathId,
    body: schemas.Move,
    caller: UserCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """All or nothing: it has the new time, or keeps the old one. May overlap its own old time."""
    booking = await service.reschedule_booking(
        db,
        booking_id=booking_id,
        selection=body.selection(),
        now=clock.now(),
        by=caller,
        once=once.answering(_shown),
        if_match=if_match,
    )
    return send(_shown(booking))


@router.patch(
    "/bookings/{booking_id}",
    operation_id="changeBooking",
    summary="Change your booking's title or notes",
    responses=changes(schemas.BookingAnswer, 404, 412),
)
async def change_booking(
    booking_id: PathId,
    body: schemas.BookingChange,
    caller: UserCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Its time is moved by reschedule."""
    booking = await service.change_booking(
        db,
        booking_id=booking_id,
        changes=body.model_dump(exclude_unset=True),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(booking))


@closures.post(
    "/rooms/{room_id}/closures",
    operation_id="closeRoom",
    summary="Close a room for a time",
    responses=changes(schemas.ClosureAnswer, 404, status=201),
    status_code=201,
)
async def close_room(room_id: PathId, body: schemas.NewClosure, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """409 `BOOKINGS_IN_THE_WAY` names what stands there; `cancelBookings: true` cancels it in the same transaction."""

    def created(closure: Closure) -> Answer:
        location = f"/rooms/{room_id}/closures/{closure.id}"
        return answer({"closure": closure.as_json()}, status=201, location=location)

    closure = await service.close_room(
        db,
        room_id=room_id,
        start=body.start,
        end=body.end,
        reason=body.reason,
        cancel_bookings=body.cancelBookings,
        now=clock.now(),
        by=caller,
        once=once.answering(created),
    )
    return send(created(closure))


@closures.get(
    "/rooms/{room_id}/closures",
    operation_id="listClosures",
    summary="A room's closures",
    responses=reads(schemas.ClosuresAnswer, 400, 403, 404),
)
async def list_closures(room_id: PathId, request: Request, _caller: AdminCaller, db: DatabaseDep, page: PageDep) -> Response:
    """Soonest first, past ones too."""
    found, total = await service.list_closures(db, room_id=room_id, offset=page.offset, limit=page.size)
    return send(page_answer(request, "closures", [closure.as_json() for closure in found], page, total))


@closures.delete(
    "/rooms/{room_id}/closures/{closure_id}",
    operation_id="reopenRoom",
    summary="Delete a closure",
    responses={204: {"description": "Open again."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def reopen_room(room_id: PathId, closure_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """The time can be booked again from then on."""

    def reopened(_nothing: None) -> Answer:
        return Answer(204)

    await service.reopen_room(db, room_id=room_id, closure_id=closure_id, by=caller, once=once.answering(reopened))
    return send(reopened(None))


@account.delete(
    "/users/me",
    operation_id="deleteMe",
    summary="Delete your account",
    responses={204: {"description": "Deleted."}, **refusals(400, 401, 404, 409, 412, 422)},
    status_code=204,
)
async def delete_me(caller: AnyCaller, state: StateDep, once: OnceDep, if_match: IfMatch = None) -> Response:
    """Future bookings are cancelled, all tokens end, name, e-mail and password are emptied; past bookings stay."""

    def deleted(_nothing: None) -> Answer:
        return Answer(204)

    await service.end_account(
        state.db,
        state.revocations,
        user_id=caller.own_id,
        if_match=if_match,
        now=clock.now(),
        by=caller,
        once=once.answering(deleted),
    )
    return send(deleted(None))
