"""The room contract, walked: every operation, at each of its paths, with every status and code that the file declares.

The edges that no schema can say are in test_room_contract_edges.py.
"""

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from holdfast.core import slot_ids
from holdfast.main import build_app
from holdfast.web.state import State
from support.api import Api, Person, tomorrow
from support.contract import CONTRACT_FILE, PATHS, check_problem, load_contract

CONTRACT = load_contract()
SCHEDULE = {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7], "startTime": "09:00", "endTime": "17:00"}


@dataclass
class Stage:
    """One operation at one path, with the people and things that a case needs."""

    api: Api
    operation: str
    path: str
    admin: Person
    user: Person
    ids: dict[str, str] = field(default_factory=dict)

    async def send(self, who: Person | None = None, **request: Any) -> httpx.Response:
        """The operation's request; `ids` fill its path."""
        path = self.path.format(**self.ids)
        return await self.api.send(CONTRACT.method(self.operation), path, who, **request)

    async def bare_room(self) -> dict[str, Any]:
        """A room that was made in the contract's way, without a schedule."""
        made = await self.api.post("/rooms/create", self.admin, json={"name": "Room"})
        assert made.status_code == 201, made.text
        room: dict[str, Any] = made.json()["room"]
        self.ids["roomId"] = room["id"]
        return room

    async def slots(self) -> list[dict[str, Any]]:
        """Tomorrow's slots of a new room, all in the contract's way."""
        room = await self.bare_room()
        made = await self.api.post(f"/rooms/{room['id']}/schedule/create", self.admin, json=SCHEDULE)
        assert made.status_code == 201, made.text
        listed = await self.api.get(f"/rooms/{room['id']}/slots/list", self.user, params={"date": tomorrow()})
        slots: list[dict[str, Any]] = listed.json()["slots"]
        assert len(slots) == 16
        return slots

    async def booking(self) -> dict[str, Any]:
        """A booking of the user's."""
        made = await self.api.post("/bookings/create", self.user, json={"slotId": (await self.slots())[0]["id"]})
        assert made.status_code == 201, made.text
        booking: dict[str, Any] = made.json()["booking"]
        self.ids["bookingId"] = booking["id"]
        return booking


Act = Callable[[Stage], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Case:
    """One way to an answer."""

    operation: str
    status: int
    code: str | None
    act: Act

    @property
    def name(self) -> str:
        return f"{self.operation}-{self.status}-{self.act.__name__}"


CASES: list[Case] = []


def case(operation: str, status: int, code: str | None = None) -> Callable[[Act], Act]:
    """Enter a case into the table."""

    def enter(act: Act) -> Act:
        CASES.append(Case(operation, status, code, act))
        return act

    return enter


def account() -> dict[str, str]:
    """Somebody who may register."""
    return {"email": f"{uuid4()}@example.com", "password": "correct horse", "role": "user"}


# Accounts


@case("register", 201)
async def a_new_user(stage: Stage) -> httpx.Response:
    return await stage.send(json=account())


@case("register", 201)
async def a_new_admin(stage: Stage) -> httpx.Response:
    return await stage.send(json=account() | {"role": "admin"})


@case("register", 400, "INVALID_REQUEST")
async def a_taken_address(stage: Stage) -> httpx.Response:
    known = account()
    assert (await stage.send(json=known)).status_code == 201
    return await stage.send(json=known)


@case("register", 400, "INVALID_REQUEST")
async def no_role(stage: Stage) -> httpx.Response:
    return await stage.send(json={name: value for name, value in account().items() if name != "role"})


@case("register", 400, "INVALID_REQUEST")
async def no_address_at_all(stage: Stage) -> httpx.Response:
    return await stage.send(json=account() | {"email": "nobody"})


@case("login", 200)
async def the_right_password(stage: Stage) -> httpx.Response:
    known = account()
    assert (await stage.api.post("/register", json=known)).status_code == 201
    return await stage.send(json={"email": known["email"], "password": known["password"]})


@case("login", 400, "INVALID_REQUEST")
async def no_password(stage: Stage) -> httpx.Response:
    return await stage.send(json={"email": "somebody@example.com"})


@case("login", 401, "UNAUTHORIZED")
async def a_wrong_password(stage: Stage) -> httpx.Response:
    known = account()
    assert (await stage.api.post("/register", json=known)).status_code == 201
    return await stage.send(json={"email": known["email"], "password": "wrong"})


@case("login", 401, "UNAUTHORIZED")
async def an_unknown_address(stage: Stage) -> httpx.Response:
    return await stage.send(json={"email": "nobody@example.com", "password": "wrong"})


@case("dummyLogin", 200)
async def as_admin(stage: Stage) -> httpx.Response:
    return await stage.send(json={"role": "admin"})


@case("dummyLogin", 200)
async def as_user(stage: Stage) -> httpx.Response:
    return await stage.send(json={"role": "user"})


@case("dummyLogin", 400, "INVALID_REQUEST")
async def as_somebody_else(stage: Stage) -> httpx.Response:
    return await stage.send(json={"role": "root"})


# Rooms


@case("listRooms", 200)
async def for_a_user(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(stage.user)


@case("listRooms", 200)
async def for_an_admin(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(stage.admin)


@case("listRooms", 401, "UNAUTHORIZED")
async def for_nobody(stage: Stage) -> httpx.Response:
    return await stage.send()


@case("createRoom", 201)
async def with_a_name(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, json={"name": "Blue"})


@case("createRoom", 201)
async def with_everything(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, json={"name": "Blue", "description": "By the stairs", "capacity": 8})


@case("createRoom", 201)
async def with_nulls(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, json={"name": "Blue", "description": None, "capacity": None})


@case("createRoom", 400, "INVALID_REQUEST")
async def without_a_name(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, json={"capacity": 8})


@case("createRoom", 401, "UNAUTHORIZED")
async def by_nobody(stage: Stage) -> httpx.Response:
    return await stage.send(json={"name": "Blue"})


@case("createRoom", 403, "FORBIDDEN")
async def by_a_user(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={"name": "Blue"})


@case("createSchedule", 201)
async def for_a_bare_room(stage: Stage) -> httpx.Response:
    room = await stage.bare_room()
    return await stage.send(stage.admin, json=SCHEDULE | {"roomId": room["id"]})


@case("createSchedule", 400, "INVALID_REQUEST")
async def without_days(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(stage.admin, json=SCHEDULE | {"daysOfWeek": []})


@case("createSchedule", 400, "INVALID_REQUEST")
async def for_a_malformed_id(stage: Stage) -> httpx.Response:
    stage.ids["roomId"] = "blue"
    return await stage.send(stage.admin, json=SCHEDULE)


@case("createSchedule", 401, "UNAUTHORIZED")
async def schedule_by_nobody(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(json=SCHEDULE)


@case("createSchedule", 403, "FORBIDDEN")
async def schedule_by_a_user(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(stage.user, json=SCHEDULE)


@case("createSchedule", 404, "ROOM_NOT_FOUND")
async def for_an_unknown_room(stage: Stage) -> httpx.Response:
    stage.ids["roomId"] = str(uuid4())
    return await stage.send(stage.admin, json=SCHEDULE)


@case("createSchedule", 409, "SCHEDULE_EXISTS")
async def a_second_time(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(stage.admin, json=SCHEDULE)


@case("listSlots", 200)
async def of_an_open_day(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(stage.user, params={"date": tomorrow()})


@case("listSlots", 200)
async def of_an_open_day_for_an_admin(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(stage.admin, params={"date": tomorrow()})


@case("listSlots", 200)
async def of_a_room_without_a_schedule(stage: Stage) -> httpx.Response:
    await stage.bare_room()
    return await stage.send(stage.user, params={"date": tomorrow()})


@case("listSlots", 400, "INVALID_REQUEST")
async def without_a_date(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(stage.user)


@case("listSlots", 400, "INVALID_REQUEST")
async def of_no_date(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(stage.user, params={"date": "tomorrow"})


@case("listSlots", 400, "INVALID_REQUEST")
async def of_a_malformed_room(stage: Stage) -> httpx.Response:
    stage.ids["roomId"] = "blue"
    return await stage.send(stage.user, params={"date": tomorrow()})


@case("listSlots", 401, "UNAUTHORIZED")
async def slots_for_nobody(stage: Stage) -> httpx.Response:
    await stage.slots()
    return await stage.send(params={"date": tomorrow()})


@case("listSlots", 404, "ROOM_NOT_FOUND")
async def of_an_unknown_room(stage: Stage) -> httpx.Response:
    stage.ids["roomId"] = str(uuid4())
    return await stage.send(stage.user, params={"date": tomorrow()})


# Bookings


@case("createBooking", 201)
async def of_a_free_slot(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={"slotId": (await stage.slots())[0]["id"]})


@case("createBooking", 201)
async def with_a_link(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={"slotId": (await stage.slots())[0]["id"], "createConferenceLink": True})


@case("createBooking", 400, "INVALID_REQUEST")
async def without_a_slot(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={})


@case("createBooking", 400, "INVALID_REQUEST")
async def of_a_malformed_slot(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={"slotId": "nine o'clock"})


@case("createBooking", 400, "INVALID_REQUEST")
async def of_a_past_slot(stage: Stage) -> httpx.Response:
    await stage.slots()
    path = f"/rooms/{stage.ids['roomId']}/slots/list"
    past = (await stage.api.get(path, stage.user, params={"date": tomorrow(-2)})).json()["slots"]
    return await stage.send(stage.user, json={"slotId": past[0]["id"]})


@case("createBooking", 401, "UNAUTHORIZED")
async def booking_by_nobody(stage: Stage) -> httpx.Response:
    return await stage.send(json={"slotId": (await stage.slots())[0]["id"]})


@case("createBooking", 403, "FORBIDDEN")
async def booking_by_an_admin(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, json={"slotId": (await stage.slots())[0]["id"]})


@case("createBooking", 404, "SLOT_NOT_FOUND")
async def of_an_unknown_slot(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user, json={"slotId": str(uuid4())})


@case("createBooking", 409, "SLOT_ALREADY_BOOKED")
async def of_a_taken_slot(stage: Stage) -> httpx.Response:
    booking = await stage.booking()
    return await stage.send(await stage.api.person(), json={"slotId": booking["slotId"]})


@case("createBooking", 409, "SLOT_ALREADY_BOOKED")
async def of_the_own_slot_again(stage: Stage) -> httpx.Response:
    booking = await stage.booking()
    return await stage.send(stage.user, json={"slotId": booking["slotId"]})


@case("listBookings", 200)
async def the_first_page(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(stage.admin)


@case("listBookings", 200)
async def a_page_by_number(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(stage.admin, params={"page": 1, "pageSize": 1})


@case("listBookings", 400, "INVALID_REQUEST")
async def page_zero(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, params={"page": 0})


@case("listBookings", 400, "INVALID_REQUEST")
async def too_large_a_page(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin, params={"pageSize": 101})


@case("listBookings", 401, "UNAUTHORIZED")
async def bookings_for_nobody(stage: Stage) -> httpx.Response:
    return await stage.send()


@case("listBookings", 403, "FORBIDDEN")
async def bookings_for_a_user(stage: Stage) -> httpx.Response:
    return await stage.send(stage.user)


@case("myBookings", 200)
async def of_the_user(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(stage.user)


@case("myBookings", 401, "UNAUTHORIZED")
async def own_ones_of_nobody(stage: Stage) -> httpx.Response:
    return await stage.send()


@case("myBookings", 403, "FORBIDDEN")
async def own_ones_of_an_admin(stage: Stage) -> httpx.Response:
    return await stage.send(stage.admin)


@case("cancelBooking", 200)
async def an_active_one(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(stage.user)


@case("cancelBooking", 200)
async def a_cancelled_one(stage: Stage) -> httpx.Response:
    await stage.booking()
    assert (await stage.send(stage.user)).status_code == 200
    return await stage.send(stage.user)


@case("cancelBooking", 400, "INVALID_REQUEST")
async def a_malformed_booking(stage: Stage) -> httpx.Response:
    stage.ids["bookingId"] = "mine"
    return await stage.send(stage.user)


@case("cancelBooking", 401, "UNAUTHORIZED")
async def cancelled_by_nobody(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send()


@case("cancelBooking", 403, "FORBIDDEN")
async def somebody_elses(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(await stage.api.person())


@case("cancelBooking", 403, "FORBIDDEN")
async def cancelled_by_an_admin(stage: Stage) -> httpx.Response:
    await stage.booking()
    return await stage.send(stage.admin)


@case("cancelBooking", 404, "BOOKING_NOT_FOUND")
async def an_unknown_one(stage: Stage) -> httpx.Response:
    stage.ids["bookingId"] = str(uuid4())
    return await stage.send(stage.user)


# The walk


@pytest.mark.parametrize(
    ("one", "path"),
    [pytest.param(one, path, id=f"{one.name}-{path}") for one in CASES for path in PATHS[one.operation]],
)
async def test_every_declared_answer_comes_and_has_the_declared_form(one: Case, path: str, api: Api) -> None:
    stage = Stage(api, one.operation, path, admin=await api.admin(), user=await api.person())
    response = await one.act(stage)
    assert response.status_code == one.status, response.text
    body = CONTRACT.check(one.operation, response)
    if one.status >= 400:
        assert body["error"]["code"] == one.code
    assert response.headers["x-request-id"]


class BrokenDatabase:
    """A database whose every use is a defect."""

    #: Of the hub, which does not connect before somebody listens.
    url = "postgresql://nowhere"

    async def fetch(self, statement: str, *arguments: object) -> NoReturn:
        raise RuntimeError("broken on purpose: fetch")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[NoReturn]:
        raise RuntimeError("broken on purpose: transaction")
        yield


def valid_requests() -> dict[str, tuple[str | None, dict[str, Any]]]:
    """For each operation, who may send it, and a valid request."""
    # An id that decodes: of room number 1, some day in 2030, thirty minutes.
    slot = {"slotId": str(slot_ids.encode(1, datetime(2030, 1, 1, 9, tzinfo=UTC), 30))}
    return {
        "register": (None, {"json": account()}),
        "login": (None, {"json": {"email": "somebody@example.com", "password": "x"}}),
        "dummyLogin": (None, {"json": {"role": "user"}}),
        "listRooms": ("user", {}),
        "createRoom": ("admin", {"json": {"name": "Blue"}}),
        "createSchedule": ("admin", {"json": SCHEDULE}),
        "listSlots": ("user", {"params": {"date": tomorrow()}}),
        "createBooking": ("user", {"json": slot}),
        "listBookings": ("admin", {}),
        "myBookings": ("user", {}),
        "cancelBooking": ("user", {}),
    }


@pytest.fixture
async def broken(state: State) -> AsyncIterator[httpx.AsyncClient]:
    """The application on a database that fails at each use, and with a route that raises."""
    app = build_app(dataclasses.replace(state, db=BrokenDatabase()))  # type: ignore[arg-type]  # broken on purpose

    async def boom() -> None:
        raise ZeroDivisionError("a fault with a secret in it")

    app.add_api_route("/boom", boom, methods=["GET", "POST"])
    with capture_logs() as logs:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://holdfast.test") as client:
            yield client
    assert any(line["event"] == "request.failed" for line in logs), "a fault that nobody can find in the log"


@pytest.mark.parametrize(("operation", "path"), [(operation, path) for operation, paths in PATHS.items() for path in paths])
async def test_a_failing_database_is_answered_500_in_the_envelope(
    operation: str, path: str, api: Api, broken: httpx.AsyncClient
) -> None:
    role, request = valid_requests()[operation]
    headers = (await api.person(role)).headers if role else {}
    path = path.format(roomId=uuid4(), bookingId=uuid4())
    response = await broken.request(CONTRACT.method(operation), path, headers=headers, **request)
    assert response.status_code == 500, response.text
    body = CONTRACT.check(operation, response)
    assert body["error"]["code"] == "INTERNAL_ERROR"
    assert "broken on purpose" not in response.text
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_exception_in_a_route_is_answered_500_in_the_envelope(method: str, api: Api, broken: httpx.AsyncClient) -> None:
    response = await broken.request(method, "/boom")
    assert response.status_code == 500
    assert check_problem(response) == "INTERNAL_ERROR"
    assert "secret" not in response.text
    assert "ZeroDivision" not in response.text
    # And the application goes on.
    assert (await broken.get("/health")).json() == {"status": "ok"}


_LOGGED_FAULT = """
import structlog
from holdfast.core.logging import configure_logging
from holdfast.core.settings import load_settings

configure_logging(load_settings(log_format="{form}", _env_file=None))

def log_in(password):
    return 1 / 0

try:
    log_in("hunter" + "2")
except ZeroDivisionError:
    structlog.get_logger("test").exception("request.failed")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_fault_is_logged_without_the_values_it_was_about(form: str) -> None:
    """A traceback with each frame's variables would write passwords and tokens into the log, and takes seconds to print."""
    ran = subprocess.run(
        [sys.executable, "-c", _LOGGED_FAULT.format(form=form)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "ZeroDivisionError" in ran.stderr
    assert "request.failed" in ran.stderr
    assert "hunter2" not in ran.stderr


async def test_an_unknown_route_has_the_contracts_code(api: Api) -> None:
    response = await api.get("/nowhere")
    assert (response.status_code, check_problem(response)) == (404, "NOT_FOUND")


def test_the_walk_knows_every_operation_and_its_contract_path() -> None:
    assert {operation: path for operation, (_, path, _) in CONTRACT.operations.items()} == {
        operation: paths[0] for operation, paths in PATHS.items()
    }


def test_the_walk_produces_every_declared_status() -> None:
    """Each case asserts its status at each path of its operation; 500 has its own test, over the same paths."""
    produced = {(one.operation, one.status) for one in CASES} | {(operation, 500) for operation in valid_requests()}
    declared = {(operation, status) for operation in CONTRACT.operations for status in CONTRACT.statuses(operation)}
    assert produced == declared


def test_the_walk_produces_every_code() -> None:
    produced = {one.code for one in CASES if one.code is not None} | {"INTERNAL_ERROR", "NOT_FOUND"}
    assert produced == set(CONTRACT.codes)


def test_the_contract_is_the_one_that_was_agreed() -> None:
    """The file is a copy; nobody bends it to fit the service."""
    digest = hashlib.sha256(CONTRACT_FILE.read_bytes()).hexdigest()
    assert digest == "90631fb365f6e77a42b9076dac11d3035071e9477a92ab0f193184547468d61c"
