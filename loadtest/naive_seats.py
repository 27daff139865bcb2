"""The controls of `make bench-seats`: Holdfast, but each buyer locks the event's row in a transaction of their own.

As most shops do: lock, read what is taken, choose, write, commit. The naive one is the service itself, whose buyers do not
travel together: nothing else differs.

The other one is written by hand for this bench, as fast as such a transaction can be: asyncpg without SQLAlchemy, three
statements and a commit, no limits and no waitlist. It shares uvicorn, middleware, authentication, the check of the body,
the choice of seats, the tables with their constraints, the outbox and the answer's shape.

python naive_seats.py PORT [by-hand], with the service's settings in the environment
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from holdfast.bookings.errors import SeatsTaken
from holdfast.bookings.rules import BookedUnit, Booking, ByQuantity
from holdfast.bookings.schemas import NewBooking
from holdfast.core.answers import answer
from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.core.settings import load_settings
from holdfast.db import database
from holdfast.db.database import SERVER_SETTINGS, Database
from holdfast.events.errors import EventNotFound
from holdfast.events.queries import layout_of
from holdfast.events.seating import Hall
from holdfast.main import build_app, build_state
from holdfast.web.access import UserCaller
from holdfast.web.errors import send
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep
from raw_asgi import serve

#: As many as the service has for transactions.
CONNECTIONS = 8

_LOCK = """
SELECT r.no, r.id, e.start_at, e.end_at, e.seats_version, clock_timestamp() AS now
FROM resources r JOIN events e ON e.resource_no = r.no
WHERE r.id = $1 AND r.archived_at IS NULL FOR UPDATE OF r"""
_TAKEN = "SELECT array_agg(seat_no) FROM claims WHERE resource_no = $1 AND seat_no <> 0"
#: A booking with its units, claims and outbox message, if its user is there: what the service writes, in one statement.
_WRITE = """
WITH who AS (SELECT id FROM users WHERE id = $2 AND status = 'active' FOR KEY SHARE),
made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, created_at)
  SELECT $1::uuid, who.id, 'event', $4::timestamptz, $5::timestamptz, $6::timestamptz FROM who RETURNING id),
wanted AS (
  SELECT made.id, u.* FROM made, unnest($7::bigint[], $8::uuid[]) WITH ORDINALITY AS u(seat_no, slot_id, position)),
units AS (
  INSERT INTO booking_units (booking_id, position, resource_no, seat_no, during, slot_id)
  SELECT id, position, $3::bigint, seat_no, tstzrange($4, $5), slot_id FROM wanted),
taken AS (
  INSERT INTO claims (resource_no, seat_no, during, slot_id, booking_id)
  SELECT $3, seat_no, tstzrange(NULL, NULL, '()'), slot_id, id FROM wanted)
INSERT INTO outbox (id, type, subject_id, actor_id, actor_role, request_id, address, after)
SELECT $9::uuid, 'booking.created', id, $2, $10::text, $11::text, $12::text, $13::text::jsonb FROM made
RETURNING id"""

router = APIRouter(route_class=Route)


@router.post("/bookings", status_code=201)
async def buy(request: Request, body: NewBooking, caller: UserCaller, db: DatabaseDep) -> Response:
    """So many seats of one event, best available."""
    selection = body.selection()
    if not isinstance(selection, ByQuantity):
        raise Invalid("Only eventId with quantity.")
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        booking = await _sell(connection, db, selection, caller)
    return send(answer({"booking": booking.as_json()}, status=201, location=f"/bookings/{booking.id}", etag=booking.etag))


async def _sell(connection: Any, db: Database, selection: ByQuantity, caller: Caller) -> Booking:
    event = await connection.fetchrow(_LOCK, selection.event_id)
    if event is None:
        raise EventNotFound
    # Kept by the process, as the service does: kinder to this variant than reading ten thousand seats at each sale.
    layout = (await layout_of(db, event["no"], event["id"], event["seats_version"])).layout
    taken = await connection.fetchval(_TAKEN, event["no"])
    seats = Hall(layout, taken or ()).choose(selection.quantity, section=selection.section, adjacent=selection.adjacent)
    if seats is None:
        raise SeatsTaken
    booking = _booking(event, [BookedUnit(event["no"], event["id"], seat.id, seat.label) for seat in seats], caller, event["now"])
    made = await connection.fetchval(
        _WRITE,
        booking.id,
        booking.user_id,
        event["no"],
        booking.start,
        booking.end,
        booking.created_at,
        [seat.no for seat in seats],
        [seat.id for seat in seats],
        new_id(),
        caller.role,
        caller.request_id,
        caller.address,
        orjson.dumps(booking.as_json()).decode(),
    )
    if made is None:
        raise Unauthenticated
    return booking


def _booking(event: asyncpg.Record, units: list[BookedUnit], caller: Caller, now: datetime) -> Booking:
    return Booking(
        id=new_id(),
        user_id=caller.own_id,
        kind="event",
        status="active",
        units=tuple(units),
        start=event["start_at"],
        end=event["end_at"],
        title=None,
        notes=None,
        conference_link=None,
        series_id=None,
        version=1,
        created_at=now,
        cancelled_at=None,
    )


async def _leave(_connection: object) -> None:
    """Between two buyers nothing is reset, as in the service: no session state is ever set."""


#: Buyers queue for a lock longer than the service would let them: they are to be answered, and counted.
_PATIENCE = 30.0
_WAITS = {
    **SERVER_SETTINGS,
    "lock_timeout": f"{_PATIENCE:g}s",
    "statement_timeout": f"{_PATIENCE:g}s",
    "idle_in_transaction_session_timeout": f"{_PATIENCE:g}s",
}


async def _alone(_key: object, member: Any, runner: Any) -> Any:
    (result,) = await runner([member])
    if isinstance(result, Exception):
        raise result
    return result


def make_naive_app() -> FastAPI:
    """The service, where nobody travels together."""
    for name, value in (("POOL_SECONDS", _PATIENCE), ("COMMAND_SECONDS", _PATIENCE), ("SERVER_SETTINGS", _WAITS)):
        setattr(database, name, value)
    state = build_state(load_settings())
    vars(state.together)["run"] = _alone
    return build_app(state)


def make_app() -> FastAPI:
    """The service with this route in front of its own."""
    settings = load_settings()
    app = build_app(build_state(settings))
    app.router.routes[:0] = router.routes
    around = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = app.state.holdfast.db.url
        async with (
            around(app),
            asyncpg.create_pool(
                url, min_size=CONNECTIONS, max_size=CONNECTIONS, command_timeout=_PATIENCE, server_settings=_WAITS, reset=_leave
            ) as app.state.pool,
        ):
            yield

    app.router.lifespan_context = lifespan
    return app


if __name__ == "__main__":
    serve(make_app() if "by-hand" in sys.argv else make_naive_app(), int(sys.argv[1]), lifespan="on")
