"""Who may call what: every operation of the service's document, by every kind of caller; and forty forged tokens and keys.

An operation without a row fails the last test, so a new route needs a decision here before it can be merged.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from starlette.types import ASGIApp, Message

from holdfast.accounts.service import make_reset_token
from holdfast.core.security import AccessTokens, Identity
from holdfast.main import build_app
from holdfast.web.state import State
from support.api import WINDOW, Api, Person, tomorrow
from support.contract import check_problem, service_operations
from support.doors import door
from support.servers import SECRET

#: Kinds of callers with an account, and with a good API key of the user's or the admin's.
INSIDERS = ["user", "other", "admin"]
KEYS = ["readKey", "writeKey", "adminKey"]
#: These never get anywhere but where anyone gets.
OUTSIDERS = ["nobody", "garbage", "suspended", "deleted", "ended", "expiredKey", "deletedKey", "suspendedKey"]
KINDS = [*INSIDERS, *KEYS, *OUTSIDERS]


@dataclass
class Stage:
    """Fresh people and things for one request; `user` is the one whose things they are."""

    api: Api
    user: Person
    other: Person
    admin: Person

    async def room(self) -> str:
        return str((await self.api.room(self.admin))["id"])

    async def slot(self) -> str:
        room = await self.api.room(self.admin)
        return str((await self.api.slots(self.admin, room))[0]["id"])

    async def booking(self) -> str:
        made = await self.api.post("/bookings", self.user, json={"slotId": await self.slot()})
        assert made.status_code == 201, made.text
        return str(made.json()["booking"]["id"])

    async def closure(self) -> tuple[str, str]:
        room, body = await self.room(), {"start": f"{tomorrow()}T01:00:00Z", "end": f"{tomorrow()}T02:00:00Z"}
        made = await self.api.post(f"/rooms/{room}/closures", self.admin, json=body)
        assert made.status_code == 201, made.text
        return room, str(made.json()["closure"]["id"])

    async def host(self) -> str:
        """The user is a host from then on."""
        made = await self.api.post("/hosts", self.user, json={"displayName": "Ada"})
        assert made.status_code == 201, made.text
        return str(made.json()["host"]["id"])

    async def published(self) -> str:
        """A slot that the user, a host from then on, has published."""
        await self.host()
        made = await self.api.post("/slots", self.user, json=closing())
        assert made.status_code == 201, made.text
        return str(made.json()["slot"]["id"])

    async def host_closure(self) -> tuple[str, str]:
        host = await self.host()
        made = await self.api.post(f"/hosts/{host}/closures", self.user, json=closing())
        assert made.status_code == 201, made.text
        return host, str(made.json()["closure"]["id"])

    async def hold(self) -> str:
        made = await self.api.post("/holds", self.user, json={"slotId": await self.slot()})
        assert made.status_code == 201, made.text
        return str(made.json()["hold"]["token"])

    async def event(self, seats: int = 0) -> str:
        made = await self.api.post("/events", self.admin, json={"name": "Concert", "start": f"{tomorrow(2)}T18:00:00Z"})
        assert made.status_code == 201, made.text
        event = str(made.json()["event"]["id"])
        if seats:
            added = await self.api.post(f"/events/{event}/seats", self.admin, json={"count": seats})
            assert added.status_code == 201, added.text
        return event

    async def series(self) -> str:
        made = await self.api.post("/bookings/series", self.user, json=repeated(await self.room()))
        assert made.status_code == 201, made.text
        return str(made.json()["series"]["id"])

    async def entry(self) -> str:
        """The user waits for a seat of an event that has none."""
        made = await self.api.post("/waitlist", self.user, json={"eventId": await self.event()})
        assert made.status_code == 201, made.text
        return str(made.json()["entry"]["id"])

    async def ticket(self) -> str:
        """The user waits for their turn at a room; written where it is stored, as a turn is over in milliseconds."""
        room, ticket = await self.room(), uuid4()
        await self.api.db.fetch(
            "INSERT INTO booking_requests (id, resource_no, user_id, request) "
            "SELECT $1, no, $2, '{}' FROM resources WHERE id = $3",
            ticket,
            self.user.id,
            UUID(room),
        )
        return str(ticket)

    async def api_key(self, who: Person, *scopes: str) -> tuple[str, Person]:
        """A key's id, and its owner as they come with it."""
        body = {"name": "Key", "scopes": list(scopes or ("read", "write"))}
        made = await self.api.post("/api-keys", who, json=body)
        assert made.status_code == 201, made.text
        return str(made.json()["apiKey"]["id"]), Person(who.id, made.json()["secret"])

    async def feed(self) -> dict[str, Any]:
        """The user's calendar feed: the answer to its making."""
        made = await self.api.post("/calendar-feeds", self.user, json={})
        assert made.status_code == 201, made.text
        answer: dict[str, Any] = made.json()
        return answer

    async def webhook(self) -> str:
        made = await self.api.post("/webhooks", self.admin, json=hook())
        assert made.status_code == 201, made.text
        return str(made.json()["webhook"]["id"])

    async def delivery(self) -> tuple[str, str]:
        webhook = await self.webhook()
        sent = await self.api.post(f"/webhooks/{webhook}/test", self.admin)
        assert sent.status_code == 202, sent.text
        return webhook, str(sent.json()["delivery"]["id"])

    async def dead_job(self) -> str:
        """Written where it is stored: a job is given up after hours."""
        job = uuid4()
        await self.api.db.fetch(
            "INSERT INTO jobs (id, kind, payload, state, failures, error, failed_at) "
            "VALUES ($1, 'mail', '{}', 'dead', 9, 'no answer', now())",
            job,
        )
        return str(job)


Request = tuple[str, dict[str, Any]]
Prepare = Callable[[Stage], Awaitable[Request]]


@dataclass(frozen=True)
class Row:
    """The statuses of the three who have an account: the user, another user, an admin. `open_to_all`: no token is needed.

    `keys=False`: for who has logged in only; an API key is no way to its owner's other credentials.
    """

    prepare: Prepare
    user: int
    other: int
    admin: int
    open_to_all: bool = False
    keys: bool = True

    def expected(self, method: str, kind: str) -> int:
        """What that kind of caller is answered."""
        if kind in INSIDERS:
            status: int = getattr(self, kind)
            return status
        if self.open_to_all:
            return self.user
        if kind in OUTSIDERS:
            return 401
        if not self.keys or (kind == "readKey" and method != "GET"):
            return 403
        return self.admin if kind == "adminKey" else self.user


def plain(path: str, **request: Any) -> Prepare:
    """A request that needs nothing made first."""

    async def prepare(_stage: Stage) -> Request:
        return path, request

    return prepare


def of_room(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.room()), request

    return prepare


def of_booking(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.booking()), request

    return prepare


def of_user(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(stage.user.id), request

    return prepare


def of_slot(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(stage.user.id), {"json": {"slotId": await stage.slot()}}

    return prepare


def of_host(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.host()), request

    return prepare


async def of_scheduled_host(stage: Stage) -> Request:
    path = f"/hosts/{await stage.host()}/schedule"
    assert (await stage.api.send("PUT", path, stage.user, json=WINDOW)).status_code == 200
    return path, {}


async def of_host_closure(stage: Stage) -> Request:
    return "/hosts/{}/closures/{}".format(*await stage.host_closure()), {}


def of_published(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.published()), {}

    return prepare


async def of_publishing(stage: Stage) -> Request:
    await stage.host()
    return "/slots", {"json": closing()}


async def of_own_slots(stage: Stage) -> Request:
    await stage.host()
    return "/slots/host", {}


def of_hold(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.hold()), {}

    return prepare


def of_event(path: str, *, seats: int = 0, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.event(seats)), request

    return prepare


def of_entry(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.entry()), {}

    return prepare


def of_ticket(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.ticket()), {}

    return prepare


def of_repetition(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path, {"json": repeated(await stage.room())}

    return prepare


def of_series(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.series()), request

    return prepare


async def of_wait(stage: Stage) -> Request:
    return "/waitlist", {"json": {"eventId": await stage.event()}}


async def of_bare_room(stage: Stage) -> Request:
    made = await stage.api.post("/rooms", stage.admin, json={"name": "Bare"})
    return f"/rooms/{made.json()['room']['id']}/schedule/create", {"json": WINDOW}


async def of_move(stage: Stage) -> Request:
    return f"/bookings/{await stage.booking()}/reschedule", {"json": {"slotId": await stage.slot()}}


async def of_closure(stage: Stage) -> Request:
    return "/rooms/{}/closures/{}".format(*await stage.closure()), {}


async def of_account(stage: Stage) -> Request:
    account = {"email": f"{uuid4()}@example.com", "password": "x"}
    assert (await stage.api.post("/register", json=account | {"role": "user"})).status_code == 201
    return "/login", {"json": account}


async def of_registration(_stage: Stage) -> Request:
    return "/register", {"json": {"email": f"{uuid4()}@example.com", "password": "x", "role": "user"}}


async def of_refresh_token(stage: Stage) -> Request:
    path, request = await of_account(stage)
    pair = (await stage.api.post(path, **request)).json()
    return "/auth/refresh", {"json": {"refreshToken": pair["refreshToken"]}}


def of_key(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        key, _ = await stage.api_key(stage.user)
        return path.format(key), {}

    return prepare


async def of_forgetting(stage: Stage) -> Request:
    return "/auth/password-reset", {"json": {"email": f"{stage.user.id}@example.com"}}


async def of_reset_token(stage: Stage) -> Request:
    token = await make_reset_token(stage.api.db, stage.user.id)
    return "/auth/password-reset", {"json": {"token": token, "newPassword": "new"}}


async def of_feed(stage: Stage) -> Request:
    return f"/calendar-feeds/{(await stage.feed())['feed']['id']}", {}


def of_feed_address(name: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return urlsplit((await stage.feed())[name]).path, {}

    return prepare


def of_webhook(path: str, **request: Any) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.webhook()), request

    return prepare


def of_delivery(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(*await stage.delivery()), {}

    return prepare


def of_dead_job(path: str) -> Prepare:
    async def prepare(stage: Stage) -> Request:
        return path.format(await stage.dead_job()), {}

    return prepare


def hook() -> dict[str, Any]:
    return {"url": "https://hooks.example.com/holdfast", "types": ["booking.created"]}


def day() -> dict[str, str]:
    return {"date": tomorrow()}


def period() -> dict[str, str]:
    return {"from": "2026-11-01", "to": "2026-11-30"}


def stretch() -> dict[str, Any]:
    return {"from": f"{tomorrow()}T09:00:00Z", "to": f"{tomorrow()}T12:00:00Z", "minutes": 30}


def closing() -> dict[str, Any]:
    return {"start": f"{tomorrow()}T01:00:00Z", "end": f"{tomorrow()}T02:00:00Z"}


def repeated(room: str) -> dict[str, Any]:
    day = tomorrow()
    return {"roomId": room, "start": f"{day}T09:00:00Z", "end": f"{day}T09:30:00Z", "recurrence": "FREQ=DAILY;COUNT=2"}


# fmt: off
#                                              user other admin
MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "/_info"): Row(plain("/_info"), 200, 200, 200, open_to_all=True),
    ("GET", "/health"): Row(plain("/health"), 200, 200, 200, open_to_all=True),
    ("GET", "/livez"): Row(plain("/livez"), 200, 200, 200, open_to_all=True),
    ("GET", "/readyz"): Row(plain("/readyz"), 200, 200, 200, open_to_all=True),
    ("POST", "/dummyLogin"): Row(plain("/dummyLogin", json={"role": "user"}), 200, 200, 200, open_to_all=True),
    ("POST", "/register"): Row(of_registration, 201, 201, 201, open_to_all=True),
    ("POST", "/login"): Row(of_account, 200, 200, 200, open_to_all=True),
    ("POST", "/auth/refresh"): Row(of_refresh_token, 200, 200, 200, open_to_all=True),
    ("POST", "/auth/logout"): Row(plain("/auth/logout"), 204, 204, 204, keys=False),
    ("POST", "/auth/password-reset"): Row(of_forgetting, 202, 202, 202, open_to_all=True),
    ("PUT", "/auth/password-reset"): Row(of_reset_token, 204, 204, 204, open_to_all=True),
    ("POST", "/api-keys"): Row(plain("/api-keys", json={"name": "Key"}), 201, 201, 201, keys=False),
    ("GET", "/api-keys"): Row(plain("/api-keys"), 200, 200, 200, keys=False),
    # Nobody else learns that there is such a key.
    ("GET", "/api-keys/{key_id}"): Row(of_key("/api-keys/{}"), 200, 404, 404, keys=False),
    ("DELETE", "/api-keys/{key_id}"): Row(of_key("/api-keys/{}"), 204, 404, 404, keys=False),
    ("GET", "/users/me"): Row(plain("/users/me"), 200, 200, 200),
    ("PATCH", "/users/me"): Row(plain("/users/me", json={"name": "New"}), 200, 200, 200),
    ("DELETE", "/users/me"): Row(plain("/users/me"), 204, 204, 204, keys=False),
    # These people have no password at all, so no current one is right.
    ("PUT", "/users/me/password"): Row(
        plain("/users/me/password", json={"currentPassword": "x", "newPassword": "y"}), 403, 403, 403, keys=False),
    ("GET", "/users"): Row(plain("/users"), 403, 403, 200),
    ("GET", "/users/{user_id}"): Row(of_user("/users/{}"), 403, 403, 200),
    ("PATCH", "/users/{user_id}"): Row(of_user("/users/{}", json={"status": "suspended"}), 403, 403, 200),
    ("POST", "/users/{user_id}/bookings"): Row(of_slot("/users/{}/bookings"), 403, 403, 201),
    ("GET", "/availability"): Row(plain("/availability", params=stretch()), 200, 200, 200),
    ("GET", "/booking-requests/my"): Row(plain("/booking-requests/my"), 200, 200, 403),
    ("GET", "/booking-requests/{request_id}"): Row(of_ticket("/booking-requests/{}"), 200, 403, 200),
    ("DELETE", "/booking-requests/{request_id}"): Row(of_ticket("/booking-requests/{}"), 204, 403, 403),
    ("GET", "/rooms"): Row(plain("/rooms"), 200, 200, 200),
    ("GET", "/rooms/list"): Row(plain("/rooms/list"), 200, 200, 200),
    ("POST", "/rooms"): Row(plain("/rooms", json={"name": "New"}), 403, 403, 201),
    ("POST", "/rooms/create"): Row(plain("/rooms/create", json={"name": "New"}), 403, 403, 201),
    ("GET", "/rooms/{room_id}"): Row(of_room("/rooms/{}"), 200, 200, 200),
    ("PATCH", "/rooms/{room_id}"): Row(of_room("/rooms/{}", json={"name": "New"}), 403, 403, 200),
    ("DELETE", "/rooms/{room_id}"): Row(of_room("/rooms/{}"), 403, 403, 204),
    ("POST", "/rooms/{room_id}/schedule/create"): Row(of_bare_room, 403, 403, 201),
    ("GET", "/rooms/{room_id}/schedule"): Row(of_room("/rooms/{}/schedule"), 200, 200, 200),
    ("PUT", "/rooms/{room_id}/schedule"): Row(of_room("/rooms/{}/schedule", json=WINDOW), 403, 403, 200),
    ("GET", "/rooms/{room_id}/slots"): Row(of_room("/rooms/{}/slots", params=day()), 200, 200, 200),
    ("GET", "/rooms/{room_id}/slots/list"): Row(of_room("/rooms/{}/slots/list", params=day()), 200, 200, 200),
    ("POST", "/rooms/{room_id}/closures"): Row(of_room("/rooms/{}/closures", json=closing()), 403, 403, 201),
    ("GET", "/rooms/{room_id}/closures"): Row(of_room("/rooms/{}/closures"), 403, 403, 200),
    ("DELETE", "/rooms/{room_id}/closures/{closure_id}"): Row(of_closure, 403, 403, 204),
    ("POST", "/bookings"): Row(of_slot("/bookings"), 201, 201, 403),
    ("POST", "/bookings/create"): Row(of_slot("/bookings/create"), 201, 201, 403),
    ("GET", "/bookings"): Row(plain("/bookings"), 403, 403, 200),
    ("GET", "/bookings/list"): Row(plain("/bookings/list"), 403, 403, 200),
    ("GET", "/bookings/my"): Row(plain("/bookings/my"), 200, 200, 403),
    ("GET", "/bookings/{booking_id}"): Row(of_booking("/bookings/{}"), 200, 403, 200),
    ("PATCH", "/bookings/{booking_id}"): Row(of_booking("/bookings/{}", json={"title": "New"}), 200, 403, 403),
    ("DELETE", "/bookings/{booking_id}"): Row(of_booking("/bookings/{}"), 200, 403, 200),
    ("POST", "/bookings/{booking_id}/cancel"): Row(of_booking("/bookings/{}/cancel"), 200, 403, 403),
    ("POST", "/bookings/{booking_id}/reschedule"): Row(of_move, 200, 403, 403),
    ("POST", "/bookings/series"): Row(of_repetition("/bookings/series"), 201, 201, 403),
    ("POST", "/bookings/series/preview"): Row(of_repetition("/bookings/series/preview"), 200, 200, 403),
    ("GET", "/series/{series_id}"): Row(of_series("/series/{}"), 200, 403, 403),
    ("POST", "/series/{series_id}/cancel"): Row(of_series("/series/{}/cancel", json={}), 200, 403, 403),
    ("POST", "/series/{series_id}/reschedule"): Row(
        of_series("/series/{}/reschedule", json={"start": f"{tomorrow()}T10:00:00Z", "end": f"{tomorrow()}T10:30:00Z"}),
        200, 403, 403),
    ("POST", "/holds"): Row(of_slot("/holds"), 201, 201, 403),
    ("GET", "/holds/my"): Row(plain("/holds/my"), 200, 200, 403),
    # Whose hold it is, decides; an admin does not hold at all.
    ("GET", "/holds/{token}"): Row(of_hold("/holds/{}"), 200, 403, 403),
    ("DELETE", "/holds/{token}"): Row(of_hold("/holds/{}"), 204, 403, 403),
    ("POST", "/holds/{token}/extend"): Row(of_hold("/holds/{}/extend"), 200, 403, 403),
    ("POST", "/hosts"): Row(plain("/hosts", json={"displayName": "Ada"}), 201, 201, 403),
    ("GET", "/hosts"): Row(plain("/hosts"), 200, 200, 200),
    ("GET", "/hosts/{host_id}"): Row(of_host("/hosts/{}"), 200, 200, 200),
    # A profile is the host's own; their time an admin may arrange, too.
    ("PATCH", "/hosts/{host_id}"): Row(of_host("/hosts/{}", json={"bio": "New"}), 200, 403, 403),
    ("GET", "/hosts/{host_id}/schedule"): Row(of_scheduled_host, 200, 200, 200),
    ("PUT", "/hosts/{host_id}/schedule"): Row(of_host("/hosts/{}/schedule", json=WINDOW), 200, 403, 200),
    ("GET", "/hosts/{host_id}/slots"): Row(of_host("/hosts/{}/slots", params=day()), 200, 200, 200),
    ("POST", "/hosts/{host_id}/closures"): Row(of_host("/hosts/{}/closures", json=closing()), 201, 403, 201),
    ("GET", "/hosts/{host_id}/closures"): Row(of_host("/hosts/{}/closures"), 200, 403, 200),
    ("DELETE", "/hosts/{host_id}/closures/{closure_id}"): Row(of_host_closure, 204, 403, 204),
    # The other user is no host.
    ("POST", "/slots"): Row(of_publishing, 201, 403, 403),
    ("GET", "/slots"): Row(plain("/slots"), 200, 200, 200),
    ("GET", "/slots/host"): Row(of_own_slots, 200, 403, 403),
    ("GET", "/slots/{slot_id}"): Row(of_published("/slots/{}"), 200, 200, 200),
    ("DELETE", "/slots/{slot_id}"): Row(of_published("/slots/{}"), 204, 403, 403),
    ("POST", "/events"): Row(plain("/events", json={"name": "New", "start": f"{tomorrow()}T18:00:00Z"}), 403, 403, 201),
    ("GET", "/events"): Row(plain("/events"), 200, 200, 200),
    ("GET", "/events/{event_id}"): Row(of_event("/events/{}"), 200, 200, 200),
    ("PATCH", "/events/{event_id}"): Row(of_event("/events/{}", json={"name": "New"}), 403, 403, 200),
    ("DELETE", "/events/{event_id}"): Row(of_event("/events/{}"), 403, 403, 204),
    ("GET", "/events/{event_id}/seats"): Row(of_event("/events/{}/seats"), 200, 200, 200),
    ("POST", "/events/{event_id}/seats"): Row(of_event("/events/{}/seats", json={"count": 2}), 403, 403, 201),
    ("PATCH", "/events/{event_id}/seats"): Row(
        of_event("/events/{}/seats", seats=2, json={"labels": ["1"], "blocked": True}), 403, 403, 200),
    ("POST", "/waitlist"): Row(of_wait, 201, 201, 403),
    ("POST", "/events/{event_id}/waitlist"): Row(of_event("/events/{}/waitlist", json={}), 201, 201, 403),
    ("GET", "/events/{event_id}/waitlist"): Row(of_event("/events/{}/waitlist"), 403, 403, 200),
    ("GET", "/waitlist/my"): Row(plain("/waitlist/my"), 200, 200, 403),
    ("GET", "/waitlist/{entry_id}"): Row(of_entry("/waitlist/{}"), 200, 403, 403),
    ("DELETE", "/waitlist/{entry_id}"): Row(of_entry("/waitlist/{}"), 204, 403, 403),
    ("GET", "/stream"): Row(plain("/stream"), 200, 200, 200),
    ("POST", "/auth/ticket"): Row(plain("/auth/ticket"), 200, 200, 200, keys=False),
    ("POST", "/notices"): Row(plain("/notices", json={"message": "Closing"}), 403, 403, 201),
    ("POST", "/webhooks"): Row(plain("/webhooks", json=hook()), 403, 403, 201),
    ("GET", "/webhooks"): Row(plain("/webhooks"), 403, 403, 200),
    ("GET", "/webhooks/{webhook_id}"): Row(of_webhook("/webhooks/{}"), 403, 403, 200),
    ("PATCH", "/webhooks/{webhook_id}"): Row(of_webhook("/webhooks/{}", json={"enabled": False}), 403, 403, 200),
    ("DELETE", "/webhooks/{webhook_id}"): Row(of_webhook("/webhooks/{}"), 403, 403, 204),
    ("POST", "/webhooks/{webhook_id}/rotate-secret"): Row(of_webhook("/webhooks/{}/rotate-secret"), 403, 403, 200),
    ("POST", "/webhooks/{webhook_id}/test"): Row(of_webhook("/webhooks/{}/test"), 403, 403, 202),
    ("GET", "/webhooks/{webhook_id}/deliveries"): Row(of_webhook("/webhooks/{}/deliveries"), 403, 403, 200),
    ("GET", "/webhooks/{webhook_id}/deliveries/{delivery_id}"): Row(
        of_delivery("/webhooks/{}/deliveries/{}"), 403, 403, 200),
    ("POST", "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"): Row(
        of_delivery("/webhooks/{}/deliveries/{}/redeliver"), 403, 403, 202),
    ("GET", "/bookings/{booking_id}/calendar.ics"): Row(of_booking("/bookings/{}/calendar.ics"), 200, 403, 200),
    # A feed's address is a credential that would outlive the key.
    ("POST", "/calendar-feeds"): Row(plain("/calendar-feeds", json={}), 201, 201, 201, keys=False),
    ("GET", "/calendar-feeds"): Row(plain("/calendar-feeds"), 200, 200, 200),
    ("GET", "/calendar-feeds/{feed_id}"): Row(of_feed, 200, 403, 403),
    ("DELETE", "/calendar-feeds/{feed_id}"): Row(of_feed, 204, 403, 403, keys=False),
    ("GET", "/calendar/{feed_token}.ics"): Row(of_feed_address("url"), 200, 200, 200, open_to_all=True),
    ("GET", "/calendar/{feed_token}/freebusy.ics"): Row(of_feed_address("freeBusyUrl"), 200, 200, 200, open_to_all=True),
    ("GET", "/analytics/bookings"): Row(plain("/analytics/bookings", params=period()), 403, 403, 200),
    ("GET", "/analytics/bookings.csv"): Row(plain("/analytics/bookings.csv", params=period()), 403, 403, 200),
    ("GET", "/bookings.csv"): Row(plain("/bookings.csv"), 403, 403, 200),
    ("GET", "/audit"): Row(plain("/audit"), 403, 403, 200),
    ("GET", "/changes"): Row(plain("/changes"), 403, 403, 200),
    ("GET", "/jobs/metrics"): Row(plain("/jobs/metrics"), 403, 403, 200),
    ("GET", "/jobs"): Row(plain("/jobs"), 403, 403, 200),
    ("POST", "/jobs/{job_id}/requeue"): Row(of_dead_job("/jobs/{}/requeue"), 403, 403, 200),
    ("DELETE", "/jobs/{job_id}"): Row(of_dead_job("/jobs/{}"), 403, 403, 204),
}
# fmt: on
OPERATIONS = [(method, path) for method, path, _ in service_operations()]


async def caller(kind: str, stage: Stage) -> dict[str, str]:
    """The headers of one kind of caller. Who is out, is out by the service's own doing."""
    if kind == "nobody":
        return {}
    if kind == "garbage":
        return {"Authorization": "Bearer not.a.token"}
    if kind in INSIDERS:
        person: Person = getattr(stage, kind)
        return person.headers
    if kind in KEYS:
        owner = stage.admin if kind == "adminKey" else stage.user
        return (await stage.api_key(owner, *(["read"] if kind == "readKey" else [])))[1].headers
    # An admin who was put out would have had every right.
    gone = await stage.api.admin()
    if kind in {"expiredKey", "deletedKey", "suspendedKey"}:
        key, lost = await stage.api_key(gone)
        if kind == "expiredKey":
            await stage.api.db.fetch("UPDATE api_keys SET expires_at = clock_timestamp() WHERE id = $1", UUID(key))
        elif kind == "deletedKey":
            assert (await stage.api.send("DELETE", f"/api-keys/{key}", gone)).status_code == 204
        else:
            done = await stage.api.send("PATCH", f"/users/{gone.id}", stage.admin, json={"status": "suspended"})
            assert done.status_code == 200
        return lost.headers
    if kind == "suspended":
        done = await stage.api.send("PATCH", f"/users/{gone.id}", stage.admin, json={"status": "suspended"})
        assert done.status_code == 200
    elif kind == "deleted":
        assert (await stage.api.send("DELETE", "/users/me", gone)).status_code == 204
    else:
        assert (await stage.api.post("/auth/logout", gone)).status_code == 204
    return gone.headers


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_every_kind_of_caller_gets_what_the_matrix_says(method: str, path: str, api: Api) -> None:
    row = MATRIX[method, path]
    for kind in KINDS:
        stage = Stage(api, await api.person(), await api.person(), await api.admin())
        address, request = await row.prepare(stage)
        headers = await caller(kind, stage)
        response = await api.send(method, address, headers=headers, **request)
        expected = row.expected(method, kind)
        assert response.status_code == expected, f"{kind}: {response.status_code} {response.text}"
        if expected in {401, 403}:
            assert check_problem(response) in {"UNAUTHORIZED", "FORBIDDEN"}


@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if not MATRIX[one].open_to_all])
async def test_an_outsider_learns_nothing_from_an_invalid_request(method: str, path: str, api: Api) -> None:
    """401 comes before the path's ids, the query and the body are looked at."""
    path = re.sub(r"\{\w+\}", "x", path)
    for headers in ({}, {"Authorization": "Bearer not.a.token"}):
        malformed = {"content": b"{", "headers": {**headers, "Content-Type": "application/json"}}
        response = await api.send(method, path, params={"date": "x", "page": "x"}, **malformed)
        assert (response.status_code, check_problem(response)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("method", "path", "body", "host", "guest", "other_host"),
    [
        ("GET", "/bookings/{}", None, 200, 200, 403),
        ("DELETE", "/bookings/{}", None, 200, 200, 403),
        ("POST", "/bookings/{}/cancel", None, 403, 200, 403),
        ("PATCH", "/bookings/{}", {"title": "New"}, 403, 200, 403),
        ("POST", "/bookings/{}/reschedule", {}, 403, 200, 403),
    ],
)
async def test_a_host_sees_and_cancels_what_takes_their_time_and_changes_nothing_else(
    method: str, path: str, body: dict[str, Any] | None, host: int, guest: int, other_host: int, api: Api
) -> None:
    for kind, expected in (("host", host), ("guest", guest), ("other_host", other_host)):
        stage = Stage(api, await api.person(), await api.person(), await api.admin())
        slot = await stage.published()
        later = {"start": f"{tomorrow()}T03:00:00Z", "end": f"{tomorrow()}T04:00:00Z"}
        free = (await api.post("/slots", stage.user, json=later)).json()["slot"]["id"]
        booking = (await api.post("/bookings", stage.other, json={"slotId": slot})).json()["booking"]["id"]
        stranger = await api.person()
        assert (await api.post("/hosts", stranger, json={"displayName": "Bob"})).status_code == 201
        who = {"host": stage.user, "guest": stage.other, "other_host": stranger}[kind]
        request = {"slotId": free} if path.endswith("reschedule") else body
        response = await api.send(method, path.format(booking), who, json=request)
        assert response.status_code == expected, f"{kind}: {response.status_code} {response.text}"


async def test_what_is_somebody_elses_stays_so_whatever_becomes_of_it(api: Api) -> None:
    """A foreign hold or entry is 403 also when it is over: else its end would be told to strangers."""
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    token, used = await stage.hold(), await stage.hold()
    assert (await api.send("DELETE", f"/holds/{token}", stage.user)).status_code == 204
    assert (await api.post("/bookings", stage.user, json={"holdToken": used})).status_code == 201
    for over in (token, used):
        for method, path in (("GET", "/holds/{}"), ("DELETE", "/holds/{}"), ("POST", "/holds/{}/extend")):
            assert (await api.send(method, path.format(over), stage.other)).status_code == 403
        assert (await api.post("/bookings", stage.other, json={"holdToken": over})).status_code == 403
    entry = await stage.entry()
    assert (await api.send("DELETE", f"/waitlist/{entry}", stage.user)).status_code == 204
    assert (await api.send("DELETE", f"/waitlist/{entry}", stage.other)).status_code == 403
    assert (await api.get(f"/waitlist/{entry}", stage.other)).status_code == 403


async def test_the_front_desk_does_not_book_with_somebody_elses_hold(api: Api) -> None:
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    token = await stage.hold()
    refused = await api.post(f"/users/{stage.other.id}/bookings", stage.admin, json={"holdToken": token})
    assert (refused.status_code, check_problem(refused)) == (403, "FORBIDDEN")
    made = await api.post(f"/users/{stage.user.id}/bookings", stage.admin, json={"holdToken": token})
    assert (made.status_code, made.json()["booking"]["userId"]) == (201, str(stage.user.id))


async def test_who_is_suspended_by_another_process_is_out_within_five_seconds(api: Api, state: State, user: Person) -> None:
    """Only the database tells it; the look that the loop makes every 1.5 seconds is made by hand."""
    assert (await api.get("/rooms", user)).status_code == 200
    await api.db.fetch("UPDATE users SET status = 'suspended' WHERE id = $1", user.id)
    await state.revocations.look()
    assert (await api.get("/rooms", user)).status_code == 401
    await api.db.fetch("UPDATE users SET status = 'active' WHERE id = $1", user.id)
    await state.revocations.look()
    assert (await api.get("/rooms", user)).status_code == 200


async def test_a_new_role_ends_the_old_token(api: Api, admin: Person) -> None:
    """Else a demoted admin would stay one for as long as the token lives."""
    demoted = await api.admin()
    changed = await api.send("PATCH", f"/users/{demoted.id}", admin, json={"role": "user"})
    assert changed.status_code == 200
    assert (await api.get("/users", demoted)).status_code == 401


@pytest.mark.parametrize("kind", KINDS)
async def test_a_websocket_opens_for_whom_a_stream_does(kind: str, api: Api, state: State) -> None:
    """It is no operation of the document: the answer to the handshake."""
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    headers = await caller(kind, stage)
    expected = MATRIX["GET", "/stream"].expected("GET", kind)
    assert await handshake(build_app(state), headers) == (101 if expected == 200 else expected)


async def handshake(app: ASGIApp, headers: dict[str, str]) -> int:
    """The status of an application's answer to who asks for a WebSocket, and then goes."""
    said: list[Message] = []
    heard = iter([{"type": "websocket.connect"}])

    async def receive() -> Message:
        return next(heard, {"type": "websocket.disconnect", "code": 1001})

    async def send(message: Message) -> None:
        said.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in {"Host": "holdfast.test", **headers}.items()],
        "client": ("127.0.0.1", 1),
        "server": ("holdfast.test", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    return 101 if said[0]["type"] == "websocket.accept" else int(said[0]["status"])


async def test_the_mailbox_of_development_is_open_to_all_and_in_production_to_nobody(api: Api, state: State) -> None:
    """Whoever develops has no other mail; in production it would hand out everybody's reset tokens."""
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    real = {"env": "production", "jwt_secret": "k7Qz-93hfT_wLx0aVbN4mEyR8sUc1dGj"}
    async with door(state, **real) as production, door(state, smtp_url="smtp://127.0.0.1:1") as mailing:
        for kind in KINDS:
            headers = await caller(kind, stage)
            assert (await api.get("/dev/mails", headers=headers)).status_code == 200
            for path in ("/dev/mails", f"/dev/mails/{uuid4()}"):
                for service in (production, mailing):
                    hidden = await service.get(path, headers=headers)
                    assert (hidden.status_code, check_problem(hidden)) == (404, "NOT_FOUND")


async def test_a_ticket_opens_one_stream_and_nothing_else(api: Api, state: State, user: Person) -> None:
    """It travels in an address, where logs see it."""

    async def ticket() -> str:
        made = await api.post("/auth/ticket", user)
        assert made.status_code == 200, made.text
        return str(made.json()["ticket"])

    for path in ("/users/me", "/rooms", "/bookings/my"):
        assert (await api.get(path, params={"ticket": await ticket()})).status_code == 401
    used = await ticket()
    assert (await api.get("/users/me", headers={"Authorization": f"Bearer {used}"})).status_code == 401
    assert (await api.get("/stream", params={"ticket": used})).status_code == 200
    assert (await api.get("/stream", params={"ticket": used})).status_code == 401
    suspended = await ticket()
    await api.db.fetch("UPDATE users SET status = 'suspended' WHERE id = $1", user.id)
    await state.revocations.look()
    assert (await api.get("/stream", params={"ticket": suspended})).status_code == 401


async def test_a_key_has_its_owners_present_role_and_no_more(api: Api, admin: Person) -> None:
    stage = Stage(api, await api.person(), await api.person(), await api.admin())
    _, key = await stage.api_key(stage.admin)
    assert (await api.get("/users", key)).status_code == 200
    assert (await api.send("PATCH", f"/users/{stage.admin.id}", admin, json={"role": "user"})).status_code == 200
    refused = await api.get("/users", key)
    assert (refused.status_code, check_problem(refused)) == (403, "FORBIDDEN")
    assert (await api.get("/bookings/my", key)).status_code == 200


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    assert set(MATRIX) == set(OPERATIONS), "decide who may call it, and say so in MATRIX"


# Forged tokens


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: bytes = SECRET.encode(), digest: str = "sha256") -> str:
    """A token put together by hand: a library would refuse to make most of these."""
    head = f"{part(header)}.{part(claims)}"
    return f"{head}.{part(hmac.digest(key, head.encode(), digest))}"


HS256 = {"alg": "HS256", "typ": "JWT"}


def good(person: UUID, **changes: Any) -> dict[str, Any]:
    """The claims of a good token of an admin; None takes one away."""
    now = int(time.time())
    claims = {
        "user_id": str(person),
        "role": "admin",
        "sid": str(uuid4()),
        "iat": now,
        "exp": now + 600,
        "iss": "holdfast",
        "jti": "abc",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def swapped(claims: Any, others: Any) -> str:
    """A good token with other claims under its signature."""
    head, _, signature = signed(HS256, claims).split(".")
    return f"{head}.{part(others)}.{signature}"


def forgeries() -> dict[str, Callable[[UUID], str]]:
    """By name, how each one is made for a user's id."""
    made: dict[str, Callable[[UUID], str]] = {}

    def claims(name: str, **changes: Any) -> None:
        made[name] = lambda person: signed(HS256, good(person, **changes))

    def header(name: str, value: Any, **how: Any) -> None:
        made[name] = lambda person: signed(value, good(person), **how)

    now = int(time.time())
    header("another key", HS256, key=b"another-key-that-is-long-enough-0123456789")
    header("an empty key", HS256, key=b"")
    header("the key's hash as the key", HS256, key=hashlib.sha256(SECRET.encode()).digest())
    header("alg none, signed", {"alg": "none"})
    header("alg None, signed", {"alg": "None"})
    header("alg NONE, signed", {"alg": "NONE", "typ": "JWT"})
    header("alg of another length", {"alg": "HS512"}, digest="sha512")
    header("alg of another length, mislabelled", HS256, digest="sha512")
    header("alg in lower case", {"alg": "hs256"})
    header("alg missing", {"typ": "JWT"})
    header("alg empty", {"alg": ""})
    header("alg a list", {"alg": ["HS256"]})
    header("alg a number", {"alg": 256})
    header("RS256 with the secret as a public key", {"alg": "RS256"})
    header("ES256", {"alg": "ES256"})
    header("critical extensions", {"alg": "HS256", "crit": ["exp", "nobody-knows"], "nobody-knows": 1})
    header("a key of its own", {"alg": "HS256", "jwk": {"kty": "oct", "k": part(b"x" * 32)}}, key=b"x" * 32)
    header("a key id that is a path", {"alg": "HS256", "kid": "../../../../dev/null"}, key=b"")
    header("a header that is a list", [HS256])
    header("a header that is no JSON", b"{alg")
    made["alg none, unsigned"] = lambda person: f"{part({'alg': 'none'})}.{part(good(person))}."
    made["no signature"] = lambda person: signed(HS256, good(person)).rpartition(".")[0] + "."
    made["two parts"] = lambda person: signed(HS256, good(person)).rpartition(".")[0]
    made["four parts"] = lambda person: signed(HS256, good(person)) + ".x"
    made["five parts"] = lambda person: signed(HS256, good(person)) + ".x.y"
    made["a truncated signature"] = lambda person: signed(HS256, good(person))[:-4]
    made["a padded signature"] = lambda person: signed(HS256, good(person)) + "===="
    made["a signature too long"] = lambda person: signed(HS256, good(person)) + "AAAA"
    made["claims of another token"] = lambda person: swapped(good(person), good(uuid4()))
    made["user made admin"] = lambda person: swapped(good(person, role="user"), good(person))
    made["dots"] = lambda _person: ".."
    made["no text"] = lambda _person: " "
    made["a refresh token"] = lambda _person: base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=").decode()
    made["very long"] = lambda person: signed(HS256, good(person, filler="x" * 60_000))[:-2] + "xx"
    made["claims that are a list"] = lambda person: signed(HS256, [good(person)])
    made["claims that are no JSON"] = lambda _person: signed(HS256, b"{")
    made["claims that are no UTF-8"] = lambda _person: signed(HS256, b"\xff\xfe")
    made["claims nested very deep"] = lambda _person: signed(HS256, b"[" * 20_000 + b"]" * 20_000)
    claims("expired", exp=now - 1)
    claims("expired long ago", exp=0)
    claims("expires before the year 1", exp=-(10**15))
    claims("issued in the future", iat=now + 3600)
    claims("not before tomorrow", nbf=now + 86_400)
    claims("another issuer", iss="somebody")
    claims("issuer in capitals", iss="HOLDFAST")
    claims("a list of issuers", iss=["holdfast"])
    claims("meant for somebody else", aud="another-service")
    for name in ("user_id", "role", "sid", "iat", "exp", "iss", "jti"):
        claims(f"without {name}", **{name: None})
    claims("exp a text", exp=str(now + 600))
    claims("exp a boolean", exp=True)
    claims("exp a list", exp=[now + 600])
    claims("exp infinite", exp=float("inf"))
    claims("exp not a number", exp=float("nan"))
    claims("exp beyond 64 bits", exp=10**400)
    claims("iat a text", iat="yesterday")
    claims("iat infinite", iat=float("-inf"))
    claims("nbf infinite", nbf=float("inf"))
    claims("role unknown", role="root")
    claims("role in capitals", role="ADMIN")
    claims("role a list", role=["admin"])
    claims("role a boolean", role=True)
    claims("user a number", user_id=5)
    claims("user no id", user_id="admin")
    claims("user an object", user_id={"id": 1})
    claims("session no id", sid="x")
    claims("session a list", sid=[1])
    claims("jti a number", jti=5)
    return made


FORGERIES = forgeries()


def bent_keys() -> dict[str, Callable[[str], str]]:
    """By name, what is made of the secret of an admin's good key: none of them is one."""
    digest = {
        "hex": lambda key: hashlib.sha256(key.encode()).hexdigest(),
        "b64": lambda key: part(hashlib.sha256(key.encode()).digest()),
    }
    return {
        "the prefix alone": lambda _key: "hf_",
        "the prefix twice": lambda key: "hf_" + key,
        "without the prefix": lambda key: key.removeprefix("hf_"),
        "the prefix in capitals": lambda key: "HF_" + key.removeprefix("hf_"),
        "another prefix": lambda key: "hk_" + key.removeprefix("hf_"),
        "one character less": lambda key: key[:-1],
        "one character more": lambda key: key + "A",
        "another last character": lambda key: key[:-1] + ("B" if key[-1] == "A" else "A"),
        "in capitals": lambda key: "hf_" + key.removeprefix("hf_").upper(),
        "in lower case": lambda key: key.lower(),
        "backwards": lambda key: "hf_" + key.removeprefix("hf_")[::-1],
        "what is stored of it, in hex": lambda key: "hf_" + digest["hex"](key),
        "what is stored of it, in base64": lambda key: "hf_" + digest["b64"](key),
        "padded": lambda key: key + "=",
        "a wildcard": lambda _key: "hf_%",
        "SQL": lambda _key: "hf_' OR '1'='1",
        "two keys": lambda key: f"{key},{key}",
        "two keys apart": lambda key: f"{key} {key}",
        "in quotation marks": lambda key: f'"{key}"',
        "very long": lambda key: key + "A" * 50_000,
        "a good token with the prefix": lambda _key: "hf_" + signed(HS256, good(uuid4())),
        "the key as a token's signature": lambda key: f"{part(HS256)}.{part(good(uuid4()))}.{key}",
    }


BENT_KEYS = bent_keys()


def test_there_are_forty_forgeries_or_more() -> None:
    assert len(FORGERIES) >= 40


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_401_everywhere(name: str, api: Api, admin: Person) -> None:
    token = FORGERIES[name](admin.id)
    for method, path in [("GET", "/users/me"), ("GET", "/users"), ("POST", "/rooms"), ("POST", "/bookings/create")]:
        response = await api.send(method, path, headers={"Authorization": f"Bearer {token}"}, json={"name": "x"})
        assert (response.status_code, check_problem(response)) == (401, "UNAUTHORIZED"), response.text
        assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", BENT_KEYS)
async def test_a_forged_api_key_is_401_everywhere(name: str, api: Api, admin: Person) -> None:
    secret = (await api.post("/api-keys", admin, json={"name": "Key"})).json()["secret"]
    # The control: the key itself is good.
    assert (await api.get("/users", headers={"Authorization": f"Bearer {secret}"})).status_code == 200
    forged = BENT_KEYS[name](secret)
    assert forged != secret
    for method, path in [("GET", "/users/me"), ("GET", "/users"), ("POST", "/rooms"), ("GET", "/stream"), ("GET", "/changes")]:
        response = await api.send(method, path, headers={"Authorization": f"Bearer {forged}"}, json={"name": "x"})
        assert (response.status_code, check_problem(response)) == (401, "UNAUTHORIZED"), response.text
        assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Basic {}", "Token {}", "ApiKey {}", "{}", "Bearer:{}", "Bearer {},"])
async def test_a_good_key_under_another_scheme_is_401(header: str, api: Api, admin: Person) -> None:
    secret = (await api.post("/api-keys", admin, json={"name": "Key"})).json()["secret"]
    response = await api.get("/users/me", headers={"Authorization": header.format(secret)})
    assert (response.status_code, check_problem(response)) == (401, "UNAUTHORIZED")


async def test_the_hand_made_token_is_good_where_nothing_is_wrong_with_it(api: Api, admin: Person) -> None:
    """The control: else every forgery might be refused for a reason of the workshop's."""
    token = signed(HS256, good(admin.id))
    assert jwt.decode(token, SECRET, algorithms=["HS256"], issuer="holdfast")["role"] == "admin"
    assert (await api.get("/users", headers={"Authorization": f"Bearer {token}"})).status_code == 200


@pytest.mark.parametrize(
    "header", ["Basic {}", "Token {}", "JWT {}", "{}", "Bearer,{}", "Bearer:{}", "BearerX {}", "Bearer {},", "Digest {}"]
)
async def test_a_good_token_under_another_scheme_is_401(header: str, api: Api, admin: Person) -> None:
    response = await api.get("/users/me", headers={"Authorization": header.format(admin.token)})
    assert (response.status_code, check_problem(response)) == (401, "UNAUTHORIZED")


async def test_a_token_anywhere_but_in_the_header_is_not_looked_at(api: Api, admin: Person) -> None:
    key = (await api.post("/api-keys", admin, json={"name": "Key"})).json()["secret"]
    for secret in (admin.token, key):
        for request in (
            {"params": {"access_token": secret, "token": secret, "api_key": secret, "ticket": secret[:200]}},
            {"headers": {"Cookie": f"token={secret}", "X-Authorization": f"Bearer {secret}", "X-API-Key": secret}},
        ):
            for path in ("/users/me", "/stream"):
                response: httpx.Response = await api.get(path, **request)  # type: ignore[arg-type]
                assert response.status_code == 401


async def test_two_authorization_headers_do_not_add_up_to_more_rights(api: Api, admin: Person, user: Person) -> None:
    headers = [("Authorization", f"Bearer {user.token}"), ("Authorization", f"Bearer {admin.token}")]
    response = await api.client.get("/users", headers=headers)
    assert response.status_code in {401, 403}


async def test_a_token_that_was_good_is_refused_once_it_has_expired(api: Api, admin: Person) -> None:
    """Verified tokens are remembered; their end is looked at all the same."""
    tokens: AccessTokens = api.tokens
    token = signed(HS256, good(admin.id))
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api.get("/users/me", headers=headers)).status_code == 200
    known = tokens._verified[token]
    tokens._verified[token] = Identity(known.user_id, known.role, known.session_id, time.time() - 1)
    assert (await api.get("/users/me", headers=headers)).status_code == 401
