"""Sending requests, and the record of what was asked, when, and what was told."""

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

import httpx

from holdfast.verification.ground import Ground, bearer
from holdfast.verification.histories import Kind, Observation, Operation, Sight

#: In nanoseconds, as all instants here.
SECOND = 1_000_000_000
#: How far the service's clock may run apart from ours over a hold's length.
CLOCK_SLACK = 50_000_000
_OK, _CREATED, _CONFLICT = 200, 201, 409
_SIGHTS = {"free": Sight.FREE, "held": Sight.HELD, "booked": Sight.BOOKED}


class Recording:
    """Sends requests and keeps, of each, what was asked, when, and what was told."""

    def __init__(self, client: httpx.AsyncClient, ground: Ground) -> None:
        self.client = client
        self.ground = ground
        self.asked = 0
        self._operations: dict[int, Operation] = {}
        self._numbers = count(1)
        self._begun = time.monotonic_ns()

    def instant(self) -> int:
        """Nanoseconds since the recording began."""
        return time.monotonic_ns() - self._begun

    def operations(self) -> Iterable[Operation]:
        """In order of their requests."""
        return sorted(self._operations.values(), key=lambda operation: operation.number)

    async def ask(
        self,
        kind: Kind,
        method: str,
        path: str,
        *,
        caller: str,
        client: int,
        body: dict[str, Any] | None = None,
        **facts: Any,
    ) -> tuple[Operation, dict[str, Any]]:
        """One operation by `caller` (a token), and the answer's body.

        A booking's title is the operation's number, so it is known whose it is when the answer was lost.
        """
        self.asked += 1
        number = next(self._numbers)
        if kind in {Kind.BOOK, Kind.CONFIRM}:
            body = {**(body or {}), "title": _title(number)}
        operation = Operation(number=number, client=client, kind=kind, invoked=self.instant(), answered=None, **facts)
        if kind is Kind.HOLD:
            operation = replace(operation, lapses=(operation.invoked + self._hold_for - CLOCK_SLACK, None))
        # At once: an interrupted run has what it asked.
        self._operations[number] = operation
        told: dict[str, Any] = {}
        try:
            answer = await self.client.request(method, path, headers=bearer(caller), json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            # It was never sent, so it is no part of what happened.
            del self._operations[number]
            self.asked -= 1
            return operation, told
        except httpx.TransportError:
            return operation, told
        answered = self.instant()
        try:
            parsed = answer.json() if answer.content else {}
        except ValueError:
            parsed = {}
        told = parsed if isinstance(parsed, dict) else {}
        code = (told.get("error") or {}).get("code") if answer.is_error else None
        operation = self._with_answer(replace(operation, answered=answered, status=answer.status_code, code=code), told)
        self._operations[number] = operation
        return operation, told

    @property
    def _hold_for(self) -> int:
        return int(self.ground.hold_for.total_seconds() * SECOND)

    def _with_answer(self, operation: Operation, told: dict[str, Any]) -> Operation:
        """What an answer says of units, bookings and holds."""
        if operation.status == _CONFLICT:
            # The free slots that a refusal offers were seen free while it was under way.
            offered = ((told.get("error") or {}).get("details") or {}).get("alternatives") or []
            operation = replace(operation, seen=self._observations((slot["id"], "free") for slot in offered))
        if operation.kind in {Kind.BOOK, Kind.CONFIRM} and operation.status == _CREATED:
            return replace(operation, booking=told["booking"]["id"], takes=told["booking"]["slotId"])
        if operation.kind is Kind.HOLD and operation.status == _CREATED and operation.answered is not None:
            lapses = (operation.invoked + self._hold_for - CLOCK_SLACK, operation.answered + self._hold_for + CLOCK_SLACK)
            return replace(operation, token=told["hold"]["token"], lapses=lapses)
        if operation.kind is Kind.HOLD and not operation.unknown:
            return replace(operation, lapses=None)
        if operation.kind is Kind.READ and operation.status == _OK and "slots" in told:
            return replace(operation, seen=self._observations((slot["id"], slot["status"]) for slot in told["slots"]))
        return operation

    def _observations(self, slots: Iterable[tuple[str, str]]) -> tuple[Observation, ...]:
        return tuple(Observation(unit, _SIGHTS.get(status, Sight.TAKEN)) for unit, status in slots if unit in self.ground.names)

    def saw(self, operation: Operation, *seen: Observation) -> None:
        """Add what a read told."""
        self._operations[operation.number] = replace(operation, seen=seen)

    def found(self, booking: dict[str, Any], *, by: int | None = None) -> bool:
        """Note, by its title, a booking whose answer was lost; False where that is nothing new.

        `by` looks for its own only: the answer to another client of the same user may be on its way yet.
        """
        number = _number(booking.get("title"))
        operation = self._operations.get(number) if number else None
        if operation is None or operation.booking is not None or by not in {None, operation.client}:
            return False
        self._operations[operation.number] = replace(operation, booking=str(booking["id"]), found=self.instant())
        return True


def _title(number: int) -> str:
    return f"verify {number}"


def _number(title: str | None) -> int | None:
    word, _, digits = (title or "").partition(" ")
    return int(digits) if word == "verify" and digits.isdecimal() else None
