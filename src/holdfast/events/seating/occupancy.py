"""Which seats of a layout are free, kept up to date seat by seat: free runs, and how many there are of each length. Pure."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from holdfast.events.seating.layout import FREE, FREE_ALONE, FREE_RUN, TAKEN, Layout, Pool


class Run(NamedTuple):
    """Free neighbouring seats that no other free seat adjoins. `first` is the lowest `no` among them, `row` an index."""

    length: int
    first: int
    start: int
    row: int


class Spread(NamedTuple):
    """The free runs of a row, longest first; `most[n]` seats are in the n longest."""

    runs: list[Run]
    most: list[int]


class Occupancy:
    """Which seats of a layout are free, for one batch of requests: not for sharing between threads.

    `taken` are the numbers of seats that are booked, held or blocked; numbers that the layout does not know are passed over,
    as it may be a moment older than the claims.
    """

    __slots__ = ("_by_rank", "_indexes", "_places", "_spreads", "free", "layout")

    def __init__(self, layout: Layout, taken: Iterable[int]) -> None:
        self.layout = layout
        self._places = bytearray(layout.template)
        self._by_rank = bytearray(len(layout.seats))
        places, by_rank = self._places, self._by_rank
        for found in map(layout.places.get, taken):
            if found is not None:
                place, rank = found
                places[place] = by_rank[rank] = TAKEN
        #: How many seats are free.
        self.free: int = by_rank.count(FREE)
        #: Of a section (None: of all), once asked for: the free runs by length and by whether taken seats stand at both ends
        #: (length * 2 + 1, else length * 2), each as the lowest `no` in it, in order.
        self._indexes: dict[str | None, dict[int, list[int]]] = {}
        #: Of a row: its free runs, once asked for and until something changes there.
        self._spreads: list[Spread | None] = [None] * len(layout.rows)

    def is_free(self, no: int) -> bool:
        """Whether that seat exists and is free."""
        found = self.layout.places.get(no)
        return found is not None and self._by_rank[found[1]] == FREE

    def take(self, nos: Iterable[int]) -> None:
        """These seats are no longer free. ValueError, and nothing is changed, where one is taken or unknown."""
        chosen = set(nos)
        if not all(map(self.is_free, chosen)):
            msg = "a seat that is to be taken is not free"
            raise ValueError(msg)
        for start, end in self._stretches(chosen):
            left, right = self._run_around(start, end)
            self._strike(left, right)
            self._places[start:end] = bytes([TAKEN]) * (end - start)
            self._list(left, start)
            self._list(end, right)
        self.free -= len(chosen)

    def _stretches(self, nos: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Note that these seats are taken, but leave the places in rows, `[start, end)` without a gap, to the caller."""
        found: list[int] = []
        alone = self.layout.spans[None][1]
        for no in nos:
            place, rank = self.layout.places[no]
            self._by_rank[rank] = TAKEN
            if place < alone:
                found.append(place)
            else:
                self._places[place] = TAKEN
        found.sort()
        begin = 0
        for index, place in enumerate(found, 1):
            if index == len(found) or found[index] != place + 1:
                start = found[begin]
                self._spreads[self.layout.row_of[start]] = None
                yield start, place + 1
                begin = index

    def _run_around(self, start: int, end: int) -> tuple[int, int]:
        """How far the free seats reach to both sides of `[start, end)`."""
        block_start, block_end = self.layout.blocks[self.layout.block_of[start]]
        left = self._places.rfind(TAKEN, block_start, start) + 1
        right = self._places.find(TAKEN, end, block_end)
        return left or block_start, right if right >= 0 else block_end

    def _first_of(self, start: int, end: int) -> int:
        no_at = self.layout.no_at
        return no_at[start] if self.layout.rows[self.layout.row_of[start]].straight else min(no_at[start:end])

    def _key(self, start: int, end: int) -> int:
        return (end - start) * 2 + (self._places[start - 1] == TAKEN == self._places[end])

    def _indexes_of(self, start: int) -> Iterator[dict[int, list[int]]]:
        section = self.layout.rows[self.layout.row_of[start]].section
        for name in {None, section}:
            index = self._indexes.get(name)
            if index is not None:
                yield index

    def _list(self, start: int, end: int) -> None:
        if start < end:
            key, first = self._key(start, end), self._first_of(start, end)
            for index in self._indexes_of(start):
                insort(index.setdefault(key, []), first)

    def _strike(self, start: int, end: int) -> None:
        if start < end:
            key, first = self._key(start, end), self._first_of(start, end)
            for index in self._indexes_of(start):
                firsts = index[key]
                if len(firsts) == 1:
                    del index[key]
                else:
                    del firsts[bisect_left(firsts, first)]

    def _index(self, section: str | None) -> dict[int, list[int]]:
        index = self._indexes.get(section)
        if index is None:
            index = {}
            for match in FREE_RUN.finditer(self._places, *self.layout.spans[section]):
                start, end = match.span()
                index.setdefault(self._key(start, end), []).append(self._first_of(start, end))
            for firsts in index.values():
                firsts.sort()
            self._indexes[section] = index
        return index

    def _spread(self, row: int) -> Spread:
        """The free runs of a row, longest first."""
        spread = self._spreads[row]
        if spread is None:
            _, begin, finish, _ = self.layout.rows[row]
            runs = [
                Run(end - start, self._first_of(start, end), start, row)
                for start, end in (match.span() for match in FREE_RUN.finditer(self._places, begin, finish))
            ]
            runs.sort(key=lambda run: (-run.length, run.first))
            spread = self._spreads[row] = Spread(runs, list(accumulate((run.length for run in runs), initial=0)))
        return spread

    def _pools(self, section: str | None) -> list[tuple[int, Pool]]:
        """How many seats are free in each pool, most first."""
        counted = (
            (self._places.count(FREE_ALONE, pool.start, pool.end), pool)
            for pool in self.layout.pools
            if section is None or pool.section == section
        )
        return sorted((found for found in counted if found[0]), key=lambda found: -found[0])
