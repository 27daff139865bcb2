"""A booking service in memory that does what api.md says, or breaks one promise on purpose: a control for `holdfast verify`."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx

#: What it can do wrong.
FAULTS = (
    "looks before it writes, and lets others in between",
    "refuses now and then what is free",
    "forgets a booking now and then",
    "forgets a cancel now and then",
    "leaves the old place taken when it moves",
    "lists what was so a while ago",
    "ends holds too early",
    "ends holds too late",
    "confirms holds that ended",
    "does not know its own bookings now and then",
)
_NOW_AND_THEN = 0.3


@dataclass
class Slot:
    """A slot, and who has it: a booking's id or a hold's token."""

    id: str
    start: str
    booking: str | None = None
    hold: str | None = None


@dataclass
class SmallService:
    """`fault` is one of FAULTS, or nothing; `lost_answers` the share of requests that are cut off, done or not."""

    hold_for: float
    fault: str | None = None
    lost_answers: float = 0.0
    slots: dict[str, dict[str, Slot]] = field(default_factory=dict)
    bookings: dict[str, dict[str, Any]] = field(default_factory=dict)
    holds: dict[str, tuple[str, float]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    numbers: Any = field(default_factory=lambda: count(1))
    earlier: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    @property
    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self._answer)

    def _now_and_then(self, fault: str) -> bool:
        return self.fault == fault and self.chance.random() < _NOW_AND_THEN

    async def _pause(self) -> None:
        for _ in range(self.chance.randrange(12)):
            await asyncio.sleep(0)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        # Making ready and clearing away always work.
        path = request.url.path
        sturdy = path == "/holds/my" or not path.startswith(("/bookings", "/holds"))
        cut = not sturdy and self.chance.random() < self.lost_answers
        await self._pause()
        if cut and self.chance.random() < 0.5:
            raise httpx.ReadError("cut before it was done", request=request)
        answer = await self._route(request, path)
        await self._pause()
        if cut:
            raise httpx.ReadError("cut after it was done", request=request)
        return answer

    async def _route(self, request: httpx.Request, path: str) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        match request.method, path.strip("/").split("/"):
            case "POST", ["dummyLogin" | "login"]:
                return httpx.Response(200, json={"token": "token"})
            case "POST", ["register"]:
                return httpx.Response(201, json={"user": {}})
            case "POST", ["rooms"]:
                return self._make_room()
            case "GET", ["rooms", room, "slots"]:
                return self._list(room, request)
            case "POST", ["bookings"] if "holdToken" in body:
                return self._confirm(body["holdToken"], body["title"])
            case "POST", ["bookings"]:
                return await self._book(body["slotId"], body["title"])
            case "GET", ["bookings", "my"]:
                return self._active(None)
            case "GET", ["bookings"]:
                return self._active(request.url.params["roomId"])
            case "GET", ["bookings", booking]:
                return self._known(booking) or httpx.Response(200, json={"booking": self.bookings[booking]})
            case "POST", ["bookings", booking, "cancel"]:
                return self._known(booking) or self._cancel(booking)
            case "POST", ["bookings", booking, "reschedule"]:
                return self._known(booking) or self._move(booking, body["slotId"])
            case "POST", ["holds"]:
                return self._hold(body["slotId"])
            case "DELETE", ["holds", token]:
                return self._release(token)
        return httpx.Response(200, json={})

    def _make_room(self) -> httpx.Response:
        room = f"room-{len(self.slots) + 1}"
        starts = [datetime(2030, 1, 1, 8, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(8)]
        self.slots[room] = {f"{room}-{n}": Slot(f"{room}-{n}", at.isoformat()) for n, at in enumerate(starts)}
        return httpx.Response(201, json={"room": {"id": room}})

    def _slot(self, slot_id: str) -> Slot:
        slot = self.slots[slot_id.rpartition("-")[0]][slot_id]
        if slot.hold is not None and self._is_over(slot.hold):
            slot.hold = None
        return slot

    def _is_over(self, token: str, *, on_time: bool = False) -> bool:
        lasts = self.hold_for
        if not on_time:
            lasts *= {"ends holds too early": 0.3, "ends holds too late": 2.5}.get(self.fault or "", 1)
        return time.monotonic() >= self.holds[token][1] + lasts

    def _is_free(self, slot: Slot) -> bool:
        return slot.booking is None and slot.hold is None

    def _list(self, room: str, request: httpx.Request) -> httpx.Response:
        self._note()
        ago = 0.05 if self.fault == "lists what was so a while ago" else 0.0
        now = time.monotonic()
        sights = next((seen for at, seen in self.earlier if at > now - ago), self.earlier[-1][1])
        listed = [
            {"id": slot.id, "start": slot.start, "status": sights.get(slot.id, "free")} for slot in self.slots[room].values()
        ]
        return httpx.Response(200, json={"slots": listed})

    def _note(self) -> None:
        """How it is now."""
        seen = {}
        for room in self.slots.values():
            for name in room:
                slot = self._slot(name)
                seen[name] = "booked" if slot.booking else "held" if slot.hold else "free"
        self.earlier.append((time.monotonic(), seen))

    def _refusal(self, status: int, code: str) -> httpx.Response:
        return httpx.Response(status, json={"error": {"code": code}})

    async def _book(self, slot_id: str, title: str) -> httpx.Response:
        slot = self._slot(slot_id)
        if not self._is_free(slot) or self._now_and_then("refuses now and then what is free"):
            return self._refusal(409, "SLOT_ALREADY_BOOKED")
        if self.fault == "looks before it writes, and lets others in between":
            await self._pause()
        booking = self._make(slot_id, title)
        if not self._now_and_then("forgets a booking now and then"):
            slot.booking = booking["id"]
        return httpx.Response(201, json={"booking": booking})

    def _make(self, slot_id: str, title: str) -> dict[str, Any]:
        booking = {"id": f"booking-{next(self.numbers)}", "slotId": slot_id, "status": "active", "title": title}
        self.bookings[booking["id"]] = booking
        return booking

    def _active(self, room: str | None) -> httpx.Response:
        found = [one for one in self.bookings.values() if one["status"] == "active"]
        return httpx.Response(200, json={"bookings": [one for one in found if one["slotId"].startswith(f"{room or 'room'}-")]})

    def _known(self, booking: str) -> httpx.Response | None:
        """A refusal where it does not know the booking, and nothing where it does."""
        if self._now_and_then("does not know its own bookings now and then"):
            return self._refusal(404, "BOOKING_NOT_FOUND")
        return None

    def _cancel(self, booking_id: str) -> httpx.Response:
        booking = self.bookings[booking_id]
        slot = self._slot(booking["slotId"])
        booking["status"] = "cancelled"
        if slot.booking == booking_id and not self._now_and_then("forgets a cancel now and then"):
            slot.booking = None
        return httpx.Response(200, json={"booking": booking})

    def _move(self, booking_id: str, slot_id: str) -> httpx.Response:
        booking, slot = self.bookings[booking_id], self._slot(slot_id)
        if booking["status"] != "active":
            return self._refusal(409, "BOOKING_CANCELLED")
        if not self._is_free(slot) and slot.booking != booking_id:
            return self._refusal(409, "SLOT_ALREADY_BOOKED")
        if self.fault != "leaves the old place taken when it moves":
            self._slot(booking["slotId"]).booking = None
        booking["slotId"], slot.booking = slot_id, booking_id
        return httpx.Response(200, json={"booking": booking})

    def _hold(self, slot_id: str) -> httpx.Response:
        slot = self._slot(slot_id)
        if not self._is_free(slot):
            return self._refusal(409, "SLOT_ALREADY_BOOKED")
        slot.hold = f"hold-{next(self.numbers)}"
        self.holds[slot.hold] = (slot_id, time.monotonic())
        return httpx.Response(201, json={"hold": {"token": slot.hold}})

    def _confirm(self, token: str, title: str) -> httpx.Response:
        slot_id, _ = self.holds[token]
        slot = self._slot(slot_id)
        late = self.fault == "confirms holds that ended" and slot.booking is None and slot.hold is None
        if slot.hold != token and not late:
            return self._refusal(410, "HOLD_EXPIRED")
        slot.hold = None
        booking = self._make(slot_id, title)
        slot.booking = booking["id"]
        return httpx.Response(201, json={"booking": booking})

    def _release(self, token: str) -> httpx.Response:
        slot = self._slot(self.holds[token][0])
        if slot.hold != token:
            return self._refusal(410, "HOLD_EXPIRED")
        slot.hold = None
        return httpx.Response(204)
