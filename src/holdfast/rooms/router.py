"""The routes of rooms (api.md section 2), each at its contract path too."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.core.schedules import MINUTES_A_DAY
from holdfast.resources import service as resources
from holdfast.resources.router import SlotDate, SlotsFrom, SlotsStatus, SlotsTo, slot_range, slots_answer
from holdfast.resources.rules import ResourceSchedule, make_schedule
from holdfast.resources.schemas import ScheduleAnswer, ScheduleReplacement, SlotsAnswer
from holdfast.rooms import schemas, service
from holdfast.rooms.errors import RoomNotFound
from holdfast.rooms.rules import Room
from holdfast.web.access import AdminCaller, AnyCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one, refusals
from holdfast.web.paging import OptionalPageDep, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route, at_both_paths
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["rooms"])
#: The hottest route, apart, so that it can be mounted ahead of all others.
slots = APIRouter(route_class=Route, tags=["rooms"])

_DEFAULT_SLOT_MINUTES = 30
Wanted = Annotated[Annotated[str, Text(50)] | None, Query(description="room, bay, desk, court, ...")]
MinCapacity = Annotated[int | None, Query(alias="minCapacity", ge=1, le=(1 << 31) - 1)]
Features = Annotated[list[Annotated[str, Text(100)]] | None, Query(alias="feature", description="Repeat it: all are needed.")]
Search = Annotated[Annotated[str, Text(200)] | None, Query(description="Part of the name, description or location.")]


def _shown(room: Room) -> Answer:
    return answer({"room": room.as_json()}, etag=room.etag)


def _created(room: Room) -> Answer:
    return answer({"room": room.as_json()}, status=201, location=f"/rooms/{room.id}", etag=room.etag)


def _schedule_shown(schedule: ResourceSchedule) -> Answer:
    return answer({"schedule": schedule.as_json()}, etag=schedule.etag)


def _schedule_created(schedule: ResourceSchedule) -> Answer:
    location = f"/rooms/{schedule.owner.id}/schedule"
    return answer({"schedule": schedule.as_json()}, status=201, location=location, etag=schedule.etag)


@at_both_paths(
    router,
    "/rooms",
    "/rooms/list",
    method="GET",
    operation_id="listRooms",
    summary="All rooms",
    responses=reads(schemas.RoomsAnswer, 400),
)
async def list_rooms(
    request: Request,
    _caller: AnyCaller,
    db: DatabaseDep,
    page: OptionalPageDep,
    kind: Wanted = None,
    min_capacity: MinCapacity = None,
    feature: Features = None,
    q: Search = None,
) -> Response:
    """In the order in which they were made; whole unless `page` is given."""
    rooms, total = await service.list_rooms(
        db,
        kind=kind,
        min_capacity=min_capacity,
        features=feature or (),
        q=q,
        offset=page.offset if page else 0,
        limit=page.size if page else None,
    )
    items = [room.as_json() for room in rooms]
    if page is not None:
        return send(page_answer(request, "rooms", items, page, total))
    return send(answer({"rooms": items}))


@at_both_paths(
    router,
    "/rooms",
    "/rooms/create",
    method="POST",
    operation_id="createRoom",
    summary="Make a room",
    responses=changes(schemas.RoomAnswer, status=201),
    status_code=201,
)
async def create_room(body: schemas.NewRoom, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For admins. A room has no slots before it has a schedule."""
    room = await service.create_room(db, values=schemas.room_values(body), by=caller, once=once.answering(_created))
    return send(_created(room))


@router.get(
    "/rooms/{room_id}",
    operation_id="getRoom",
    summary="One room",
    responses=reads_one(schemas.RoomAnswer, 400, 404),
)
async def get_room(room_id: PathId, request: Request, _caller: AnyCaller, db: DatabaseDep) -> Response:
    """Its ETag serves `If-Match` and `If-None-Match`."""
    return conditional(request, _shown(await service.get_room(db, room_id)))


@router.patch(
    "/rooms/{room_id}",
    operation_id="changeRoom",
    summary="Change a room",
    responses=changes(schemas.RoomAnswer, 404, 412),
)
async def change_room(
    room_id: PathId,
    body: schemas.RoomChange,
    caller: AdminCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Another time zone moves the slots, not the bookings."""
    room = await service.change_room(
        db,
        room_id=room_id,
        changes=schemas.room_values(body),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(room))


@router.delete(
    "/rooms/{room_id}",
    operation_id="archiveRoom",
    summary="Take a room out of service",
    responses={204: {"description": "Archived."}, **refusals(400, 401, 403, 404, 409, 412, 422)},
    status_code=204,
)
async def archive_room(
    room_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep, if_match: IfMatch = None
) -> Response:
    """Out of every list from then on; its bookings stay readable. 409 `ROOM_IN_USE` while bookings are ahead."""

    def archived(_nothing: None) -> Answer:
        return Answer(204)

    await service.archive_room(db, room_id=room_id, if_match=if_match, now=clock.now(), by=caller, once=once.answering(archived))
    return send(archived(None))


@router.post(
    "/rooms/{room_id}/schedule/create",
    operation_id="createSchedule",
    summary="Make a room's schedule, once",
    responses=changes(ScheduleAnswer, 404, status=201),
    status_code=201,
)
async def create_schedule(
    room_id: PathId, body: schemas.NewSchedule, caller: AdminCaller, db: DatabaseDep, once: OnceDep
) -> Response:
    """Slots of 30 minutes in one window. A second time is 409 `SCHEDULE_EXISTS`: PUT replaces."""
    made = await service.create_schedule(
        db,
        room_id=room_id,
        schedule=make_schedule(_DEFAULT_SLOT_MINUTES, body.windows()),
        by=caller,
        once=once.answering(_schedule_created),
    )
    return send(_schedule_created(made))


@router.get(
    "/rooms/{room_id}/schedule",
    operation_id="getSchedule",
    summary="A room's schedule",
    responses=reads_one(ScheduleAnswer, 400, 404),
)
async def get_schedule(room_id: PathId, request: Request, _caller: AnyCaller, db: DatabaseDep) -> Response:
    """404 `SCHEDULE_NOT_FOUND` while there is none."""
    return conditional(request, _schedule_shown(await service.get_schedule(db, room_id)))


@router.put(
    "/rooms/{room_id}/schedule",
    operation_id="putSchedule",
    summary="Make or replace a room's schedule",
    responses=changes(ScheduleAnswer, 404, 412),
)
async def put_schedule(
    room_id: PathId,
    body: ScheduleReplacement,
    caller: AdminCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Bookings that stand keep their time, and no new slot overlaps them."""
    made = await service.put_schedule(
        db,
        room_id=room_id,
        schedule=make_schedule(min(body.slotMinutes, MINUTES_A_DAY), body.as_windows()),
        if_match=if_match,
        by=caller,
        once=once.answering(_schedule_shown),
    )
    return send(_schedule_shown(made))


@at_both_paths(
    slots,
    "/rooms/{room_id}/slots",
    "/rooms/{room_id}/slots/list",
    method="GET",
    operation_id="listSlots",
    summary="A room's slots of a date",
    responses=reads_one(SlotsAnswer, 400, 404),
)
async def list_slots(
    room_id: PathId,
    request: Request,
    caller: AnyCaller,
    db: DatabaseDep,
    day: SlotDate = None,
    from_: SlotsFrom = None,
    to: SlotsTo = None,
    status: SlotsStatus = "free",
) -> Response:
    """Free slots, past ones too, soonest first. Ids are stable for ever, and stored only by a booking."""
    if day is not None and from_ is None and to is None and status == "free":
        body, etag = await service.free_day(db, room_id, day)
        return conditional(request, Answer(200, body, {"ETag": etag}))
    found = await resources.list_slots(
        db,
        kind="room",
        resource_id=room_id,
        wanted=slot_range(day, from_, to),
        user_id=caller.user_id,
        now=clock.now(),
        refusal=RoomNotFound,
    )
    return conditional(request, slots_answer(found, "room", room_id, status))
