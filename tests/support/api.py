"""A client that speaks Holdfast: logs in, makes rooms, finds slots, books."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens
from holdfast.db.database import Database

WINDOW = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "17:00"}


def tomorrow(days: int = 1) -> str:
    """A date ahead, in UTC, far enough that all its slots are."""
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


@dataclass(frozen=True)
class Person:
    """Somebody with a token."""

    id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Api:
    """Requests as people make them; answers are httpx responses unless a method says otherwise."""

    def __init__(self, client: httpx.AsyncClient, db: Database, tokens: AccessTokens) -> None:
        self.client = client
        self.db = db
        self.tokens = tokens

    async def person(self, role: str = "user", email: str | None = None) -> Person:
        """A new user with a session, made without the cost of a password."""
        user_id, session_id, now = new_id(), new_id(), datetime.now(UTC)
        email = email or f"{user_id}@example.com"
        await self.db.fetch(
            "INSERT INTO users (id, email, email_key, role) VALUES ($1, $2, $3, $4)", user_id, email, email.lower(), role
        )
        await self.db.fetch(
            "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
            session_id,
            user_id,
            now,
            now + timedelta(days=1),
        )
        return Person(user_id, self.tokens.sign(user_id=user_id, role=role, session_id=session_id, now=now))

    async def admin(self) -> Person:
        return await self.person("admin")

    async def people(self, count: int) -> list[Person]:
        return [await self.person() for _ in range(count)]

    async def send(self, method: str, path: str, who: Person | None = None, **request: Any) -> httpx.Response:
        """One request; `who` adds the token."""
        headers = dict(request.pop("headers", None) or {})
        if who is not None:
            headers |= who.headers
        return await self.client.request(method, path, headers=headers, **request)

    async def get(self, path: str, who: Person | None = None, **request: Any) -> httpx.Response:
        return await self.send("GET", path, who, **request)

    async def post(self, path: str, who: Person | None = None, **request: Any) -> httpx.Response:
        return await self.send("POST", path, who, **request)

    async def room(self, admin: Person, schedule: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """A room that is open every day from nine to five, in half hours; returns its shape."""
        made = await self.post("/rooms", admin, json={"name": "Room", **fields})
        assert made.status_code == 201, made.text
        room: dict[str, Any] = made.json()["room"]
        put = await self.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=schedule or WINDOW)
        assert put.status_code == 200, put.text
        return room

    async def slots(self, who: Person, room: dict[str, Any], day: str | None = None) -> list[dict[str, Any]]:
        """The free slots of a date, tomorrow's without one."""
        listed = await self.get(f"/rooms/{room['id']}/slots", who, params={"date": day or tomorrow()})
        assert listed.status_code == 200, listed.text
        slots: list[dict[str, Any]] = listed.json()["slots"]
        return slots

    async def book(self, who: Person, slot: dict[str, Any], **request: Any) -> httpx.Response:
        """Book one slot; `json` adds fields."""
        body = {"slotId": slot["id"], **(request.pop("json", None) or {})}
        return await self.post("/bookings", who, json=body, **request)

    async def booked(self, who: Person, slot: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """The booking of one slot, which must succeed."""
        made = await self.book(who, slot, json=fields)
        assert made.status_code == 201, made.text
        booking: dict[str, Any] = made.json()["booking"]
        return booking


def code(response: httpx.Response) -> str:
    """The stable code of an error answer, after a look at its form."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"] == body["error"]["message"]
    found: str = body["error"]["code"]
    return found
