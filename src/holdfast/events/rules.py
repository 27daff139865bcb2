"""What an event is, which seats a request names, and how a seat map is put together. Pure; `seating` chooses seats."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text
from holdfast.core.errors import Invalid
from holdfast.core.policies import Policy
from holdfast.events.seating import Layout, Seat, parse_label

#: Seats that one call may add, and that an event may have.
MAX_SEATS_A_CALL = 20_000
MAX_SEATS = 100_000
_COUNTS_OF_A_TAG = re.compile(r'"(\d+)\.[0-9.]*"')


@dataclass(frozen=True, slots=True)
class Event:
    """An event with its counts, which are computed at each reading: seats that are not blocked, booked, held."""

    no: int
    id: UUID
    name: str
    description: str | None
    venue: str | None
    start: datetime
    end: datetime | None
    time_zone: str
    sales_start: datetime | None
    sales_end: datetime | None
    own_fields: dict[str, Any]
    policy: Policy
    version: int
    created_at: datetime
    seats: int
    blocked: int
    booked: int
    held: int
    waiting: int

    @property
    def capacity(self) -> int:
        """Seats that are not blocked."""
        return self.seats - self.blocked

    @property
    def etag(self) -> str:
        """Changes with the event and with its counts; `If-Match` looks at the event alone (`definition_tags`)."""
        return f'"{self.version}.{self.seats}.{self.blocked}.{self.booked}.{self.held}.{self.waiting}"'

    @property
    def definition_tag(self) -> str:
        """Changes with the event, not with its counts."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "name": self.name,
            "description": self.description,
            "venue": self.venue,
            "start": instant_text(self.start),
            "end": None if self.end is None else instant_text(self.end),
            "timeZone": self.time_zone,
            "salesStart": None if self.sales_start is None else instant_text(self.sales_start),
            "salesEnd": None if self.sales_end is None else instant_text(self.sales_end),
            "metadata": self.own_fields,
            "policy": self.policy.as_json(),
            "capacity": self.capacity,
            "booked": self.booked,
            "held": self.held,
            "available": self.capacity - self.booked - self.held,
            "waiting": self.waiting,
            "createdAt": instant_text(self.created_at),
        }


def definition_tags(if_match: str | None) -> str | None:
    """`If-Match` without the counts in its tags: a seat that is booked meanwhile is no change of the event."""
    return None if if_match is None else _COUNTS_OF_A_TAG.sub(r'"\1"', if_match)


def check_times(start: datetime, end: datetime | None, sales_start: datetime | None, sales_end: datetime | None) -> None:
    """Raise Invalid where an end is not after its start."""
    if end is not None and end <= start:
        message = "An event must end after it begins."
        raise Invalid(message)
    if sales_start is not None and sales_end is not None and sales_end <= sales_start:
        message = "Sales must end after they begin."
        raise Invalid(message)


@dataclass(frozen=True, slots=True)
class NewSeat:
    """A seat to be."""

    label: str
    section: str | None
    row: str | None
    number: int | None


def seats_of_labels(labels: Iterable[str]) -> list[NewSeat]:
    """Seats by label alone: row and number as the labels tell them."""
    return [NewSeat(label, None, *parse_label(label)) for label in dict.fromkeys(labels)]


def seats_of_sections(sections: Sequence[tuple[str, Sequence[tuple[str, int]]]]) -> list[NewSeat]:
    """Seats of sections with rows of so many seats; labels are `section-row-number`."""
    found: dict[str, NewSeat] = {}
    for section, rows in sections:
        for row, count in rows:
            for number in range(1, count + 1):
                label = f"{section}-{row}-{number}"
                found.setdefault(label, NewSeat(label, section, row, number))
    return list(found.values())


def seats_of_count(count: int) -> list[NewSeat]:
    """General admission: places without neighbours, labelled 1, 2, 3."""
    return [NewSeat(str(number), None, None, None) for number in range(1, count + 1)]


def seat_json(seat: Seat, status: str, *, mine: bool) -> dict[str, Any]:
    """The wire's shape of a seat."""
    return {
        "id": str(seat.id),
        "label": seat.label,
        "section": seat.section,
        "row": seat.row,
        "number": seat.number,
        "status": status,
        "mine": mine,
    }


def rendered_seats(layout: Layout) -> list[tuple[int, bytes]]:
    """Number and JSON of each seat up to its status: they never change, so a map is put together from them."""
    return [(seat.no, orjson.dumps(seat_json(seat, "", mine=False))[: -len(b'","mine":false}')]) for seat in layout.seats]


def rendered_map(
    seats: Sequence[tuple[int, bytes]], *, booked: Iterable[int], held: Iterable[int], blocked: Iterable[int], mine: Iterable[int]
) -> tuple[bytes, str]:
    """The body of a seat map and its ETag, a pure function of what there is and what is taken."""
    ends = {
        **dict.fromkeys(booked, b'booked","mine":false}'),
        **dict.fromkeys(held, b'held","mine":false}'),
        **dict.fromkeys(blocked, b'blocked","mine":false}'),
    }
    for no in mine:
        ends[no] = ends[no].replace(b"false", b"true")
    free = b'free","mine":false}'
    body = b'{"seats":[' + b",".join(part + ends.get(no, free) for no, part in seats) + b"]}"
    return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
