"""Best-available seats, against a search through every set of free seats and against a hall built anew."""

from collections.abc import Iterable
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.events.seating import Hall, Layout, Seat, parse_label

Place = tuple[str | None, str | None, int | None]


def seats_at(places: Iterable[Place]) -> list[Seat]:
    """Seats numbered from 1 in this order; the label is only a name."""
    return [
        Seat(no=no, id=UUID(int=no), label=f"seat {no}", section=section, row=row, number=number)
        for no, (section, row, number) in enumerate(places, 1)
    ]


def rows_of(*lengths: int) -> list[Place]:
    """Rows A, B, C ... of so many seats each."""
    return [(None, chr(ord("A") + index), number) for index, length in enumerate(lengths) for number in range(1, length + 1)]


def pattern(*rows: str) -> Hall:
    """A hall as drawn: `.` a free seat, `x` a taken one, a space no seat."""
    places: list[Place] = []
    taken: list[int] = []
    for index, row in enumerate(rows):
        for number, drawn in enumerate(row, 1):
            if drawn != " ":
                places.append((None, chr(ord("A") + index), number))
                if drawn == "x":
                    taken.append(len(places))
    return Hall(Layout(seats_at(places)), taken)


def chosen(hall: Hall, quantity: int, section: str | None = None, *, adjacent: bool = True) -> list[str] | None:
    """What is chosen, as row and number: `A3`."""
    seats = hall.choose(quantity, section=section, adjacent=adjacent)
    return None if seats is None else [f"{seat.row or ''}{seat.number or seat.no}" for seat in seats]


class Judge:
    """The rules, written down a second time and plainly: how a set of seats is to be ranked in a hall."""

    def __init__(self, seats: list[Seat], taken: set[int]) -> None:
        self.taken = taken
        self.seat = {seat.no: seat for seat in seats}
        self.at: dict[Place, int] = {}
        self.alone: set[int] = set()
        for seat in seats:
            if seat.row is None or seat.number is None or (seat.section, seat.row, seat.number) in self.at:
                self.alone.add(seat.no)
            else:
                self.at[seat.section, seat.row, seat.number] = seat.no

    def beside(self, no: int, step: int) -> int | None:
        seat = self.seat[no]
        if no in self.alone or seat.number is None:
            return None
        return self.at.get((seat.section, seat.row, seat.number + step))

    def orphans(self, taken: set[int]) -> set[int]:
        return {
            no
            for no in self.seat
            if no not in taken and self.beside(no, -1) in taken and self.beside(no, 1) in taken and no not in self.alone
        }

    def rank(self, nos: Iterable[int]) -> tuple[int, int, int, int, list[int]]:
        picked = set(nos)
        pools = {self.seat[no].section for no in picked & self.alone}
        in_rows = picked - self.alone
        groups = sum(self.beside(no, -1) not in in_rows for no in in_rows)
        rows = {(self.seat[no].section, self.seat[no].row) for no in in_rows}
        scattered_pools = len(pools) if len(picked) > 1 else 0
        scattered_rows = len(rows) if len(picked) > 1 else 0
        new = self.orphans(self.taken | picked) - self.orphans(self.taken)
        return groups + len(pools), scattered_pools, scattered_rows, len(new), sorted(picked)

    def best(self, quantity: int, section: str | None = None) -> tuple[int, int, int, int, list[int]] | None:
        free = [no for no in self.seat if no not in self.taken and (section is None or self.seat[no].section == section)]
        return min(map(self.rank, combinations(free, quantity)), default=None)


def check_against_all_sets(hall: Hall, taken: set[int], quantities: Iterable[int], section: str | None = None) -> None:
    """What `choose` promises, held against every set of free seats."""
    seats = list(hall.layout.seats)
    judge = Judge(seats, taken)
    for quantity in quantities:
        found = hall.choose(quantity, section=section)
        best = judge.best(quantity, section)
        if found is None:
            assert best is None, (seats, taken, quantity)
            continue
        assert best is not None
        rank = judge.rank(seat.no for seat in found)
        assert len(found) == len(rank[4]) == quantity
        assert [seat.no for seat in found] == rank[4]
        assert not taken & set(rank[4])
        if best[0] == 1:
            assert rank == best, (seats, taken, quantity)
        else:
            assert rank[:3] == best[:3], (seats, taken, quantity)
            assert rank[3] <= 1
            assert rank[1:3] != (0, 2) or best[0] != 2 or rank[3] == best[3], (seats, taken, quantity)


# Layouts


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("A-1", ("A", 1)),
        ("AA12", ("AA", 12)),
        ("Stalls-C-7", ("Stalls-C", 7)),
        ("Row A 3", ("Row A", 3)),
        ("A1-2", ("A1", 2)),
        ("A--1", ("A", 1)),
        ("A-007", ("A", 7)),
        ("A-0", ("A", 0)),
        ("12", (None, 12)),
        ("-5", (None, 5)),
        ("Box", (None, None)),
        ("A-1b", (None, None)),
        ("", (None, None)),
        ("-", (None, None)),
        ("A-\u0663", (None, None)),
        ("A-\u00b2", (None, None)),
        ("A-2147483647", ("A", 2**31 - 1)),
        ("A-2147483648", (None, None)),
        ("A-00000000000000000001", ("A", 1)),
        ("A-" + "9" * 100_000, (None, None)),
        ("A-" + "0" * 100_000, ("A", 0)),
    ],
)
def test_label_tells_row_and_number(label: str, expected: tuple[str | None, int | None]) -> None:
    assert parse_label(label) == expected


@given(st.text() | st.from_regex(r"\A[A-Z0-9 -]{0,20}\Z"))
@settings(deadline=None)
def test_any_label_is_read(label: str) -> None:
    row, number = parse_label(label)
    assert row is None or (row and label.startswith(row) and number is not None)
    assert number is None or (0 <= number <= 2**31 - 1 and label.endswith(str(number)))


def test_layout_knows_its_seats_and_sections() -> None:
    seats = seats_at([("Left", "A", 1), ("Right", "A", 2), (None, None, None)])
    layout = Layout(reversed(seats))
    assert layout.seats == tuple(seats)
    assert layout.by_no[2] is layout.by_label["seat 2"] is seats[1]
    assert layout.sections == {"Left", "Right"}


def test_hall_without_seats_has_nothing_to_choose() -> None:
    hall = Hall(Layout([]), [1, 2])
    assert hall.free == 0
    assert hall.choose(1) is None
    assert hall.choose(1, adjacent=False) is None


# Plain cases


def test_first_neighbours_of_the_first_row_are_chosen() -> None:
    assert chosen(pattern("....", "...."), 3) == ["A1", "A2", "A3"]


def test_later_row_is_better_than_two_groups() -> None:
    assert chosen(pattern(".x.x", "...."), 2) == ["B1", "B2"]


@pytest.mark.parametrize("parted", [". .", ".x."])
def test_missing_number_or_taken_seat_parts_neighbours(parted: str) -> None:
    assert chosen(pattern(parted, ".."), 2) == ["B1", "B2"]


def test_same_row_name_in_two_sections_is_two_rows() -> None:
    seats = seats_at([("Left", "A", 1), ("Left", "A", 2), ("Right", "A", 3), ("Right", "A", 4), ("Right", "A", 5)])
    assert chosen(Hall(Layout(seats), []), 3) == ["A3", "A4", "A5"]


def test_no_single_seat_is_left_between_taken_ones_where_another_place_does_not() -> None:
    assert chosen(pattern("x...x", "x..x"), 2) == ["B2", "B3"]
    assert chosen(pattern("x...x", "...x"), 2) == ["B2", "B3"]
    assert chosen(pattern("...x"), 2) == ["A2", "A3"]
    assert chosen(pattern("x..."), 2) == ["A2", "A3"]
    assert chosen(pattern("x...x"), 2) == ["A2", "A3"]


def test_seat_at_the_edge_of_a_row_is_no_single_one() -> None:
    assert chosen(pattern("...", ".."), 2) == ["A1", "A2"]
    assert chosen(pattern("... x"), 2) == ["A1", "A2"]


def test_seat_that_was_single_before_is_no_new_one() -> None:
    hall = pattern("x.x.....x")
    assert chosen(hall, 1) == ["A2"]
    assert chosen(hall, 2) == ["A4", "A5"]
    assert chosen(hall, 4) == ["A4", "A5", "A6", "A7"]


def test_fewest_groups_then_fewest_rows() -> None:
    assert chosen(pattern("..x.x", "..x..", ".x.x."), 4) == ["B1", "B2", "B4", "B5"]
    assert chosen(pattern("..x.x", "...xx", ".x.x."), 4) == ["A1", "A2", "B2", "B3"]
    assert chosen(pattern("...x.", "..x.x", ".x..x"), 6) == ["A1", "A2", "A3", "A5", "B1", "B2"]


def test_row_that_leaves_no_single_seat_is_better_for_two_groups() -> None:
    assert chosen(pattern("x...x..x", "..x.."), 4) == ["B1", "B2", "B4", "B5"]
    assert chosen(pattern("x...x..x", "x...x..x"), 4) == ["A2", "A3", "A4", "A6"]


def test_not_adjacent_takes_the_first_free_ones() -> None:
    assert chosen(pattern(".x.x", "...."), 3, adjacent=False) == ["A1", "A3", "B1"]


def test_too_many_are_refused() -> None:
    hall = pattern(".x.", "..")
    assert hall.choose(5) is None
    assert hall.choose(5, adjacent=False) is None
    found = hall.choose(4)
    assert found is not None
    assert len(found) == 4


@pytest.mark.parametrize("quantity", [0, -1])
def test_less_than_one_seat_is_a_mistake(quantity: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        pattern("..").choose(quantity)


def test_choosing_takes_nothing() -> None:
    hall = pattern("....")
    assert chosen(hall, 2) == chosen(hall, 2) == ["A1", "A2"]
    assert hall.free == 4


# Sections and general admission


def test_section_is_kept_to() -> None:
    seats = seats_at([("Left", "A", 1), ("Right", "A", 1), ("Left", "A", 2), ("Right", None, None), ("Right", "A", 2)])
    hall = Hall(Layout(seats), [])
    assert chosen(hall, 2, "Right") == ["A1", "A2"]
    assert chosen(hall, 3, "Right") == ["A1", "4", "A2"]
    assert chosen(hall, 2, "Right", adjacent=False) == ["A1", "4"]
    assert chosen(hall, 2, "Left", adjacent=False) == ["A1", "A2"]
    assert chosen(hall, 3, "Left") is None
    assert chosen(hall, 3, "Left", adjacent=False) is None
    assert chosen(hall, 1, "Nowhere") is None
    assert chosen(hall, 1, "Nowhere", adjacent=False) is None


def test_choice_in_a_section_follows_what_is_taken_there() -> None:
    hall = Hall(Layout(seats_at([(section, "A", number) for section in ("Left", "Right") for number in range(1, 7)])), [])
    assert [seat.no for seat in hall.choose(2, section="Right") or []] == [7, 8]
    hall.take([7, 8, 1])
    assert [seat.no for seat in hall.choose(2, section="Right") or []] == [9, 10]
    assert [seat.no for seat in hall.choose(2) or []] == [2, 3]


def test_general_admission_is_given_out_in_order() -> None:
    hall = Hall(Layout(seats_at([(None, None, None if no % 2 else no) for no in range(20)])), [1, 4, 5])
    for adjacent in (True, False):
        assert [seat.no for seat in hall.choose(4, adjacent=adjacent) or []] == [2, 3, 6, 7]
    hall.take([2, 6])
    assert [seat.no for seat in hall.choose(3) or []] == [3, 7, 8]


def test_neighbours_are_better_than_a_pool_and_a_pool_is_better_than_two_groups() -> None:
    places: list[Place] = [(None, None, None)] * 3
    seats = seats_at(places + rows_of(2, 2))
    hall = Hall(Layout(seats), [])
    assert [seat.no for seat in hall.choose(2) or []] == [4, 5]
    assert [seat.no for seat in hall.choose(3) or []] == [1, 2, 3]
    assert [seat.no for seat in hall.choose(4) or []] == [4, 5, 6, 7]
    assert [seat.no for seat in hall.choose(5) or []] == [1, 2, 3, 4, 5]
    assert [seat.no for seat in hall.choose(1) or []] == [1]


def test_second_seat_of_the_same_number_is_nobodys_neighbour() -> None:
    seats = seats_at([(None, "A", 1), (None, "A", 1), (None, "A", 2)])
    assert [seat.no for seat in Hall(Layout(seats), []).choose(2) or []] == [1, 3]


# What is taken


def test_taken_seats_are_not_free() -> None:
    hall = pattern("....")
    hall.take([2, 3, 2])
    assert [hall.is_free(no) for no in (0, 1, 2, 3, 4, 5)] == [False, True, False, False, True, False]
    assert hall.free == 2
    assert chosen(hall, 2) == ["A1", "A4"]


def test_unknown_taken_seats_are_passed_over() -> None:
    assert Hall(Layout(seats_at(rows_of(3))), [1, 1, 99]).free == 2


@pytest.mark.parametrize("nos", [[2], [1, 2], [1, 99]])
def test_taking_what_is_not_free_changes_nothing(nos: list[int]) -> None:
    hall = pattern(".x..")
    with pytest.raises(ValueError, match="not free"):
        hall.take(nos)
    assert hall.free == 3
    assert chosen(hall, 3) == ["A1", "A3", "A4"]


def test_halls_of_one_layout_do_not_share_what_is_taken() -> None:
    layout = Layout(seats_at(rows_of(4)))
    Hall(layout, []).take([1, 2])
    assert Hall(layout, []).free == 4


# Against every set of free seats


@pytest.mark.parametrize("lengths", [(9,), (4, 5), (3, 3, 3), (2, 3, 2, 2), (1, 2, 1, 3, 2)])
def test_every_pattern_of_a_small_hall(lengths: tuple[int, ...]) -> None:
    layout = Layout(seats_at(rows_of(*lengths)))
    everything = range(1, len(layout.seats) + 1)
    for count in range(len(layout.seats) + 1):
        for taken in combinations(everything, count):
            check_against_all_sets(Hall(layout, taken), set(taken), range(1, 5))


@st.composite
def halls(draw: st.DrawFn) -> tuple[list[Seat], set[int]]:
    """Up to 14 seats in any order, with gaps, pools, sections and seats of the same number, some of them taken."""
    places = st.tuples(
        st.sampled_from([None, None, "Left", "Right"]),
        st.sampled_from(["A", "A", "A", "B", "B", None]),
        st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, None]),
    )
    plain = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(lambda lengths: rows_of(*lengths)[:14])
    found = draw(st.lists(places, max_size=14) | plain | plain.flatmap(st.permutations))
    taken = draw(st.sets(st.integers(1, max(1, len(found))), max_size=9))
    return seats_at(found), taken


@given(halls(), st.sampled_from([None, None, "Left"]))
@settings(max_examples=60, deadline=None)
def test_any_small_hall(hall: tuple[list[Seat], set[int]], section: str | None) -> None:
    seats, taken = hall
    check_against_all_sets(Hall(Layout(seats), taken), taken, (1, 2, 3, 4, 5, 6), section)


@given(halls(), st.integers(1, 14), st.sampled_from([None, "Left"]))
@settings(max_examples=60, deadline=None)
def test_not_adjacent_is_the_first_free_ones_in_any_hall(
    hall: tuple[list[Seat], set[int]], quantity: int, section: str | None
) -> None:
    seats, taken = hall
    free = [seat for seat in seats if seat.no not in taken and section in {None, seat.section}]
    expected = free[:quantity] if len(free) >= quantity else None
    assert Hall(Layout(seats), taken).choose(quantity, section=section, adjacent=False) == expected


# Larger halls, where only one group can be searched through, and halls that change


@st.composite
def larger_halls(draw: st.DrawFn) -> tuple[list[Seat], set[int]]:
    """Up to five rows of up to forty seats, in order or not, with a few places missing, and a random share taken."""
    places = rows_of(*draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    random = draw(st.randoms(use_true_random=False))
    if draw(st.booleans()):
        places = [place for place in places if random.random() < 0.9]
    order = draw(st.sampled_from(["given", "reversed", "by name", "any"]))
    if order == "reversed":
        places.reverse()
    elif order == "by name":
        places.sort(key=lambda place: (place[1] or "", str(place[2])))
    elif order == "any":
        random.shuffle(places)
    share = draw(st.floats(0, 1))
    return seats_at(places), {no for no in range(1, len(places) + 1) if random.random() < share}


@given(larger_halls(), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_one_group_in_a_larger_hall(hall: tuple[list[Seat], set[int]], quantity: int) -> None:
    seats, taken = hall
    judge = Judge(seats, taken)
    before = judge.orphans(taken)
    ranks = []
    for first in (seat.no for seat in seats):
        nos: list[int] = [first]
        while len(nos) < quantity and (following := judge.beside(nos[-1], 1)) is not None:
            nos.append(following)
        if len(nos) == quantity and not taken & set(nos):
            ranks.append((len(judge.orphans(taken | set(nos)) - before), sorted(nos)))
    found = Hall(Layout(seats), taken).choose(quantity)
    if ranks:
        assert found is not None
        assert [seat.no for seat in found] == min(ranks)[1]
    elif found is not None:
        assert len(set(found)) == quantity
        assert judge.rank(seat.no for seat in found)[0] > 1


def free_runs(judge: Judge) -> list[int]:
    """The lengths of all stretches of free neighbours, longest first."""
    lengths = []
    for no in judge.seat:
        if no not in judge.taken and (judge.beside(no, -1) is None or judge.beside(no, -1) in judge.taken):
            length, at = 1, judge.beside(no, 1)
            while at is not None and at not in judge.taken:
                length, at = length + 1, judge.beside(at, 1)
            lengths.append(length)
    return sorted(lengths, reverse=True)


@given(larger_halls(), st.integers(2, 40))
@settings(max_examples=50, deadline=None)
def test_as_few_groups_as_can_be_in_a_larger_hall(hall: tuple[list[Seat], set[int]], quantity: int) -> None:
    seats, taken = hall
    judge = Judge(seats, taken)
    lengths = free_runs(judge)
    found = Hall(Layout(seats), taken).choose(quantity)
    if found is None:
        assert sum(lengths) < quantity
        return
    fewest = next(count for count in range(1, len(lengths) + 1) if sum(lengths[:count]) >= quantity)
    rank = judge.rank(seat.no for seat in found)
    assert rank[0] == fewest
    assert rank[3] <= 1


@given(halls() | larger_halls(), st.data())
@settings(max_examples=50, deadline=None)
def test_hall_that_changes_chooses_like_one_built_anew(hall: tuple[list[Seat], set[int]], data: st.DataObject) -> None:
    seats, taken = hall
    layout = Layout(seats)
    changing = Hall(layout, taken)
    taken = set(taken) & set(layout.by_no)
    for _ in range(data.draw(st.integers(1, 12))):
        quantity = data.draw(st.integers(1, 6))
        for section in ("Left", "Right", None):
            found = changing.choose(quantity, section=section)
            assert found == Hall(layout, taken).choose(quantity, section=section)
        free = sorted(set(layout.by_no) - taken)
        assert changing.free == len(free)
        if data.draw(st.booleans()) and found:
            nos = [seat.no for seat in found]
            changing.take(nos)
            taken.update(nos)
        elif free:
            nos = data.draw(st.lists(st.sampled_from(free), max_size=8))
            changing.take(nos)
            taken.update(nos)
    assert all(changing.is_free(no) == (no not in taken) for no in layout.by_no)


def test_large_hall_sells_out_without_a_single_seat_left_over() -> None:
    layout = Layout(seats_at(rows_of(*[50] * 20)))
    hall = Hall(layout, [])
    sold: set[int] = set()
    for index in range(2000):
        found = hall.choose(1 + index % 4) or hall.choose(1)
        if found is None:
            break
        nos = {seat.no for seat in found}
        assert not nos & sold
        hall.take(nos)
        sold |= nos
    assert sold == set(layout.by_no)
    assert hall.free == 0
