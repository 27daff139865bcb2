"""The routes that add and block seats (api.md section 6), show one slot and delete a published one (section 5)."""

from typing import Any

from fastapi import APIRouter, Response

from holdfast.bookings import schemas, service
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.events.schemas import NewSeats, SeatsAnswer, SeatsChange
from holdfast.web.access import AdminCaller, AnyCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, refusals
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

events = APIRouter(route_class=Route, tags=["events"])
slots = APIRouter(route_class=Route, tags=["hosts"])


@events.post(
    "/events/{event_id}/seats",
    operation_id="addSeats",
    summary="Add seats",
    responses=changes(SeatsAnswer, 404, status=201),
    status_code=201,
)
async def add_seats(event_id: PathId, body: NewSeats, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """By sections and rows, by labels, or a plain count; those that exist are skipped. Those who wait come first."""

    def created(seats: list[dict[str, Any]]) -> Answer:
        return answer({"seats": seats}, status=201, location=f"/events/{event_id}/seats")

    seats = await service.add_seats(
        db, event_id=event_id, seats=body.new_seats(), now=clock.now(), by=caller, once=once.answering(created)
    )
    return send(created(seats))


@events.patch(
    "/events/{event_id}/seats",
    operation_id="blockSeats",
    summary="Block seats, or open them again",
    responses=changes(SeatsAnswer, 404),
)
async def block_seats(event_id: PathId, body: SeatsChange, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """409 `SEATS_TAKEN` with those that are booked or held: then nothing is blocked. Opened ones go to who waits first."""

    def changed(seats: list[dict[str, Any]]) -> Answer:
        return answer({"seats": seats})

    seats = await service.block_seats(
        db,
        event_id=event_id,
        labels=body.labels,
        blocked=body.blocked,
        now=clock.now(),
        by=caller,
        once=once.answering(changed),
    )
    return send(changed(seats))


@slots.get(
    "/slots/{slot_id}",
    operation_id="getSlot",
    summary="One slot of a room or a host",
    responses=reads(schemas.OneSlotAnswer, 400, 404),
)
async def get_slot(slot_id: PathId, caller: AnyCaller, db: DatabaseDep) -> Response:
    """With its status, whether it is yours, and why it cannot be booked."""
    return send(answer({"slot": await service.get_slot(db, slot_id=slot_id, now=clock.now(), by=caller)}))


@slots.delete(
    "/slots/{slot_id}",
    operation_id="deleteSlot",
    summary="Take back a slot that you published",
    responses={204: {"description": "Deleted."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def delete_slot(slot_id: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """409 `SLOT_BOOKED` while somebody has it. Bookings of the past keep it."""

    def deleted(_nothing: None) -> Answer:
        return Answer(204)

    await service.delete_slot(db, slot_id=slot_id, by=caller, once=once.answering(deleted))
    return send(deleted(None))
