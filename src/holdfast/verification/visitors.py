"""The clients of a recording: each asks one thing at a time, so that what it knows of its own bookings is plain."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from holdfast.verification.ground import Account, bearer, log_in
from holdfast.verification.histories import Kind, Observation, Operation, Sight
from holdfast.verification.recording import CLOCK_SLACK, Recording

_OK, _CREATED, _UNAUTHENTICATED = 200, 201, 401


@dataclass(slots=True)
class _Hold:
    token: str
    unit: str
    #: When it is to be confirmed; some are, just about when they end.
    due: int


@dataclass(slots=True)
class Visitor:
    """One client: what it asks next is chance, out of what it has."""

    recording: Recording
    number: int
    account: Account
    holds_too: bool
    seed: int
    goes_on: Callable[[], bool]
    bookings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    holds: list[_Hold] = field(default_factory=list)
    #: Cancelled ones, looked at and cancelled again now and then.
    ended: deque[tuple[str, tuple[str, ...]]] = field(default_factory=lambda: deque(maxlen=5))
    #: How often it still looks for bookings whose answers were lost.
    looks_left: int = 0
    chance: random.Random = field(init=False)
    units: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed}/{self.number}")  # noqa: S311 - repeatable, not secret
        self.units = list(self.recording.ground.names)

    async def run(self) -> None:
        """Ask until it is enough."""
        while self.goes_on():
            await self._next()

    async def _next(self) -> None:
        if self.looks_left:
            await self._look_for_lost()
        due = [hold for hold in self.holds if hold.due <= self.recording.instant()]
        ways: list[tuple[Callable[[], Any], float]] = [(self._list, 2), (self._book, 8)]
        if self.holds_too:
            ways.append((self._hold, 5))
        if self.bookings:
            ways += [(self._cancel, 8 + 8 * len(self.bookings)), (self._reschedule, 2), (self._read, 1)]
        if due:
            ways += [(lambda: self._confirm(self.chance.choice(due)), 16), (lambda: self._release(self.chance.choice(due)), 8)]
        if self.ended:
            ways.append((self._look_back, 0.5))
        (way,) = self.chance.choices([way for way, _ in ways], [weight for _, weight in ways])
        await way()

    async def _ask(
        self, kind: Kind, method: str, path: str, body: dict[str, Any] | None = None, **facts: Any
    ) -> tuple[Operation, dict[str, Any]]:
        operation, told = await self.recording.ask(
            kind, method, path, caller=self.account.token, client=self.number, body=body, **facts
        )
        if operation.unknown:
            self.looks_left = 3
            # Whoever was cut off, or told to come back, does not ask again at once.
            await asyncio.sleep(0.02 + 0.03 * self.chance.random())
        elif operation.status == _UNAUTHENTICATED:
            self.account = await log_in(self.recording.client, self.account)
        return operation, told

    async def _list(self) -> None:
        room = self.chance.choice(list(self.recording.ground.slots))
        await self._ask(Kind.READ, "GET", f"/rooms/{room}/slots?date={self.recording.ground.day}&status=all")

    async def _book(self) -> None:
        unit = self.chance.choice(self.units)
        operation, _ = await self._ask(Kind.BOOK, "POST", "/bookings", {"slotId": unit}, takes=unit)
        self._keep(operation)

    def _keep(self, operation: Operation) -> None:
        if operation.status == _CREATED and operation.booking and operation.takes:
            self.bookings[operation.booking] = (operation.takes,)

    async def _hold(self) -> None:
        unit = self.chance.choice(self.units)
        operation, _ = await self._ask(Kind.HOLD, "POST", "/holds", {"slotId": unit}, takes=unit)
        if operation.status == _CREATED and operation.token and operation.lapses:
            since, until = operation.lapses
            due = operation.invoked
            if self.chance.random() < 0.12:  # noqa: PLR2004 - a few are left until they end
                due = self.chance.randint(since, (until or since) + 2 * CLOCK_SLACK)
            self.holds.append(_Hold(operation.token, unit, due))

    async def _confirm(self, hold: _Hold) -> None:
        operation, _ = await self._ask(
            Kind.CONFIRM, "POST", "/bookings", {"holdToken": hold.token}, takes=hold.unit, token=hold.token
        )
        self._keep(operation)
        if not operation.unknown:
            self.holds.remove(hold)

    async def _release(self, hold: _Hold) -> None:
        operation, _ = await self._ask(Kind.RELEASE, "DELETE", f"/holds/{hold.token}", gives_back=(hold.unit,), token=hold.token)
        if not operation.unknown:
            self.holds.remove(hold)

    async def _cancel(self) -> None:
        booking, units = self.chance.choice(list(self.bookings.items()))
        operation, _ = await self._ask(Kind.CANCEL, "POST", f"/bookings/{booking}/cancel", gives_back=units, booking=booking)
        if not operation.unknown:
            del self.bookings[booking]
        if operation.status == _OK:
            self.ended.append((booking, units))

    async def _reschedule(self) -> None:
        booking, units = self.chance.choice(list(self.bookings.items()))
        unit = self.chance.choice(self.units)
        path = f"/bookings/{booking}/reschedule"
        operation, _ = await self._ask(
            Kind.RESCHEDULE, "POST", path, {"slotId": unit}, takes=unit, gives_back=units, booking=booking
        )
        if operation.unknown:
            self.bookings[booking] = tuple(dict.fromkeys((*units, unit)))
        elif operation.status == _OK:
            self.bookings[booking] = (unit,)
        elif operation.code == "BOOKING_CANCELLED":
            # By an earlier attempt whose answer was lost.
            del self.bookings[booking]
            self.ended.append((booking, units))

    async def _read(self) -> None:
        await self._look_at(*self.chance.choice(list(self.bookings.items())))

    async def _look_back(self) -> None:
        booking, units = self.chance.choice(self.ended)
        if self.chance.random() < 0.5:  # noqa: PLR2004 - a coin
            await self._look_at(booking, units)
        else:
            await self._ask(Kind.CANCEL, "POST", f"/bookings/{booking}/cancel", gives_back=units, booking=booking)

    async def _look_at(self, booking: str, units: tuple[str, ...]) -> None:
        operation, told = await self._ask(Kind.READ, "GET", f"/bookings/{booking}", gives_back=units, booking=booking)
        if operation.status != _OK:
            return
        at = told["booking"]["slotId"] if told["booking"]["status"] == "active" else None
        places = dict.fromkeys((*units, *([at] if at else [])))
        self.recording.saw(
            operation,
            *(Observation(unit, Sight.BOOKED_BY if unit == at else Sight.NOT_BOOKED_BY, booking) for unit in places),
        )

    async def _look_for_lost(self) -> None:
        """Find out what became of attempts that got no answer, so that their bookings can be given back."""
        self.looks_left -= 1
        try:
            answer = await self.recording.client.get("/bookings/my?status=active", headers=bearer(self.account.token))
        except httpx.TransportError:
            return
        if answer.status_code == _OK:
            for booking in answer.json()["bookings"]:
                if self.recording.found(booking, by=self.number):
                    self.bookings[booking["id"]] = (booking["slotId"],)
