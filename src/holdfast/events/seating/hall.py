"""Best-available: which of the free seats to give somebody who only says how many. Pure; nothing here reads or locks."""

from collections.abc import Collection, Iterable, Iterator
from heapq import nlargest
from itertools import accumulate

from holdfast.events.seating.layout import FREE, FREE_ALONE, TAKEN, Pool, Seat
from holdfast.events.seating.occupancy import Occupancy, Run

#: Above this many groups, fewest rows are no longer searched for: who is scattered that far does not care.
MOST_GROUPS_FOR_FEWEST_ROWS = 12


class Hall(Occupancy):
    """An event's seats, free and taken, and the choice among the free ones."""

    __slots__ = ()

    def choose(self, quantity: int, *, section: str | None = None, adjacent: bool = True) -> list[Seat] | None:
        """The best free seats, in order of `no`, or None where fewer than `quantity` are free (in the section). Takes nothing.

        Not `adjacent`: the first ones in order of `no`. Else the best by these rules, a later one only where all before it
        leave a choice:

        1. fewest groups: a group is a stretch of neighbours in one row, or what is chosen from one pool;
        2. fewest pools, as a pool may be anywhere in the hall (for one seat, a pool is as good as a row);
        3. fewest rows;
        4. fewest single seats newly left between two taken ones: free seats that have a neighbour on either side, both of
           them taken, and were not so before;
        5. earliest: the sorted lists of `no` are compared.

        Exact where one group suffices, all five. Where not, 1 and 2 are exact, 3 is up to twelve groups, at most one single
        seat is left, and none where two groups in different rows can do without; 5 breaks ties, but is not searched for.
        """
        if quantity < 1:
            msg = "at least one seat"
            raise ValueError(msg)
        if quantity > self.free or (section is not None and section not in self.layout.sections):
            return None
        nos = self._together(quantity, section) if adjacent else None
        if nos is None:
            nos = self._scattered(quantity, section) if adjacent else self._first_free(quantity, section)
        return None if nos is None else [self.layout.by_no[no] for no in nos]

    # One group.

    def _first_free(self, quantity: int, section: str | None) -> list[int] | None:
        begin, end = self.layout.ranks_of[section]
        nos: list[int] = []
        rank = self._by_rank.find(FREE, begin, end)
        while rank >= 0:
            seat = self.layout.seats[rank]
            if section is None or seat.section == section:
                nos.append(seat.no)
                if len(nos) == quantity:
                    return nos
            rank = self._by_rank.find(FREE, rank + 1, end)
        return None

    def _from_pool(self, pool: Pool, quantity: int) -> list[int]:
        """The first free ones of a pool that has as many."""
        nos: list[int] = []
        place = pool.start - 1
        for _ in range(quantity):
            place = self._places.find(FREE_ALONE, place + 1, pool.end)
            nos.append(self.layout.no_at[place])
        return nos

    def _together(self, quantity: int, section: str | None) -> list[int] | None:
        """One group, if there can be one."""
        single, nos = self._in_a_row(quantity, section)
        if nos is not None and (quantity > 1 or (not single and not self.layout.pools)):
            return nos
        from_pools = [self._from_pool(pool, quantity) for free, pool in self._pools(section) if free >= quantity]
        if nos is not None and (not single or not from_pools):
            from_pools.append(nos)
        return min(from_pools, default=None)

    def _in_a_row(self, size: int, section: str | None, without: Collection[int] = ()) -> tuple[int, list[int] | None]:
        """The best neighbours of one row, and how many single seats they leave. `without`: runs not to use, by `first`.

        A run that is one seat longer than needed and ends at taken seats always leaves one: such runs come last. All others
        have a place that leaves none.
        """
        index = self._index(section)
        leaves_one = size * 2 + 3
        best: list[int] | None = None
        for key, firsts in index.items():
            if key >= size * 2 and key != leaves_one:
                best = self._earliest(firsts, key >> 1, size, best, without)
        if best is not None:
            return 0, best
        return 1, self._earliest(index.get(leaves_one, ()), size + 1, size, None, without)

    def _earliest(
        self, firsts: Iterable[int], length: int, size: int, best: list[int] | None, without: Collection[int]
    ) -> list[int] | None:
        """The earliest of `best` and what these runs of one length have to give."""
        for first in firsts:
            if best is not None and first > best[0]:
                break  # no later run has an earlier seat
            if first not in without:
                _, nos = self._window(first, length, size)
                if best is None or nos < best:
                    best = nos
        return best

    def _window(self, first: int, length: int, size: int) -> tuple[int, list[int]]:
        """The best neighbours within a run, and how many single seats they leave."""
        layout = self.layout
        place, _ = layout.places[first]
        spare = length - size
        if layout.rows[layout.row_of[place]].straight:
            start, single = place, 0
            if spare == 1 and self._places[place + length] == TAKEN:
                single = int(self._places[place - 1] == TAKEN)
                start += 1 - single
            return single, layout.no_at[start : start + size]
        begin, end = self._run_around(place, place + 1)
        left, right = self._places[begin - 1] == TAKEN, self._places[end] == TAKEN

        def rank(start: int) -> tuple[int, list[int]]:
            single = int(left and start - begin == 1) + int(right and end - start - size == 1)
            return single, sorted(layout.no_at[start : start + size])

        # Nothing beats a place that has the earliest seat and leaves no single one: that spares long rows a full search.
        near = min(map(rank, range(max(begin, place - size + 1), min(place, end - size) + 1)))
        return min(map(rank, range(begin, end - size + 1))) if near[0] else near

    # Several groups.

    def _scattered(self, size: int, section: str | None) -> list[int] | None:
        """Several groups, as few as can be; None where there are too few seats.

        With so few groups, each takes a run of its own, as two groups of one run would do better as one; and all of them but
        one can be whole runs, as what is too much is less than any of the runs.
        """
        index = self._index(section)
        lengths = [key >> 1 for key in sorted(index, reverse=True) for _ in index[key][:size]][:size]
        pools = self._pools(section)
        in_runs = list(accumulate(lengths, initial=0))
        in_pools = list(accumulate((free for free, _ in pools), initial=0))
        for groups in range(1, size + 1):
            for used in range(min(groups, len(pools)) + 1):
                if in_pools[used] + in_runs[min(groups - used, len(lengths))] >= size:
                    return self._from_groups(size, section, groups - used, pools[:used])
        return None

    def _from_groups(self, size: int, section: str | None, groups: int, pools: list[tuple[int, Pool]]) -> list[int]:
        """So many groups of rows, and all of these pools."""
        nos: list[int] = []
        if pools:
            if groups:
                need = size - sum(free for free, _ in pools)
                nos = self._whole(next(self._selections(section, groups, need)))
            for free, pool in pools:
                nos += self._from_pool(pool, min(free, size - len(nos)))
            return sorted(nos)
        selections = self._selections(section, groups, size)
        first = next(selections)
        best = self._trimmed(first, size, section)
        while best[0]:
            other = next(selections, None)
            if other is None or len({run.row for run in other}) > len({run.row for run in first}):
                break
            best = min(best, self._trimmed(other, size, section))
        return best[1]

    def _whole(self, runs: Iterable[Run]) -> list[int]:
        return [no for run in runs for no in self.layout.no_at[run.start : run.start + run.length]]

    def _trimmed(self, selection: list[Run], size: int, section: str | None) -> tuple[int, list[int]]:
        """The best of the ways to take all of these runs but one whole, and the rest from that one or one in its stead."""
        total = sum(run.length for run in selection)
        rows = {run.row for run in selection}
        found: list[tuple[int, list[int]]] = []
        for last in selection:
            others = [run for run in selection if run is not last]
            rest = size - total + last.length
            used = {run.first for run in others}
            if len({run.row for run in others}) < len(rows):
                single, nos = self._in_a_row(rest, section, used)
                windows = [] if nos is None else [(single, nos)]
            else:
                windows = [
                    self._window(run.first, run.length, rest)
                    for row in rows
                    for run in self._spread(row).runs
                    if run.length >= rest and run.first not in used
                ]
            whole = self._whole(others)
            found += ((single, sorted(whole + nos)) for single, nos in windows)
        return min(found)

    def _selections(self, section: str | None, groups: int, need: int) -> Iterator[list[Run]]:
        """So many runs with at least as many seats as needed: those of one row, else of fewest rows, else any."""
        if groups > 1:
            for row in self._rows_with(need, section):
                runs, most = self._spread(row)
                if len(runs) >= groups and most[groups] >= need:
                    yield runs[:groups]
            picked = self._fewest_rows(section, groups, need) if groups <= MOST_GROUPS_FOR_FEWEST_ROWS else None
            if picked is not None:
                yield [run for row, count in picked for run in self._spread(row).runs[:count]]
        yield self._longest(section, groups)

    def _longest(self, section: str | None, count: int) -> list[Run]:
        """The longest runs of all, the earliest first among equals."""
        index = self._index(section)
        runs: list[Run] = []
        for length in sorted({key >> 1 for key in index}, reverse=True):
            firsts = index.get(length * 2, [])[:count] + index.get(length * 2 + 1, [])[:count]
            for first in sorted(firsts)[: count - len(runs)]:
                place, _ = self.layout.places[first]
                start, _ = self._run_around(place, place + 1)
                runs.append(Run(length, first, start, self.layout.row_of[place]))
            if len(runs) == count:
                break
        return runs

    def _rows_with(self, quantity: int, section: str | None) -> list[int]:
        """The rows with so many free seats."""
        begin, finish = self.layout.spans[section]
        return [
            index
            for index, (_, start, end, _) in enumerate(self.layout.rows)
            if end - start >= quantity and begin <= start < finish and self._places.count(FREE, start, end) >= quantity
        ]

    def _fewest_rows(self, section: str | None, groups: int, need: int) -> list[tuple[int, int]] | None:
        """Rows, fewer than groups but not only one, and how many of the longest runs of each: a knapsack."""
        fewer = range(2, groups)
        rows = self._rows_with(1, section) if fewer else []
        if all(len(self._spread(row).runs) == 1 for row in rows):
            return None
        # Of the rows that give n runs, only the richest can be among the chosen ones, as any other could give way to them.
        candidates: set[int] = set()
        for count in range(1, groups + 1):
            giving = [row for row in rows if len(self._spread(row).runs) >= count]
            candidates.update(nlargest(groups - 1, giving, key=lambda row: (self._spread(row).most[count], -row)))
        best: dict[tuple[int, int], tuple[int, list[tuple[int, int]]]] = {(0, 0): (0, [])}
        for row in sorted(candidates):
            most = self._spread(row).most
            for (used, taken), (total, picked) in sorted(best.items(), reverse=True):
                if used + 1 == groups:
                    continue
                for count in range(1, min(len(most) - 1, groups - taken) + 1):
                    key = (used + 1, taken + count)
                    if key not in best or best[key][0] < total + most[count]:
                        best[key] = (total + most[count], [*picked, (row, count)])
        for used in fewer:
            total, picked = best.get((used, groups), (0, []))
            if total >= need:
                return picked
        return None
