"""The routes of booking requests: places in the fair queue (api.md section 7)."""

from fastapi import APIRouter, Response

from holdfast.bookings import schemas, service
from holdfast.core.answers import Answer, answer
from holdfast.web.access import AnyCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import reads, refusals
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["bookings"])


@router.get(
    "/booking-requests/my",
    operation_id="listMyBookingRequests",
    summary="Your places in fair queues",
    responses=reads(schemas.RequestsAnswer, 403),
)
async def list_requests(caller: UserCaller, db: DatabaseDep) -> Response:
    """The last hundred, the latest first: also those whose answer you never heard."""
    tickets = await service.list_requests(db, by=caller)
    return send(answer({"bookingRequests": [ticket.as_json() for ticket in tickets]}))


@router.get(
    "/booking-requests/{request_id}",
    operation_id="getBookingRequest",
    summary="Your place in a fair queue",
    responses=reads(schemas.RequestAnswer, 400, 403, 404),
)
async def get_request(request_id: PathId, caller: AnyCaller, db: DatabaseDep) -> Response:
    """`waiting` with your position, then `booked` with the booking, or `refused` with the error. Admins see anybody's."""
    ticket = await service.get_request(db, ticket_id=request_id, by=caller)
    return send(answer({"bookingRequest": ticket.as_json()}))


@router.delete(
    "/booking-requests/{request_id}",
    operation_id="cancelBookingRequest",
    summary="Leave a fair queue",
    responses={204: {"description": "Left."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def cancel_request(request_id: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """May be repeated. 409 `BOOKING_REQUEST_ANSWERED` once it is booked."""

    def left(_nothing: None) -> Answer:
        return Answer(204)

    await service.cancel_request(db, ticket_id=request_id, by=caller, once=once.answering(left))
    return send(left(None))
