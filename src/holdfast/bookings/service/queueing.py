"""The fair queue: bookings of a resource in strict order of arrival (api.md section 7).

A ticket is written and committed first, one transaction after the other for each line, so that numbers are the order of
arrival. Then whoever serves the line, of whatever process, takes its first tickets under the resource's lock and decides
them in that order, many in one transaction. A server that dies leaves the tickets where they were.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from time import perf_counter
from typing import Any, TypeVar
from uuid import UUID

import structlog

from holdfast import outbox
from holdfast.bookings import queries, rules
from holdfast.bookings.errors import ConferenceServiceError, InLine, RequestAnswered, RequestNotFound
from holdfast.bookings.rules import (
    Booking,
    ByPeriod,
    ByQuantity,
    BySeats,
    BySlotIds,
    ByTime,
    Hold,
    Selection,
    Ticket,
    Wish,
)
from holdfast.bookings.service.context import Context, NewBooking, check_user
from holdfast.bookings.service.linking import LINK_HOLD, finish_with_link
from holdfast.bookings.service.taking import Queue, Taker, lock, take_all
from holdfast.core import clock, errors, metrics
from holdfast.core.callers import Caller
from holdfast.core.clock import instant_text, parse_instant
from holdfast.core.errors import Busy, Forbidden, Refusal
from holdfast.core.ids import new_id
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.idempotency import Once

#: How long a request waits for its turn before it is told where to look instead.
WAIT = timedelta(seconds=10)
#: After that its client hears nothing any more: what it wanted is not booked behind its back.
_HEARD = WAIT + timedelta(seconds=5)
#: Tickets that one transaction decides.
_AT_ONCE = 100
#: Such transactions, until who waits for the end of a line that grows as fast as it is served goes on.
_MOST_ROUNDS = 100
#: Between looks at whether the client is still there, seconds.
_LOOK = 0.5
#: Before the line of a resource whose lock could not be had is served again, seconds.
_PAUSE = 0.2

log = structlog.get_logger(__name__)
Outcome = Booking | Hold | Ticket | Refusal
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How a client waits: not at all (`Prefer: respond-async`, RFC 7240), or as long as it is there (`gone` tells)."""

    respond_async: bool
    gone: Callable[[], Awaitable[bool]]


async def book_in_turn(
    context: Context, *, line: int, wanted: NewBooking, by: Caller, once: Once, patience: Patience
) -> Booking | Ticket:
    """Wait in a resource's line, then the same answers as `book`; the ticket where the wait is too long, or not wanted."""
    ticket_id, is_new = await _claim(context.db, wanted, by=by, once=once)
    if is_new:
        request = _request_json(wanted, by)

        async def insert(members: list[tuple[UUID, UUID, dict[str, Any], timedelta | None]]) -> list[Exception | None]:
            return await _insert(context.db, line, members)

        member = (ticket_id, wanted.user_id, request, None if patience.respond_async else _HEARD)
        try:
            await context.together.run(("tickets", line), member, insert)
        except Refusal as refusal:
            return await _keep(context.db, refusal, once=once)
    turn = asyncio.ensure_future(_turn(context, line, ticket_id))
    if patience.respond_async:
        context.together.watch(turn)
        return await _keep(context.db, await _find(context.db, ticket_id), once=once)
    outcome = await _wait(context, turn, ticket_id, patience=patience)
    if isinstance(outcome, Hold):
        return await finish_with_link(context, wanted=wanted, hold=outcome, by=by, once=once)
    return await _keep(context.db, outcome, once=once)


@retry_aborted
async def _claim(db: Database, wanted: NewBooking, *, by: Caller, once: Once) -> tuple[UUID, bool]:
    """The ticket's id, which its booking will have too, and whether it is to be written.

    An earlier attempt with the same key has written it, unless what came of that is a refusal that no key keeps.
    """
    if once.key is None and wanted.user_id == by.user_id:
        return new_id(), True
    async with once.transaction(db) as session:
        await check_user(session, wanted.user_id, by=by)
        known = await queries.find_tickets(session, [once.booking_id]) if once.booking_id else {}
        is_over = any(ticket.status in {"refused", "cancelled"} for ticket in known.values())
        ticket_id = new_id() if is_over or once.booking_id is None else once.booking_id
        await once.keep_booking(session, ticket_id, busy_for=_HEARD)
    return ticket_id, is_over or not known


@retry_aborted
async def _insert(
    db: Database, line: int, members: Sequence[tuple[UUID, UUID, dict[str, Any], timedelta | None]]
) -> list[Exception | None]:
    async with db.transaction() as session:
        await queries.insert_tickets(session, line, members)
    return [None] * len(members)


async def _turn(context: Context, line: int, ticket_id: UUID) -> Outcome:
    """What comes of a ticket. Those of one line who wait in this process are served together."""

    async def serve(members: list[UUID]) -> list[Outcome | Exception]:
        outcomes: dict[UUID, Outcome] = {}
        while missing := [member for member in members if member not in outcomes]:
            served = await _serve_some(context.db, line)
            outcomes |= served
            if not served:
                # Another process was quicker.
                found = await queries.find_tickets(context.db, missing)
                outcomes |= {one: await _outcome(context.db, found[one]) for one in missing if one in found}
        return [outcomes[member] for member in members]

    since = perf_counter()
    ends = asyncio.get_running_loop().time() + _HEARD.total_seconds()
    while True:
        try:
            outcome: Outcome = await context.together.run(("line", line), ticket_id, serve)
        except Busy as busy:
            # The ticket stands in line still: a client that were told to try again would get it, and another.
            if asyncio.get_running_loop().time() >= ends:
                return busy
            await asyncio.sleep(_PAUSE)
        except Refusal as refusal:
            return refusal
        else:
            metrics.waited_in_line(perf_counter() - since)
            return outcome


async def _wait(context: Context, turn: asyncio.Future[Outcome], ticket_id: UUID, *, patience: Patience) -> Outcome:
    """Wait for the turn; who goes away meanwhile loses the place, who has waited long enough is told where to look."""
    ends = asyncio.get_running_loop().time() + WAIT.total_seconds()
    while True:
        done, _ = await asyncio.wait({turn}, timeout=_LOOK)
        if done:
            return turn.result()
        if await patience.gone() and await _cancel(context.db, ticket_id):
            context.together.watch(turn)
            return await _find(context.db, ticket_id)
        if asyncio.get_running_loop().time() >= ends:
            context.together.watch(turn)
            return await _make_unhurried(context.db, ticket_id)


@retry_aborted
async def _make_unhurried(db: Database, ticket_id: UUID) -> Ticket:
    async with db.transaction() as session:
        await queries.make_unhurried(session, ticket_id)
        return (await queries.find_tickets(session, [ticket_id]))[ticket_id]


@retry_aborted
async def _cancel(db: Database, ticket_id: UUID) -> bool:
    async with db.transaction() as session:
        return await queries.cancel_ticket(session, ticket_id)


@retry_aborted
async def _keep(db: Database, outcome: Outcome, *, once: Once) -> Booking | Ticket:
    """The answer, kept under the request's key, or raised."""
    assert not isinstance(outcome, Hold)  # noqa: S101 - becomes a booking first
    if once.key is not None:
        async with once.transaction(db, resuming=True) as session:
            if isinstance(outcome, Refusal):
                raise outcome
            await once.keep(session, outcome)
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


@retry_aborted
async def _serve_some(db: Database, line: int) -> dict[UUID, Outcome]:
    """Decide the first tickets of a line, in one transaction; what came of each."""
    now = clock.now()
    async with db.transaction() as session:
        seen = await queries.next_in_line(session, line, limit=_AT_ONCE)
        reach = rules.reach(_selection(ticket.request) for ticket in seen)
        await lock(session, reach, also=[line])
        present = await queries.next_in_line(session, line, limit=_AT_ONCE)
        # Of those who came meanwhile the resources may not be locked; they stand behind the others, and are the next.
        known = {ticket.id for ticket in seen}
        tickets = [ticket for ticket in present if ticket.id in known]
        if present and not tickets:
            raise TransactionAborted
        heard = [ticket for ticket in tickets if not ticket.unheard]
        given = await take_all(session, [_taker(ticket) for ticket in heard], now=now) if heard else []
        outcomes: dict[UUID, Outcome] = {ticket.id: one for ticket, one in zip(heard, given, strict=True)}
        answers = [_answer(ticket_id, one) for ticket_id, one in outcomes.items()]
        answers += [queries.TicketAnswer(ticket.id, "cancelled") for ticket in tickets if ticket.unheard]
        if answers:
            await queries.answer_tickets(session, answers)
        unheard = await queries.find_tickets(session, [ticket.id for ticket in tickets if ticket.unheard])
    return outcomes | unheard


def _answer(ticket_id: UUID, outcome: Outcome) -> queries.TicketAnswer:
    if isinstance(outcome, Booking):
        return queries.TicketAnswer(ticket_id, "booked", booking_id=outcome.id)
    if isinstance(outcome, Hold):
        return queries.TicketAnswer(ticket_id, "waiting", hold_id=outcome.id)
    assert isinstance(outcome, Refusal)  # noqa: S101 - what take_all gives
    return queries.TicketAnswer(ticket_id, "refused", error=rules.refusal_json(outcome))


async def _outcome(db: Database, ticket: Ticket) -> Outcome:
    """What another process made of a ticket, or the ticket where it waits still."""
    if ticket.status == "booked" and ticket.booking_id is not None:
        async with db.transaction() as session:
            (booking,) = await queries.find_bookings(session, [ticket.booking_id])
        return booking
    if ticket.status == "refused" and ticket.error is not None:
        family: type[Refusal] = getattr(errors, ticket.error["family"])
        told = type(family.__name__, (family,), {"code": ticket.error["code"], "message": ticket.error["message"]})
        refusal: Refusal = told(details=ticket.error["details"])
        return refusal
    if ticket.status == "waiting" and ticket.hold_id is not None:
        hold = await queries.find_hold(db, ticket.hold_id)
        if hold is not None:
            return hold
    if ticket.status == "waiting":
        # Its line is served by somebody else just now.
        raise Busy
    return ticket


async def serve_line(db: Database, resource_no: int) -> None:
    """Decide everybody who stands in a resource's line now. For those who would overtake them, and for the worker."""
    for _ in range(_MOST_ROUNDS):
        if not await _serve_some(db, resource_no):
            break


async def behind_the_line(db: Database, attempt: Callable[[Queue], Awaitable[T]], *, queue: Queue) -> T:
    """What `attempt` comes to, after those who stand in a line there: they came earlier. It takes no ticket itself.

    `attempt` is told how it stands to the lines, and raises InLine where it must wait.
    """
    try:
        return await attempt(queue)
    except InLine as line:
        await serve_line(db, line.resource_no)
        return await attempt(Queue.PASSED)


@retry_aborted
async def _end_orphans(db: Database) -> None:
    async with db.transaction() as session:
        await queries.end_orphans(session, rules.refusal_json(ConferenceServiceError()))


async def serve_lines(db: Database) -> None:
    """One round of the worker's loop: lines that were left standing by a process that is gone."""
    await _end_orphans(db)
    for resource_no in await queries.lines_to_serve(db):
        try:
            await serve_line(db, resource_no)
        except Refusal as refusal:
            log.warning("queue.not_served", resource_no=resource_no, reason=refusal.code)


async def _find(db: Database, ticket_id: UUID) -> Ticket:
    found = await queries.find_tickets(db, [ticket_id])
    if ticket_id not in found:
        raise RequestNotFound
    return found[ticket_id]


async def get_request(db: Database, *, ticket_id: UUID, by: Caller) -> Ticket:
    """A booking request with its place in line, for its user and for admins. Raises RequestNotFound, Forbidden."""
    ticket = await _find(db, ticket_id)
    if ticket.user_id != by.user_id and not by.is_admin:
        raise Forbidden
    return ticket


async def list_requests(db: Database, *, by: Caller) -> list[Ticket]:
    """The caller's last hundred booking requests, the latest first."""
    return await queries.own_tickets(db, by.own_id)


@retry_aborted
async def cancel_request(db: Database, *, ticket_id: UUID, by: Caller, once: Once) -> None:
    """Leave the line. May be repeated. Raises RequestNotFound, Forbidden, RequestAnswered where it is booked."""
    async with once.transaction(db) as session:
        found = await queries.find_tickets(session, [ticket_id])
        if ticket_id not in found:
            raise RequestNotFound
        if found[ticket_id].user_id != by.user_id:
            raise Forbidden
        if await queries.cancel_ticket(session, ticket_id):
            before = {**found[ticket_id].as_json(), "userId": str(found[ticket_id].user_id)}
            await outbox.enqueue(session, "booking_request.cancelled", ticket_id, by=by, before=before)
        else:
            (ticket,) = (await queries.find_tickets(session, [ticket_id])).values()
            if ticket.status == "booked":
                raise RequestAnswered(details={"bookingId": str(ticket.booking_id)})
        await once.keep(session, None)


def _request_json(wanted: NewBooking, by: Caller) -> dict[str, Any]:
    """What is wanted, and by whom, as a ticket keeps it."""
    assert wanted.selection is not None  # noqa: S101 - what is held needs no turn
    return {
        "selection": _selection_json(wanted.selection),
        "title": wanted.title,
        "notes": wanted.notes,
        "wantsLink": wanted.wants_link,
        "by": {
            "userId": str(by.user_id) if by.user_id else None,
            "role": by.role,
            "requestId": by.request_id,
            "address": by.address,
            "keyId": str(by.key_id) if by.key_id else None,
            "trace": by.trace,
        },
    }


def _selection_json(selection: Selection) -> dict[str, Any]:
    if isinstance(selection, BySlotIds):
        return {"slotIds": [str(slot_id) for slot_id in selection.ids]}
    if isinstance(selection, ByPeriod):
        return {
            "roomId": str(selection.room_id),
            "start": instant_text(selection.start),
            "end": instant_text(selection.end),
        }
    if isinstance(selection, ByTime):
        return {"roomId": str(selection.room_id), "day": selection.day.isoformat(), "minutes": selection.minutes}
    if isinstance(selection, BySeats):
        return {"eventId": str(selection.event_id), "seats": list(selection.labels)}
    return {
        "eventId": str(selection.event_id),
        "quantity": selection.quantity,
        "section": selection.section,
        "adjacent": selection.adjacent,
    }


def _selection(request: dict[str, Any]) -> Selection:
    wanted = request["selection"]
    if "slotIds" in wanted:
        return BySlotIds(tuple(UUID(slot_id) for slot_id in wanted["slotIds"]))
    if "start" in wanted:
        return ByPeriod(UUID(wanted["roomId"]), parse_instant(wanted["start"]), parse_instant(wanted["end"]))
    if "day" in wanted:
        return ByTime(UUID(wanted["roomId"]), date.fromisoformat(wanted["day"]), wanted["minutes"])
    if "seats" in wanted:
        return BySeats(UUID(wanted["eventId"]), tuple(wanted["seats"]))
    return ByQuantity(UUID(wanted["eventId"]), wanted["quantity"], wanted["section"], adjacent=wanted["adjacent"])


def _taker(ticket: queries.NextInLine) -> Taker:
    request, by = ticket.request, ticket.request["by"]
    caller = Caller(
        UUID(by["userId"]) if by["userId"] else None,
        by["role"],
        request_id=by["requestId"],
        address=by["address"],
        # Requests from before there were API keys and traces do not say.
        key_id=UUID(by["keyId"]) if by.get("keyId") else None,
        trace=by.get("trace"),
    )
    return Taker(
        Wish(ticket.user_id, _selection(request)),
        caller,
        origin="conference" if request["wantsLink"] else None,
        lasts=LINK_HOLD if request["wantsLink"] else None,
        title=request["title"],
        notes=request["notes"],
        booking_id=ticket.id,
    )
