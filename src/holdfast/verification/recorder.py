"""Concurrent clients who look, book, hold, confirm, move and cancel on a few hot slots, and a record of all of it.

The clients are as concurrent as can be. Instants are of one monotonic clock, in this process: no other clock matters, for a
hold's end is its length after the instant at which it was placed, and that lies between its request and its answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from holdfast.core import clock
from holdfast.verification.ground import Ground, VerificationError, admin_token, clear_away, prepare
from holdfast.verification.histories import History, Kind, Observation, Operation, Sight
from holdfast.verification.recording import SECOND, Recording
from holdfast.verification.visitors import Visitor

__all__ = ["Plan", "VerificationError", "record"]

_OK = 200
_MOST_USERS = 20
_ANSWER_SECONDS = 15.0
_PAGE = 100
_LAST_TRIES, _LAST_PAUSE = 10, 0.5

#: What is being done (`preparing`, `recording`, `checking`), how much of it is done, how much there is.
Told = Callable[[str, float, float], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A recording: it ends after so many operations, or seconds, whichever comes first."""

    clients: int = 20
    operations: int | None = 2000
    seconds: float | None = None
    holds: bool = True
    rooms: int = 2
    slots: int = 6
    hold_for: timedelta = timedelta(seconds=1)
    seed: int = 1
    #: True leaves rooms, users and bookings as they are in the end.
    keep: bool = False


async def record(
    url: str, plan: Plan, *, told: Told = lambda _what, _done, _all: None, transport: httpx.AsyncBaseTransport | None = None
) -> History:
    """Drive the service and return what happened. Raises VerificationError where it cannot be done.

    The last operations read every unit's final state, so a history that ends otherwise than it was told is refused too.
    """
    limits = httpx.Limits(max_connections=plan.clients + 4, max_keepalive_connections=plan.clients + 4)
    async with httpx.AsyncClient(base_url=url, timeout=_ANSWER_SECONDS, limits=limits, transport=transport) as client:
        told("preparing", 0, 1)
        users = min(plan.clients, _MOST_USERS)
        ground = await prepare(client, rooms=plan.rooms, slots=plan.slots, users=users, holds=plan.holds, hold_for=plan.hold_for)
        recording = Recording(client, ground)
        goes_on = _until(recording, plan, told)
        visitors = [
            Visitor(recording, number, ground.accounts[number % users], plan.holds, plan.seed, goes_on)
            for number in range(plan.clients)
        ]
        running = [asyncio.ensure_future(visitor.run()) for visitor in visitors]
        try:
            await asyncio.gather(*running)
            await _last_look(client, ground, recording)
        except httpx.HTTPError as error:
            raise VerificationError(f"{url} stopped answering ({error or type(error).__name__}).") from None
        finally:
            for one in running:
                one.cancel()
        if not plan.keep:
            await clear_away(client, ground)
    about = {
        "url": url,
        "recorded": clock.instant_text(clock.now()),
        "clients": str(plan.clients),
        "holds": f"of {plan.hold_for.total_seconds():g} s" if plan.holds else "none",
        "seed": str(plan.seed),
    }
    return History(ground.names, tuple(recording.operations()), about)


def _until(recording: Recording, plan: Plan, told: Told) -> Callable[[], bool]:
    def goes_on() -> bool:
        seconds, asked = recording.instant() / SECOND, recording.asked
        if plan.seconds is not None and (plan.operations is None or seconds / plan.seconds > asked / plan.operations):
            told("recording", min(seconds, plan.seconds), plan.seconds)
        else:
            told("recording", min(asked, plan.operations or asked), plan.operations or asked)
        return (plan.operations is None or asked < plan.operations) and (plan.seconds is None or seconds < plan.seconds)

    return goes_on


async def _last_look(client: httpx.AsyncClient, ground: Ground, recording: Recording) -> None:
    """What every unit is in the end, as the admin's list of bookings and the lists of slots tell it."""
    admin = await _admin_again(client)
    for room, units in ground.slots.items():
        operation, told = await _asked(recording, f"/bookings?roomId={room}&status=active&pageSize={_PAGE}", admin)
        by_unit: dict[str, list[str]] = {unit: [] for unit in units}
        for booking in told["bookings"]:
            recording.found(booking)
            by_unit.setdefault(booking["slotId"], []).append(booking["id"])
        recording.saw(
            operation,
            # Two bookings of one unit are told of as they are: no state has both.
            *(Observation(unit, Sight.BOOKED_BY, booking) for unit, bookings in by_unit.items() for booking in bookings),
            *(Observation(unit, Sight.UNBOOKED) for unit, bookings in by_unit.items() if not bookings),
        )
        await _asked(recording, f"/rooms/{room}/slots?date={ground.day}&status=all", admin)


async def _admin_again(client: httpx.AsyncClient) -> str:
    """A fresh token: the first may be as old as the run. Whoever is being restarted is asked again."""
    for _ in range(_LAST_TRIES - 1):
        try:
            return await admin_token(client)
        except (httpx.TransportError, VerificationError):
            await asyncio.sleep(_LAST_PAUSE)
    return await admin_token(client)


async def _asked(recording: Recording, path: str, admin: str) -> tuple[Operation, dict[str, Any]]:
    """A read that must be answered, so it is asked again too."""
    for _ in range(_LAST_TRIES):
        operation, told = await recording.ask(Kind.READ, "GET", path, caller=admin, client=-1)
        if operation.status == _OK:
            return operation, told
        await asyncio.sleep(_LAST_PAUSE)
    raise VerificationError(f"GET {path} was answered {operation.answer}: the final state is not known.")
