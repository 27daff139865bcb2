"""Where the seats of an event are, and who sits beside whom. Pure; what is free is elsewhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

LARGEST_NUMBER = 2**31 - 1
_DIGITS = "0123456789"
_SEPARATORS = " -_./:,#"

#: What a place holds. A seat without neighbours has a byte of its own, so that a search for free runs passes it by.
FREE, TAKEN, NO_SEAT, FREE_ALONE = 0, 1, 2, 3
FREE_RUN = re.compile(rb"\x00+")


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat. `no` (from 1) is its number in the claims, and the order in which the organizer named the seats."""

    no: int
    id: UUID
    label: str
    section: str | None
    row: str | None
    number: int | None


def parse_label(label: str) -> tuple[str | None, int | None]:
    """Row and number as a label tells them: its last digits, and what stands before them without the separator.

    `A-1` is ("A", 1), `AA12` ("AA", 12), `Stalls-C-7` ("Stalls-C", 7), `12` (None, 12), `Box` (None, None). A number too
    large for an integer column is none.
    """
    before = label.rstrip(_DIGITS)
    digits = label[len(before) :].lstrip("0") or label[len(before) :][:1]
    if not digits or len(digits) > len(str(LARGEST_NUMBER)) or int(digits) > LARGEST_NUMBER:
        return None, None
    return before.rstrip(_SEPARATORS) or None, int(digits)


class Row(NamedTuple):
    """Where a row lies: the places `[start, end)`. `straight`: the order of `no` is that of the numbers."""

    section: str | None
    start: int
    end: int
    straight: bool


class Pool(NamedTuple):
    """The seats of a section that have no neighbours: the places `[start, end)`, in order of `no`."""

    section: str | None
    start: int
    end: int


class Layout:
    """The seats of an event, and who sits beside whom. Immutable: build it once, share it between halls.

    Neighbours are seats of one section and row with consecutive numbers; a missing number parts them as an aisle does.
    Seats without a row or a number, and a second seat with the same section, row and number, have no neighbours: those of
    one section are its pool.

    Inside, each seat has a place: one row after the other, section by section, a place without a seat wherever numbers
    are missing and between rows, the pools last.
    """

    __slots__ = (
        "block_of",
        "blocks",
        "by_label",
        "by_no",
        "no_at",
        "places",
        "pools",
        "ranks_of",
        "row_of",
        "rows",
        "seats",
        "sections",
        "spans",
        "template",
    )

    def __init__(self, seats: Iterable[Seat]) -> None:
        self.seats: tuple[Seat, ...] = tuple(sorted(seats, key=lambda seat: seat.no))
        self.by_label: dict[str, Seat] = {seat.label: seat for seat in self.seats}
        self.by_no: dict[int, Seat] = {seat.no: seat for seat in self.seats}
        self.sections: frozenset[str] = frozenset(seat.section for seat in self.seats if seat.section is not None)
        self.no_at: list[int] = [0]
        self.rows: list[Row] = []
        self.pools: list[Pool] = []
        #: Of a section (None: of all): the places between which its rows lie, and the ranks in order of `no` of its seats.
        self.spans: dict[str | None, tuple[int, int]] = {}
        self.ranks_of: dict[str | None, tuple[int, int]] = {}
        self._place_seats()
        place_of = {no: place for place, no in enumerate(self.no_at) if no}
        #: Of a `no`: its place and its rank.
        self.places: dict[int, tuple[int, int]] = {seat.no: (place_of[seat.no], rank) for rank, seat in enumerate(self.seats)}
        for rank, seat in enumerate(self.seats):
            self.ranks_of[seat.section] = (self.ranks_of.get(seat.section, (rank, 0))[0], rank + 1)
        self.ranks_of[None] = (0, len(self.seats))
        self.template: bytes = self._nothing_taken()
        #: Of a place: its row, and its block (the seats of a row without a gap in the numbers, as places `[start, end)`).
        self.row_of: list[int] = [-1] * len(self.no_at)
        self.block_of: list[int] = [-1] * len(self.no_at)
        self.blocks: list[tuple[int, int]] = []
        for index, row in enumerate(self.rows):
            self.row_of[row.start : row.end] = [index] * (row.end - row.start)
            for match in FREE_RUN.finditer(self.template, row.start, row.end):
                start, end = match.span()
                self.block_of[start:end] = [len(self.blocks)] * (end - start)
                self.blocks.append((start, end))

    def _place_seats(self) -> None:
        sections: dict[str | None, dict[str, dict[int, Seat]]] = {}
        pools: dict[str | None, list[int]] = {}
        for seat in self.seats:
            rows = sections.setdefault(seat.section, {})
            if seat.row is None or seat.number is None or seat.number in rows.setdefault(seat.row, {}):
                pools.setdefault(seat.section, []).append(seat.no)
            else:
                rows[seat.row][seat.number] = seat
        for section, rows in sections.items():
            begin = len(self.no_at)
            for row in rows.values():
                self._place_row(section, [row[number] for number in sorted(row)])
            self.spans[section] = (begin, len(self.no_at))
        self.spans[None] = (0, len(self.no_at))
        for section, nos in pools.items():
            begin = len(self.no_at)
            self.no_at += nos
            self.pools.append(Pool(section, begin, len(self.no_at)))

    def _place_row(self, section: str | None, seats: list[Seat]) -> None:
        begin = len(self.no_at)
        expected = seats[0].number
        for seat in seats:
            if seat.number != expected:
                self.no_at.append(0)
            self.no_at.append(seat.no)
            expected = (seat.number or 0) + 1
        nos = [seat.no for seat in seats]
        self.rows.append(Row(section, begin, len(self.no_at), straight=nos == sorted(nos)))
        self.no_at.append(0)

    def _nothing_taken(self) -> bytes:
        places = bytearray(FREE if no else NO_SEAT for no in self.no_at)
        for pool in self.pools:
            places[pool.start : pool.end] = bytes([FREE_ALONE]) * (pool.end - pool.start)
        return bytes(places)
