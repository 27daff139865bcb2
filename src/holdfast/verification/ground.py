"""What a recording needs at the service: rooms of its own with a few slots, an admin, users; and taking them away again."""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from holdfast.core import clock

_CREATED, _OK, _NOT_FOUND, _METHOD_NOT_ALLOWED = 201, 200, 404, 405
#: Registering costs the service a password hash; more at a time would only queue.
_AT_ONCE = 4
#: Far enough ahead that no slot begins during the longest run.
_DAYS_AHEAD = 7


class VerificationError(Exception):
    """The service cannot be verified as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user made for the recording."""

    email: str
    password: str
    token: str


@dataclass(frozen=True, slots=True)
class Ground:
    """Where it is recorded. `slots` are the units by room, `names` what people call them, `hold_for` how long a hold lasts."""

    admin: str
    accounts: tuple[Account, ...]
    slots: dict[str, tuple[str, ...]]
    names: dict[str, str]
    day: str
    hold_for: timedelta


def bearer(token: str) -> dict[str, str]:
    """The headers of a caller."""
    return {"Authorization": f"Bearer {token}"}


async def admin_token(client: httpx.AsyncClient) -> str:
    """An admin's token, which only a service in development gives away. Raises VerificationError."""
    answer = await client.post("/dummyLogin", json={"role": "admin"})
    if answer.status_code != _OK:
        raise VerificationError(
            f"{client.base_url} has no demo log-in ({answer.status_code}): verify makes rooms and users of its own, so it needs "
            "a service with HOLDFAST_ENV=development on a database that may be written to. Try: make run"
        )
    return str(answer.json()["token"])


async def log_in(client: httpx.AsyncClient, account: Account) -> Account:
    """The account with a fresh token. Raises VerificationError."""
    answer = await client.post("/login", json={"email": account.email, "password": account.password})
    if answer.status_code != _OK:
        raise VerificationError(f"A user that verify had made could not log in: {answer.status_code} {answer.text[:200]}")
    return Account(account.email, account.password, str(answer.json()["token"]))


async def prepare(client: httpx.AsyncClient, *, rooms: int, slots: int, users: int, holds: bool, hold_for: timedelta) -> Ground:
    """Make rooms and users. Raises VerificationError where the service will not have them."""
    try:
        admin = await admin_token(client)
        made = [await _room(client, admin, number, slots, hold_for) for number in range(1, rooms + 1)]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one() -> Account:
            async with turns:
                return await _account(client)

        accounts = await asyncio.gather(*(one() for _ in range(users)))
        if holds:
            await _look_for_holds(client, accounts[0])
    except httpx.HTTPError as error:
        raise VerificationError(f"{client.base_url} does not answer ({error or type(error).__name__}): is it running?") from None
    return Ground(
        admin=admin,
        accounts=tuple(accounts),
        slots={room: tuple(names) for room, names in made},
        names={unit: name for _room_id, names in made for unit, name in names.items()},
        day=_day(),
        hold_for=hold_for,
    )


def _day() -> str:
    return (clock.now() + timedelta(days=_DAYS_AHEAD)).date().isoformat()


async def _room(
    client: httpx.AsyncClient, admin: str, number: int, slots: int, hold_for: timedelta
) -> tuple[str, dict[str, str]]:
    """A room's id, and its first slots with their names."""
    name = f"Verification {clock.instant_text(clock.now().replace(microsecond=0))} ({number})"
    policy = {"holdSeconds": int(hold_for.total_seconds())}
    made = await _asked(client, "POST", "/rooms", admin, {"name": name, "policy": policy}, _CREATED)
    room = str(made["room"]["id"])
    day = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "08:00", "endTime": "20:00", "slotMinutes": 30}
    await _asked(client, "PUT", f"/rooms/{room}/schedule", admin, day, _OK)
    listed = await _asked(client, "GET", f"/rooms/{room}/slots?date={_day()}", admin, None, _OK)
    if len(listed["slots"]) < slots:
        raise VerificationError(f"There are only {len(listed['slots'])} slots a day in a room: ask for no more.")
    return room, {str(slot["id"]): f"{name}, {slot['start']}" for slot in listed["slots"][:slots]}


async def _account(client: httpx.AsyncClient) -> Account:
    account = Account(f"verify-{secrets.token_hex(8)}@example.com", secrets.token_urlsafe(12), "")
    answer = await client.post("/register", json={"email": account.email, "password": account.password, "role": "user"})
    if answer.status_code != _CREATED:
        raise VerificationError(f"POST /register was answered {answer.status_code}: {answer.text[:200]}")
    return await log_in(client, account)


async def _look_for_holds(client: httpx.AsyncClient, account: Account) -> None:
    answer = await client.get("/holds/my", headers=bearer(account.token))
    if answer.status_code in {_NOT_FOUND, _METHOD_NOT_ALLOWED}:
        raise VerificationError(f"{client.base_url} has no /holds: verify it without them (--no-holds).")


async def _asked(client: httpx.AsyncClient, method: str, path: str, token: str, body: Any, status: int) -> Any:
    answer = await client.request(method, path, headers=bearer(token), json=body)
    if answer.status_code != status:
        raise VerificationError(f"{method} {path} was answered {answer.status_code}: {answer.text[:200]}")
    return answer.json()


async def clear_away(client: httpx.AsyncClient, ground: Ground) -> None:
    """End the accounts, which cancels their bookings, and archive the rooms; what will not go stays."""
    with suppress(httpx.HTTPError):
        for account in ground.accounts:
            await client.delete("/users/me", headers=bearer(account.token))
        for room in ground.slots:
            await client.delete(f"/rooms/{room}", headers=bearer(ground.admin))
