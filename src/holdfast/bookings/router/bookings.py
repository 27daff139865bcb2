"""The routes of bookings (api.md section 3), each at its contract path too."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.errors import InLine
from holdfast.bookings.router.context import context_of
from holdfast.bookings.rules import Booking, Ticket
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.core.callers import Caller
from holdfast.idempotency import Once
from holdfast.web.access import AdminCaller, AnyCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import Id, Instant, PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one
from holdfast.web.paging import OptionalPageDep, PageDep, cursor_answer, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route, at_both_paths
from holdfast.web.state import DatabaseDep, State, StateDep

router = APIRouter(route_class=Route, tags=["bookings"])

Status = Annotated[Literal["active", "cancelled"] | None, Query()]
From = Annotated[Instant | None, Query(alias="from", description="Bookings that begin then or later.")]
To = Annotated[Instant | None, Query(alias="to", description="Bookings that begin before that.")]


_IN_LINE: dict[int | str, dict[str, Any]] = {
    202: {"description": "In line: `Location` says where to look.", "model": schemas.RequestAnswer},
}
Prefer = Annotated[
    Annotated[str, Text(200)] | None,
    Header(description="`respond-async`: do not wait for your turn in a fair queue, answer 202 at once (RFC 7240)."),
]


def _shown(booking: Booking) -> Answer:
    return answer({"booking": booking.as_json()}, etag=booking.etag)


def _created(booking: Booking) -> Answer:
    return answer({"booking": booking.as_json()}, status=201, location=f"/bookings/{booking.id}", etag=booking.etag)


def _wanted(body: schemas.NewBooking, user_id: UUID) -> service.NewBooking:
    return service.NewBooking(
        user_id=user_id,
        selection=None if body.holdToken is not None else body.selection(),
        hold_id=body.holdToken,
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
    summary="Book one slot, several, a stretch of time, seats, or what you hold",
    responses={**changes(schemas.BookingAnswer, 404, 410, 502, status=201), **_IN_LINE},
    status_code=201,
)
async def create_booking(
    request: Request,
    body: schemas.NewBooking,
    caller: UserCaller,
    state: StateDep,
    once: OnceDep,
    prefer: Prefer = None,
) -> Response:
    """For users. A taken slot is 409 `SLOT_ALREADY_BOOKED`, with free slots of the same room and date nearby.

    Where the resource has a fair queue, it waits for its turn: 202 with `Prefer: respond-async`, or after ten seconds.
    """
    return await _book(request, state, _wanted(body, caller.own_id), caller, once, prefer)


@router.post(
    "/users/{user_id}/bookings",
    operation_id="createBookingForUser",
    summary="Book on behalf of a user (the front desk)",
    responses={**changes(schemas.BookingAnswer, 404, 410, 502, status=201), **_IN_LINE},
    status_code=201,
)
async def create_booking_for_user(
    request: Request,
    user_id: PathId,
    body: schemas.NewBooking,
    caller: AdminCaller,
    state: StateDep,
    once: OnceDep,
    prefer: Prefer = None,
) -> Response:
    """For admins; the user's limits hold here too."""
    return await _book(request, state, _wanted(body, user_id), caller, once, prefer)


async def _book(
    request: Request, state: State, wanted: service.NewBooking, caller: Caller, once: Once, prefer: str | None
) -> Response:
    # A link is asked for by whoever waits for it: such a booking is not left to itself.
    respond_async = _asks_for_async(prefer) and not wanted.wants_link
    shape = partial(_booked_or_waiting, applied=respond_async)
    answering = once.answering(shape)
    context = context_of(state)
    try:
        booked: Booking | Ticket = await service.book(context, wanted=wanted, now=clock.now(), by=caller, once=answering)
    except InLine as line:
        patience = service.Patience(respond_async, request.is_disconnected)
        booked = await service.book_in_turn(
            context, line=line.resource_no, wanted=wanted, by=caller, once=answering, patience=patience
        )
    return send(shape(booked))


def _asks_for_async(prefer: str | None) -> bool:
    """Whether the `Prefer` header (RFC 7240) names respond-async."""
    return any(one.split(";")[0].strip().lower() == "respond-async" for one in (prefer or "").split(","))


def _booked_or_waiting(booked: Booking | Ticket, *, applied: bool) -> Answer:
    """`applied`: the client asked not to wait, and is told that it was heard (RFC 7240 section 3)."""
    if isinstance(booked, Ticket):
        location = f"/booking-requests/{booked.id}"
        told = answer({"bookingRequest": booked.as_json()}, status=202, location=location)
        return replace(told, headers={**told.headers, "Preference-Applied": "respond-async"}) if applied else told
    return _created(booked)


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
    host_id: Annotated[Id | None, Query(alias="hostId")] = None,
    event_id: Annotated[Id | None, Query(alias="eventId")] = None,
    start: From = None,
    end: To = None,
    cursor: Annotated[
        Annotated[str, Text(500)] | None,
        Query(description="Walk instead of paging: empty to begin, then `nextCursor` of the answer before."),
    ] = None,
) -> Response:
    """For admins; newest first."""
    filters = {
        "status": status,
        "user_id": user_id,
        "resource_ids": [one for one in (room_id, host_id, event_id) if one is not None],
        "start": start,
        "end": end,
    }
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
    """For its owner, the host whose time it takes, and admins."""
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
    summary="Cancel a booking as its owner, its host or an admin",
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
        others_too=True,
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
    state: StateDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """All or nothing: it has the new time, or keeps the old one. May overlap its own old time."""
    booking = await service.reschedule_booking(
        context_of(state),
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
