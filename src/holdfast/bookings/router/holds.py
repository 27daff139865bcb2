"""The routes of holds (api.md section 4)."""

from fastapi import APIRouter, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.router.context import context_of
from holdfast.bookings.rules import Hold
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.web.access import UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, refusals
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep, StateDep

router = APIRouter(route_class=Route, tags=["holds"])


def _shown(hold: Hold) -> Answer:
    return answer({"hold": hold.as_json()})


def _created(hold: Hold) -> Answer:
    return answer({"hold": hold.as_json()}, status=201, location=f"/holds/{hold.id}")


@router.post(
    "/holds",
    operation_id="placeHold",
    summary="Keep slots or seats for yourself for a while",
    responses=changes(schemas.HoldAnswer, 404, status=201),
    status_code=201,
)
async def place_hold(body: schemas.NewHold, caller: UserCaller, state: StateDep, once: OnceDep) -> Response:
    """For users. Then POST /bookings with `holdToken`, before `expiresAt`. At most ten seats of an event, ten slots in all."""
    hold = await service.place_hold(
        context_of(state), selection=body.selection(), now=clock.now(), by=caller, once=once.answering(_created)
    )
    return send(_created(hold))


@router.get(
    "/holds/my",
    operation_id="listMyHolds",
    summary="Your live holds",
    responses=reads(schemas.HoldsAnswer, 403),
)
async def list_holds(caller: UserCaller, db: DatabaseDep) -> Response:
    """The first to end first; offers from the waitlist are among them."""
    holds = await service.list_holds(db, by=caller)
    return send(answer({"holds": [hold.as_json() for hold in holds]}))


@router.get(
    "/holds/{token}",
    operation_id="getHold",
    summary="One hold of yours",
    responses=reads(schemas.HoldAnswer, 400, 403, 404, 409, 410),
)
async def get_hold(token: PathId, caller: UserCaller, db: DatabaseDep) -> Response:
    """410 `HOLD_EXPIRED` once it is over, 409 `HOLD_USED` with the booking's id once it is booked."""
    return send(_shown(await service.get_hold(db, hold_id=token, by=caller)))


@router.post(
    "/holds/{token}/extend",
    operation_id="extendHold",
    summary="Extend your hold, once",
    responses=changes(schemas.HoldAnswer, 404, 410),
)
async def extend_hold(token: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """`expiresAt` moves on by the hold's own length."""
    hold = await service.extend_hold(db, hold_id=token, by=caller, once=once.answering(_shown))
    return send(_shown(hold))


@router.delete(
    "/holds/{token}",
    operation_id="releaseHold",
    summary="Give your hold back",
    responses={204: {"description": "Free again."}, **refusals(400, 401, 403, 404, 409, 410, 422)},
    status_code=204,
)
async def release_hold(token: PathId, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """Free that instant, for those who wait first. An offer from the waitlist is declined so."""

    def released(_nothing: None) -> Answer:
        return Answer(204)

    await service.release_hold(db, hold_id=token, now=clock.now(), by=caller, once=once.answering(released))
    return send(released(None))
