"""CSV: every booking once, whatever is written meanwhile and however slowly it is read; nothing that a spreadsheet runs."""

import asyncio
import csv
import io
import os
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx
import pytest

from holdfast.core.callers import Caller
from holdfast.core.errors import Busy, Unauthenticated
from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens
from holdfast.db.database import Database
from holdfast.reports.service import exports
from support.api import Api, Person, code, tomorrow
from support.servers import SECRET, ServerProcess

_COLUMNS = (
    "id,status,kind,userId,userEmail,roomId,hostId,eventId,resourceName,start,end,title,notes,seats,slotId,slotIds,"
    "seriesId,conferenceLink,createdAt,cancelledAt"
)
HEADER = _COLUMNS.split(",")

#: A year and more of bookings as rows; `$3` of them, one a minute, the newest last. With claims it would take too long.
FILL = """
WITH made AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, title, created_at)
  SELECT gen_random_uuid(), $1, 'room', at + interval '1 day', at + interval '1 day 30 minutes', $4::text, at
  FROM generate_series(1, $3::int) n, LATERAL (SELECT $5::timestamptz + n * interval '1 minute' AS at) t
  RETURNING id, start_at, end_at)
INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
SELECT id, 1, $2, tstzrange(start_at, end_at), gen_random_uuid() FROM made"""


def rows_of(text: str) -> list[dict[str, str]]:
    """The records of a table, read by the standard's rules."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert next(reader) == HEADER
    return [dict(zip(HEADER, row, strict=True)) for row in reader]


async def export(api: Api, admin: Person, **query: Any) -> list[dict[str, str]]:
    answer = await api.get("/bookings.csv", admin, params=query)
    assert answer.status_code == 200, answer.text
    return rows_of(answer.content.decode())


async def room_no(api: Api, room: dict[str, Any]) -> int:
    rows = await api.db.fetch("SELECT no FROM resources WHERE id = $1", UUID(room["id"]))
    no: int = rows[0]["no"]
    return no


async def fill(api: Api, user: Person, room: dict[str, Any], count: int, title: str = "Meeting") -> None:
    since = datetime.now(UTC) - timedelta(days=700)
    await api.db.fetch(FILL, user.id, await room_no(api, room), count, title, since)


def boss(admin: Person) -> Caller:
    return Caller(admin.id, "admin")


async def test_an_export_has_a_header_also_when_there_is_nothing(api: Api, admin: Person) -> None:
    answer = await api.get("/bookings.csv", admin)
    assert answer.status_code == 200
    assert answer.content == (",".join(HEADER) + "\r\n").encode()
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    today = datetime.now(UTC).date().isoformat()
    assert answer.headers["content-disposition"] == f'attachment; filename="bookings-{today}.csv"'


async def test_a_bookings_record_is_the_booking_with_names(api: Api, admin: Person) -> None:
    guest = await api.person(email="Guest@example.com")
    room, other = await api.room(admin, name="Blue, large"), await api.room(admin, name='"Quiet"')
    slots, others = await api.slots(guest, room), await api.slots(guest, other)
    body = {"slotIds": [slots[0]["id"], slots[1]["id"], others[2]["id"]], "title": "Ünï\ncode; \N{GRINNING FACE}", "notes": "a,b"}
    booking = (await api.post("/bookings", guest, json=body)).json()["booking"]
    (record,) = await export(api, admin)
    for name in ("id", "status", "kind", "userId", "roomId", "start", "end", "title", "notes", "slotId", "createdAt"):
        assert record[name] == booking[name]
    assert record["slotIds"].split(" ") == booking["slotIds"]
    assert (record["userEmail"], record["resourceName"]) == ("Guest@example.com", 'Blue, large, "Quiet"')
    for empty in ("hostId", "eventId", "seats", "seriesId", "conferenceLink", "cancelledAt"):
        assert record[empty] == ""
    event = (await api.post("/events", admin, json={"name": "Talk", "start": f"{tomorrow()}T18:00:00Z"})).json()["event"]
    await api.post(f"/events/{event['id']}/seats", admin, json={"seats": ["A-1", "A-2"]})
    seats = await api.post("/bookings", guest, json={"eventId": event["id"], "seats": ["A-1", "A-2"]})
    assert (await api.post(f"/bookings/{seats.json()['booking']['id']}/cancel", guest)).status_code == 200
    record = (await export(api, admin))[0]
    assert (record["eventId"], record["seats"], record["end"], record["status"]) == (event["id"], "A-1, A-2", "", "cancelled")
    assert record["cancelledAt"]


async def test_the_filters_and_the_order_are_those_of_the_list(api: Api, admin: Person, user: Person) -> None:
    room, other = await api.room(admin), await api.room(admin, timeZone="Asia/Tokyo")
    guest = await api.person()
    for number, slot in enumerate((await api.slots(user, room))[:4]):
        booking = await api.booked(user if number % 2 else guest, slot)
        if number == 3:
            assert (await api.post(f"/bookings/{booking['id']}/cancel", user)).status_code == 200
    slot = (await api.slots(user, other, tomorrow(3)))[0]
    await api.booked(user, slot)
    queries: list[dict[str, Any]] = [
        {},
        {"status": "cancelled"},
        {"userId": str(guest.id)},
        {"roomId": other["id"]},
        {"roomId": room["id"], "status": "active", "userId": str(user.id)},
        {"from": slot["start"]},
        {"to": slot["start"]},
        {"hostId": str(new_id())},
    ]
    for query in queries:
        listed = (await api.get("/bookings", admin, params={**query, "pageSize": 100})).json()["bookings"]
        assert [one["id"] for one in await export(api, admin, **query)] == [one["id"] for one in listed], query


@pytest.mark.parametrize(
    "query", [{"status": "gone"}, {"userId": "x"}, {"roomId": ""}, {"from": "2026-11-20"}, {"to": "tomorrow"}, {"hostId": "1"}]
)
async def test_a_filter_that_makes_no_sense_is_refused(api: Api, admin: Person, query: dict[str, str]) -> None:
    refused = await api.get("/bookings.csv", admin, params=query)
    assert (refused.status_code, code(refused)) == (400, "INVALID_REQUEST")


async def test_exports_are_for_admins(api: Api, user: Person) -> None:
    assert (await api.get("/bookings.csv", user)).status_code == 403
    assert (await api.get("/bookings.csv")).status_code == 401


async def test_a_table_of_days_is_that_of_the_analytics(api: Api, admin: Person, user: Person) -> None:
    await api.booked(user, (await api.slots(user, await api.room(admin)))[0])
    today = datetime.now(UTC).date()
    query = {"from": (today - timedelta(days=2)).isoformat(), "to": (today + timedelta(days=1)).isoformat(), "tz": "Asia/Tokyo"}
    answer = await api.get("/analytics/bookings.csv", admin, params=query)
    assert answer.headers["content-disposition"].startswith('attachment; filename="bookings-per-day-')
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["date", "bookings", "cancelled"]
    days = (await api.get("/analytics/bookings", admin, params=query)).json()["perDay"]
    assert rows == [[day["date"], str(day["bookings"]), str(day["cancelled"])] for day in days]
    assert sum(int(row[1]) for row in rows) == 1


async def test_nobodys_title_is_run_by_a_spreadsheet(api: Api, admin: Person) -> None:
    """Nor a name, nor an e-mail: each text of a stranger's begins harmlessly, and is otherwise as it was."""
    guest = await api.person(email="=guest@example.com")
    room = await api.room(admin, name="@room")
    titles = ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\N{FULLWIDTH EQUALS SIGN}1", "plain", 'say "=1"']
    for title, slot in zip(titles, await api.slots(guest, room), strict=False):
        await api.booked(guest, slot, title=title, notes=f"{title}\r\n{title};{title}")
    records = list(reversed(await export(api, admin)))
    for record, title in zip(records, titles, strict=True):
        harmless = title in {"plain", 'say "=1"'}
        safe = title if harmless else f"'{title}"
        assert (record["title"], record["notes"]) == (safe, f"{safe}\r\n{safe};{safe}")
        assert (record["userEmail"], record["resourceName"]) == ("'=guest@example.com", "'@room")
        assert not any(cell.lstrip()[:1] in {"=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}"} for cell in record.values())


async def test_a_slow_reader_gets_every_booking_once_while_others_write(api: Api, admin: Person, user: Person) -> None:
    """Between any two pages bookings are made, cancelled, moved and renamed; nothing is held open meanwhile."""
    room = await api.room(admin)
    await fill(api, user, room, 3 * exports.PAGE + 7)
    free = iter(await api.slots(user, room))
    for slot in (next(free), next(free)):
        await api.booked(user, slot)
    there = {str(row["id"]) for row in await api.db.fetch("SELECT id FROM bookings")}
    text = ""
    pages = 0
    async for chunk in exports.export_bookings(api.db, by=boss(admin)):
        pages += 1
        text += chunk.decode()
        active = await api.db.fetch(
            "SELECT count(*) AS open FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND state <> 'idle'"
        )
        assert active[0]["open"] == 0
        made = await api.booked(user, next(free))
        assert (await api.post(f"/bookings/{made['id']}/cancel", user)).status_code == 200
        # The oldest and the newest are changed while the export is between them, and all of them get another time.
        await api.db.fetch(
            "UPDATE bookings SET start_at = start_at - interval '1 minute', version = version + 1, title = 'Changed'"
        )
    found = [record["id"] for record in rows_of(text)]
    assert pages == 4
    assert len(found) == len(set(found))
    assert set(found) == there


async def test_paging_by_offset_would_have_lost_rows(api: Api, admin: Person, user: Person) -> None:
    """The control: the same walk by OFFSET, in which what is written meanwhile pushes rows from one page to the next."""
    room = await api.room(admin)
    await fill(api, user, room, 40)
    free = iter(await api.slots(user, room))
    found: list[str] = []
    for page in (1, 2, 3, 4):
        listed = await api.get("/bookings", admin, params={"page": page, "pageSize": 10})
        found += [one["id"] for one in listed.json()["bookings"]]
        await api.booked(user, next(free))
    assert len(found) != len(set(found))


async def test_an_export_takes_no_more_memory_for_more_bookings(api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    await fill(api, user, room, 24 * exports.PAGE, title="x" * 200)

    async def peak(pages: int) -> int:
        walk = exports.export_bookings(api.db, by=boss(admin))
        tracemalloc.start()
        try:
            for _ in range(pages):
                await anext(walk)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await walk.aclose()

    await peak(3)
    short, long = await peak(3), await peak(24)
    assert long < short * 1.3, (short, long)


async def test_whoever_is_no_admin_any_more_gets_no_further_page(api: Api, admin: Person, user: Person) -> None:
    await fill(api, user, await api.room(admin), 2 * exports.PAGE + 1)
    walk = exports.export_bookings(api.db, by=boss(admin))
    await anext(walk)
    await api.db.fetch("UPDATE users SET status = 'suspended' WHERE id = $1", admin.id)
    with pytest.raises(Unauthenticated):
        await anext(walk)


async def test_a_page_that_is_refused_once_is_asked_for_again(
    api: Api, admin: Person, user: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of the database costs a pause. The first page is not waited for: its caller is told at once."""
    await fill(api, user, await api.room(admin), 2 * exports.PAGE)
    real, failures = exports.bookings.walk_bookings, [Busy()]

    async def fails(db: Database, *, cursor: str, limit: int, **filters: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(db, cursor=cursor, limit=limit, **filters)

    monkeypatch.setattr(exports.bookings, "walk_bookings", fails)
    with pytest.raises(Busy):
        await anext(exports.export_bookings(api.db, by=boss(admin)))
    walk = exports.export_bookings(api.db, by=boss(admin))
    first = await anext(walk)
    failures.append(Busy())
    rest = b"".join([chunk async for chunk in walk])
    assert len(rows_of((first + rest).decode())) == 2 * exports.PAGE


# Over a real socket


class Cable:
    """The way from a service to its database, which can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []
        self._flows: set[asyncio.Task[None]] = set()
        self.port = 0

    async def plug_in(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*self._target)
        self._ends += [writer, there[1]]
        for source, target in ((reader, there[1]), (there[0], writer)):
            flow = asyncio.create_task(self._flow(source, target))
            self._flows.add(flow)
            flow.add_done_callback(self._flows.discard)

    @staticmethod
    async def _flow(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await source.read(65536):
                target.write(part)
                await target.drain()
        target.close()

    async def cut(self) -> None:
        """Nothing gets through any more, and nobody gets a new connection."""
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self._flows, return_exceptions=True)


@pytest.fixture
async def cable(own_database: str) -> AsyncIterator[Cable]:
    address = urlsplit(own_database)
    assert address.hostname is not None
    assert address.port is not None
    made = Cable(address.hostname, address.port)
    await made.plug_in()
    yield made
    await made.cut()


@pytest.fixture
async def service(own_database: str, cable: Cable, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    address = urlsplit(own_database)
    through = address._replace(netloc=f"{address.username}:{address.password}@127.0.0.1:{cable.port}")
    environment = {"HOLDFAST_DATABASE_URL": urlunsplit(through), "HOLDFAST_POOL_SIZE": "4"}
    running = ServerProcess(environment, log=tmp_path / "serve.log")
    try:
        # In a thread, as the cable is in this loop.
        await asyncio.to_thread(running.start)
        yield running
    finally:
        running.kill()


@pytest.fixture
async def far(service: ServerProcess, own_database: str) -> AsyncIterator[Api]:
    """The service as others reach it."""
    db = Database(own_database, pool_size=2)
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        yield Api(client, db, AccessTokens(SECRET, minutes=60))
    await db.close()


def ask(service: ServerProcess, admin: Person) -> socket.socket:
    """All bookings, for a reader whose own buffer is small: what it does not read, the service would have to keep."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(30)
    reader.connect(("127.0.0.1", service.port))
    request = f"GET /bookings.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin.token}\r\nConnection: close\r\n\r\n"
    reader.sendall(request.encode())
    return reader


def read_all(reader: socket.socket) -> bytes:
    """What there is until the connection ends, in whatever way."""
    found = []
    with suppress(ConnectionResetError):
        while part := reader.recv(65536):
            found.append(part)
    return b"".join(found)


LAST_CHUNK = b"\r\n0\r\n\r\n"
#: What every record of `fill` has once.
RECORD = b",active,room,"


def resident(group: int) -> int:
    """Kilobytes of memory of a process group."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(folder.name)) == group:
                found = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
                total += int(found[1]) if found else 0
    return total


IN_TRANSACTION = """
SELECT count(*) AS held FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '500 milliseconds'"""


async def test_a_reader_who_stops_holds_nothing_open_and_fills_no_memory(far: Api, service: ServerProcess) -> None:
    """Some ten megabytes for a reader who takes nothing yet: the service works on, keeps little of it, and ends well later."""
    admin, user = await far.admin(), await far.person()
    await fill(far, user, await far.room(admin), 20_000, title="x" * 300)
    assert service.process is not None
    with ask(service, admin) as reader:
        body = await asyncio.to_thread(reader.recv, 64)
        assert body.startswith(b"HTTP/1.1 200")
        before = resident(service.process.pid)
        # It answers others on its four connections as if that reader were not there.
        for _ in range(50):
            assert (await far.get("/bookings", admin, params={"pageSize": 1})).status_code == 200
        assert (await far.db.fetch(IN_TRANSACTION))[0]["held"] == 0
        assert resident(service.process.pid) - before < 8_000
        body += await asyncio.to_thread(read_all, reader)
    assert len(body) > 10_000_000
    assert body.endswith(LAST_CHUNK)
    assert body.count(RECORD) == 20_000


async def test_a_database_that_goes_away_breaks_the_connection_off(far: Api, service: ServerProcess, cable: Cable) -> None:
    """A truncated file must not look like a whole one: the last chunk is never sent."""
    admin, user = await far.admin(), await far.person()
    await fill(far, user, await far.room(admin), 20_000, title="x" * 300)
    with ask(service, admin) as reader:
        body = await asyncio.to_thread(reader.recv, 64)
        assert body.startswith(b"HTTP/1.1 200")
        await cable.cut()
        body += await asyncio.to_thread(read_all, reader)
    assert not body.endswith(LAST_CHUNK)
    assert body.count(RECORD) < 20_000
    # The service itself lives on.
    assert (await far.get("/livez")).status_code == 200


async def test_without_a_database_an_export_is_refused_before_it_begins(far: Api, cable: Cable) -> None:
    admin = await far.admin()
    assert (await far.get("/bookings.csv", admin)).status_code == 200
    await cable.cut()
    span = "from=2026-11-01&to=2026-11-02"
    for path in ("/bookings.csv", f"/analytics/bookings.csv?{span}", f"/analytics/bookings?{span}"):
        refused = await far.get(path, admin)
        assert (refused.status_code, code(refused)) == (503, "BUSY")
