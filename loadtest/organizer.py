"""What an organizer prepares over the API before a load test, and checks after it: events, rooms, who has what."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import httpx

#: Of an event: what claims, bookings and units say of its seats. All of one moment.
_IN_DATABASE = """
SELECT (SELECT count(*) FROM claims c WHERE c.resource_no = r.no AND c.booking_id IS NOT NULL) AS claims,
       (SELECT count(DISTINCT c.seat_no) FROM claims c WHERE c.resource_no = r.no) AS seats_taken,
       (SELECT count(*) FROM claims c WHERE c.resource_no = r.no) AS all_claims,
       (SELECT count(*) FROM booking_units u JOIN bookings b ON b.id = u.booking_id
        WHERE u.resource_no = r.no AND b.status = 'active') AS units,
       (SELECT count(DISTINCT u.seat_no) FROM booking_units u JOIN bookings b ON b.id = u.booking_id
        WHERE u.resource_no = r.no AND b.status = 'active') AS seats_of_units,
       (SELECT count(*) FROM bookings b WHERE b.status = 'active'
          AND EXISTS (SELECT FROM booking_units u WHERE u.booking_id = b.id AND u.resource_no = r.no)) AS bookings,
       (SELECT count(*) FROM outbox o WHERE o.type = 'booking.created'
          AND EXISTS (SELECT FROM booking_units u WHERE u.booking_id = o.subject_id AND u.resource_no = r.no)) AS messages,
       (SELECT count(*) FROM (
          SELECT 1 FROM claims c FULL JOIN booking_units u ON u.booking_id = c.booking_id AND u.seat_no = c.seat_no
          LEFT JOIN bookings b ON b.id = u.booking_id
          WHERE coalesce(c.resource_no, u.resource_no) = r.no AND (c.no IS NULL OR c.booking_id IS NOT NULL)
            AND (u.booking_id IS NULL OR (b.status = 'active') <> (c.no IS NOT NULL))) x) AS contradictions
FROM resources r WHERE r.id = $1"""


class Organizer:
    """An admin in front of one service."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, method: str, path: str, body: Any = None, *, expected: int = 200, **query: str) -> Any:
        """The JSON of an answer, which has the expected status."""
        answer = self._client.request(method, path, json=body, params=query)
        if answer.status_code != expected:
            raise SystemExit(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
        return answer.json() if answer.content else None

    def new_event(self, name: str, *, seats: dict[str, Any], policy: dict[str, Any] | None = None) -> str:
        """An event in a month with seats as POST /events/{id}/seats takes them; its id."""
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=30)
        body = {"name": name, "start": start.isoformat(), "end": (start + timedelta(hours=3)).isoformat(), "policy": policy}
        event_id: str = self.ask("POST", "/events", body, expected=201)["event"]["id"]
        self.ask("POST", f"/events/{event_id}/seats", seats, expected=201)
        return event_id

    def event(self, event_id: str) -> dict[str, Any]:
        """An event with its counts."""
        found: dict[str, Any] = self.ask("GET", f"/events/{event_id}")["event"]
        return found

    def seats(self, event_id: str) -> list[dict[str, Any]]:
        """Its seat map."""
        found: list[dict[str, Any]] = self.ask("GET", f"/events/{event_id}/seats")["seats"]
        return found

    def bookings(self, event_id: str) -> Iterator[dict[str, Any]]:
        """All its bookings, cancelled ones included."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask("GET", "/bookings", eventId=event_id, pageSize="100", cursor=cursor)
            yield from page["bookings"]
            cursor = page.get("nextCursor")

    def line(self, event_id: str) -> list[dict[str, Any]]:
        """Who waits for it or has an offer, first come first."""
        found: list[dict[str, Any]] = []
        for page in count(1):
            answer = self.ask("GET", f"/events/{event_id}/waitlist", page=str(page), pageSize="100")
            found += answer["entries"]
            if len(found) >= answer["pagination"]["total"]:
                break
        return found


@contextmanager
def organizer(url: str, token: str | None = None) -> Iterator[Organizer]:
    """An admin with that token, or the demo's."""
    with httpx.Client(base_url=url, timeout=60) as client:
        if token is None:
            answer = client.post("/dummyLogin", json={"role": "admin"})
            if answer.status_code != 200:
                raise SystemExit(f"{url} has no demo log-in: name an admin's token")
            token = answer.json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield Organizer(client)


def rows_of_seats(number: int, *, a_row: int = 50, rows: int = 20) -> dict[str, Any]:
    """So many seats as a hall has them: sections of `rows` rows, each of `a_row` seats (the last one of what is left)."""
    lengths = [a_row] * (number // a_row) + ([number % a_row] if number % a_row else [])
    sections = [lengths[at : at + rows] for at in range(0, len(lengths), rows)]
    return {
        "sections": [
            {"name": f"S{no}", "rows": [{"name": f"R{row}", "seats": length} for row, length in enumerate(section, start=1)]}
            for no, section in enumerate(sections, start=1)
        ]
    }


def are_adjacent(labels: Iterable[str]) -> bool:
    """Whether seats of `rows_of_seats` are beside each other in one row."""
    places = [label.rpartition("-") for label in labels]
    numbers = sorted(int(number) for _, _, number in places)
    return len({row for row, _, _ in places}) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def contradictions_in_database(url: str, event_id: str, *, bookings: int, seats: int) -> list[str]:
    """What in the database does not fit to that many active bookings with that many seats; nothing, if all is right."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(_IN_DATABASE, event_id)
    finally:
        await connection.close()
    found = [f"{row['all_claims'] - row['seats_taken']} seats are claimed twice"] * (row["all_claims"] != row["seats_taken"])
    found += [f"{row['contradictions']} units and claims without each other"] * (row["contradictions"] != 0)
    expected = {"claims": seats, "units": seats, "seats_of_units": seats, "bookings": bookings}
    found += [f"{row[name]} {name} in the database, not {number}" for name, number in expected.items() if row[name] != number]
    if row["messages"] < bookings:
        found.append(f"{row['messages']} outbox messages of {bookings} bookings")
    return found


def contradictions_in_api(organizer: Organizer, event_id: str, told: dict[str, list[str]]) -> list[str]:
    """What the API says that does not fit to the active bookings and their seats as their owners were told; by booking id."""
    kept = {one["id"]: sorted(one["seats"]) for one in organizer.bookings(event_id) if one["status"] == "active"}
    found = [f"seat {label} was given twice" for label, times in _times(told).items() if times > 1]
    found += [
        f"booking {one}: told {sorted(seats)}, kept {kept.get(one)}"
        for one, seats in told.items()
        if kept.get(one) != sorted(seats)
    ]
    found += [f"booking {one} is active, and nobody was told" for one in kept.keys() - told.keys()]
    counts, shown = organizer.event(event_id), Counter(seat["status"] for seat in organizer.seats(event_id))
    booked = sum(map(len, told.values()))
    if counts["booked"] != booked or shown["booked"] != booked:
        found.append(f"{booked} seats were told, {counts['booked']} counted, {shown['booked']} shown on the map")
    if counts["capacity"] != counts["booked"] + counts["held"] + counts["available"]:
        found.append(f"capacity {counts['capacity']} is not booked, held and available: {counts}")
    return found


def _times(told: dict[str, list[str]]) -> Counter[str]:
    return Counter(label for labels in told.values() for label in labels)
