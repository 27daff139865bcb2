"""The checker of recorded histories: what an order explains is accepted, what none does is found."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from holdfast.verification import (
    History,
    HistoryError,
    Kind,
    Observation,
    Operation,
    Sight,
    Verdict,
    check,
    from_lines,
    to_lines,
)

BOOK, HOLD, CONFIRM, RELEASE, CANCEL, RESCHEDULE, READ = Kind
SECOND = 1_000_000_000


def an(number: int, kind: Kind, invoked: int, answered: int | None, status: int | None = None, **facts: Any) -> Operation:
    return Operation(number, number, kind, invoked, answered, status, **facts)


def judged(*operations: Operation, units: Sequence[str] = ("u",)) -> Verdict:
    history = History({unit: f"unit {unit}" for unit in units}, operations)
    return check(from_lines(to_lines(history)))


def book(number: int, invoked: int, answered: int | None, booking: str | None = None, unit: str = "u") -> Operation:
    status = 201 if answered is not None else None
    return an(number, BOOK, invoked, answered, status, takes=unit, booking=booking)


def refused(number: int, invoked: int, answered: int, kind: Kind = BOOK, **facts: Any) -> Operation:
    return an(number, kind, invoked, answered, 409, code="SLOT_ALREADY_BOOKED", takes="u", **facts)


def cancel(number: int, invoked: int, answered: int | None, booking: str, *units: str) -> Operation:
    status = 200 if answered is not None else None
    return an(number, CANCEL, invoked, answered, status, gives_back=units or ("u",), booking=booking)


def hold(number: int, invoked: int, answered: int, token: str, lapses: tuple[int, int | None]) -> Operation:
    return an(number, HOLD, invoked, answered, 201, takes="u", token=token, lapses=lapses)


def confirm(number: int, invoked: int, answered: int | None, status: int | None, **facts: Any) -> Operation:
    return an(number, CONFIRM, invoked, answered, status, takes="u", token="t", **facts)


def saw(number: int, invoked: int, answered: int, sight: Sight, booking: str | None = None, unit: str = "u") -> Operation:
    return an(number, READ, invoked, answered, 200, seen=(Observation(unit, sight, booking),))


EXPLAINED = {
    "nothing": [],
    "one booking": [book(1, 0, 9, "b")],
    "a loser while the winner is under way": [book(1, 0, 9, "b"), refused(2, 1, 2)],
    "a loser that was answered before the winner asked for the answer": [refused(2, 0, 5), book(1, 3, 9, "b")],
    "cancelled and booked again, all at once": [book(1, 0, 3, "b"), cancel(2, 4, 9, "b"), book(3, 4, 9, "c")],
    "cancelled twice": [book(1, 0, 1, "b"), cancel(2, 2, 3, "b"), cancel(3, 4, 5, "b"), book(4, 6, 7, "c")],
    "an unanswered booking that was made much later": [
        book(1, 0, None),
        saw(2, 1, 2, Sight.FREE),
        saw(3, 8, 9, Sight.TAKEN),
    ],
    "an unanswered booking that never was": [book(1, 0, None), book(2, 5, 6, "c")],
    "an unanswered cancel": [book(1, 0, 1, "b"), cancel(2, 2, None, "b"), refused(3, 3, 4), book(4, 5, 6, "c")],
    "an unanswered booking that was found and cancelled": [
        book(1, 0, None, "b"),
        refused(2, 1, 2),
        cancel(3, 3, 4, "b"),
        book(4, 5, 6, "c"),
    ],
    "a 503 that was a booking after all": [replace(book(1, 0, 4, "b"), status=503), saw(2, 6, 7, Sight.BOOKED_BY, "b")],
    "held, then booked": [hold(1, 0, 1, "t", (50, 60)), saw(2, 2, 3, Sight.HELD), confirm(3, 4, 5, 201, booking="b")],
    "a hold that ended": [hold(1, 0, 1, "t", (50, 60)), refused(2, 49, 59), book(3, 50, 60, "c"), confirm(4, 61, 62, 410)],
    "a confirm at the hold's end, seen to be free meanwhile": [
        hold(1, 0, 1, "t", (50, 52)),
        confirm(2, 49, 60, 201, booking="b"),
        saw(3, 54, 55, Sight.FREE),
        saw(4, 61, 62, Sight.BOOKED_BY, "b"),
    ],
    "a hold that was released": [
        hold(1, 0, 1, "t", (50, 60)),
        an(2, RELEASE, 2, 3, 204, gives_back=("u",), token="t"),
        confirm(3, 4, 5, 410),
        book(4, 4, 6, "c"),
    ],
    "moved away": [
        book(1, 0, 1, "b"),
        an(2, RESCHEDULE, 2, 9, 200, takes="v", gives_back=("u",), booking="b"),
        book(3, 3, 4, "c"),
        saw(4, 10, 11, Sight.BOOKED_BY, "b", "v"),
    ],
    "moved, perhaps, then cancelled wherever it was": [
        book(1, 0, 1, "b"),
        an(2, RESCHEDULE, 2, None, None, takes="v", gives_back=("u",), booking="b"),
        cancel(3, 3, 4, "b", "u", "v"),
        book(4, 5, 6, "c", "v"),
        book(5, 5, 6, "d"),
    ],
    "moved to where it was": [book(1, 0, 1, "b"), an(2, RESCHEDULE, 2, 3, 200, takes="u", gives_back=("u",), booking="b")],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_an_order_explains_is_accepted(name: str) -> None:
    verdict = judged(*EXPLAINED[name], units=("u", "v"))
    assert verdict.linearizable, verdict.describe()


#: Each with the number of the operation that fits nowhere.
FORGED: dict[str, tuple[int, list[Operation]]] = {
    "two overlapping bookings of one unit": (2, [book(1, 0, 8, "b"), book(2, 1, 9, "c")]),
    "two bookings one after the other": (2, [book(1, 0, 1, "b"), book(2, 2, 3, "c")]),
    "a refusal with nobody holding": (1, [refused(1, 0, 1), book(2, 2, 3, "b")]),
    "a refusal after the cancel was answered": (3, [book(1, 0, 1, "b"), cancel(2, 2, 3, "b"), refused(3, 4, 5)]),
    "a cancelled booking that is still seen": (3, [book(1, 0, 1, "b"), cancel(2, 2, 3, "b"), saw(3, 4, 5, Sight.BOOKED)]),
    "a booking that is lost": (2, [book(1, 0, 1, "b"), saw(2, 2, 3, Sight.FREE)]),
    "a booking that is not found": (
        2,
        [book(1, 0, 1, "b"), an(2, CANCEL, 2, 3, 404, code="BOOKING_NOT_FOUND", gives_back=("u",), booking="b")],
    ),
    "a booking that turned into another": (2, [book(1, 0, 1, "b"), saw(2, 2, 3, Sight.BOOKED_BY, "c")]),
    "a booking that is told of as cancelled": (2, [book(1, 0, 1, "b"), saw(2, 2, 3, Sight.NOT_BOOKED_BY, "b")]),
    "a list that sees the future": (1, [saw(1, 0, 1, Sight.TAKEN), book(2, 2, 3, "b")]),
    "a unit that flickers": (3, [book(1, 0, 9, "b"), saw(2, 1, 2, Sight.BOOKED), saw(3, 3, 4, Sight.FREE)]),
    "an unanswered booking that flickers": (3, [book(1, 0, None), saw(2, 1, 2, Sight.BOOKED), saw(3, 3, 4, Sight.FREE)]),
    "an unanswered booking that was there before it was asked for": (1, [saw(1, 0, 1, Sight.TAKEN), book(2, 2, None)]),
    "an unanswered booking that was there before it was asked for, with a quiet instant ahead": (
        2,
        [saw(1, 0, 0, Sight.FREE), refused(2, 1, 1), book(3, 2, None)],
    ),
    "an unanswered booking that is made twice": (
        4,
        [book(1, 0, None, "b"), saw(2, 1, 2, Sight.TAKEN), cancel(3, 3, 4, "b"), saw(4, 5, 6, Sight.TAKEN)],
    ),
    "two holds at once": (2, [hold(1, 0, 5, "t", (50, 60)), hold(2, 1, 6, "s", (51, 61))]),
    "a hold taken over before its end": (2, [hold(1, 0, 1, "t", (50, 60)), book(2, 40, 49, "b")]),
    "a hold that ended too early": (2, [hold(1, 0, 1, "t", (50, 60)), confirm(2, 40, 49, 410)]),
    "a hold that still stands after its end": (2, [hold(1, 0, 1, "t", (50, 60)), refused(2, 61, 62)]),
    "a hold confirmed after its end": (2, [hold(1, 0, 1, "t", (50, 60)), confirm(2, 61, 62, 201, booking="b")]),
    "a hold confirmed though another was let in": (
        4,
        [
            hold(1, 0, 1, "t", (50, 60)),
            book(2, 59, 61, "c"),
            saw(3, 62, 63, Sight.BOOKED_BY, "c"),
            confirm(4, 58, 70, 201, booking="b"),
        ],
    ),
    "a hold confirmed twice": (
        3,
        [hold(1, 0, 1, "t", (50, 60)), confirm(2, 2, 3, 201, booking="b"), confirm(3, 4, 5, 201, booking="c")],
    ),
    "a move that left its old place taken": (
        3,
        [book(1, 0, 1, "b"), an(2, RESCHEDULE, 2, 3, 200, takes="v", gives_back=("u",), booking="b"), refused(3, 4, 5)],
    ),
    "a move to where somebody is": (
        3,
        [
            book(1, 0, 1, "b"),
            book(2, 0, 1, "c", "v"),
            an(3, RESCHEDULE, 2, 3, 200, takes="v", gives_back=("u",), booking="b"),
        ],
    ),
    "a move of a cancelled booking": (
        3,
        [book(1, 0, 1, "b"), cancel(2, 2, 3, "b"), an(3, RESCHEDULE, 4, 5, 200, takes="v", gives_back=("u",), booking="b")],
    ),
    "a refused move that offers what is taken": (
        3,
        [
            book(1, 0, 1, "b"),
            book(2, 0, 1, "c", "v"),
            an(3, BOOK, 2, 3, 409, code="SLOT_ALREADY_BOOKED", takes="u", seen=(Observation("v", Sight.FREE),)),
        ],
    ),
    "a booking in the way of its own move": (
        2,
        [book(1, 0, 1, "b"), refused(2, 2, 3, RESCHEDULE, gives_back=("u",), booking="b")],
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_control_what_no_order_explains_is_found(name: str) -> None:
    culprit, operations = FORGED[name]
    verdict = judged(*operations, units=("u", "v"))
    assert {anomaly.culprit.number for anomaly in verdict.anomalies} == {culprit}, verdict.describe()
    assert f"> operation {culprit}, " in verdict.describe()
    assert not verdict.linearizable


def test_the_report_shows_what_stands_in_the_way_however_long_ago() -> None:
    others = [saw(number, number, number, Sight.BOOKED) for number in range(100, 600)]
    verdict = judged(book(1, 0, 1, "b"), *others, book(2, 1000, 1001, "c"))
    (anomaly,) = verdict.anomalies
    assert [operation.number for operation in anomaly.stretch] == [1, 2]
    assert "the unit was booked by b" in anomaly.describe()


def test_thousands_of_operations_that_are_never_quiet_are_checked_at_once() -> None:
    """Each overlaps the forty around it: without the memo and the rule for observations, more orders than atoms."""
    operations = []
    for turn in range(1000):
        at = 100 * turn
        operations += [
            book(10 * turn + 1, at, at + 150, f"b{turn}"),
            *(refused(10 * turn + n, at + 10 * n, at + 10 * n + 400) for n in range(2, 9)),
            cancel(10 * turn + 9, at + 60, at + 210, f"b{turn}"),
        ]
    verdict = judged(*operations)
    assert verdict.linearizable
    assert verdict.orders_tried < 200_000
    assert not judged(
        *operations, book(20_001, 50_000, 50_001, "x"), saw(20_002, 50_002, 50_003, Sight.NOT_BOOKED_BY, "x")
    ).linearizable


def test_too_many_orders_are_undecided_and_no_pass() -> None:
    history = History({"u": "unit u"}, tuple(book(number, 0, 100, f"b{number}") for number in range(9)))
    crowd = tuple(cancel(10 + number, 1, 100, f"b{number}") for number in range(9))
    verdict = check(replace(history, operations=history.operations + crowd), patience=50)
    assert not verdict.linearizable
    assert verdict.undecided == ("unit u",)


def test_a_file_that_is_no_history_is_refused_with_its_line() -> None:
    good = list(to_lines(History({"u": "unit u"}, (book(1, 0, 1, "b"),))))
    for lines, what in (
        ([], "empty"),
        (["{}"], "Line 1 "),
        ([good[0], "nonsense"], "Line 2 "),
        ([*good, "", good[1].replace('"book"', '"steal"')], "Line 4 "),
        ([good[0], json.dumps({"number": 1, "client": 1, "kind": "book", "invoked": 5, "answered": 4})], "Line 2 "),
    ):
        with pytest.raises(HistoryError, match=what):
            from_lines(lines)


# --- against trying all orders ----------------------------------------------------------------------------------------

Held = tuple[str, str]


def after(operation: Operation, state: Held, ends: dict[str | None, float]) -> Held | None:
    """The unit after an answered operation, None where it would have been answered otherwise. Written without the checker's."""
    is_free = state[0] in {"free", "over"}
    match operation.kind, operation.status:
        case ((Kind.BOOK | Kind.HOLD), 409):
            return None if is_free else state
        case Kind.BOOK, _:
            return ("booked", operation.booking or "?") if is_free else None
        case Kind.HOLD, _:
            return ("held", operation.token or "?") if is_free else None
        case Kind.CONFIRM, 410:
            return None if state == ("held", operation.token) else state
        case Kind.CONFIRM, _:
            in_time = state == ("over", operation.token) and operation.invoked <= ends[operation.token]
            return ("booked", operation.booking or "?") if in_time or state == ("held", operation.token) else None
        case Kind.CANCEL, _:
            return ("free", "") if state == ("booked", operation.booking) else state
        case Kind.RELEASE, _:
            return ("free", "") if state == ("held", operation.token) else state
        case Kind.READ, _:
            (one,) = operation.seen
            so = {Sight.FREE: is_free, Sight.TAKEN: not is_free, Sight.BOOKED_BY: state == ("booked", one.booking)}
            return state if so[one.sight] else None
    raise AssertionError(operation)


def some_order_explains(operations: list[Operation], lapses: list[Operation], state: Held, ends: dict[str | None, float]) -> bool:
    """Whether the operations, and the ends of holds among them, can be put into an order: all are tried."""
    left = [(one.invoked, one.found if one.answered is None else one.answered, one, False) for one in operations]
    left += [(one.lapses[0], one.lapses[1], one, True) for one in lapses if one.lapses]
    must = [end for begin, end, one, _ in left if end is not None]
    if not must:
        return True
    for begin, _end, one, is_lapse in left:
        if any(end < begin for end in must):
            continue
        if is_lapse:
            new: Held | None = ("over", one.token or "") if state == ("held", one.token) else state
        else:
            new = after(one, state, ends)
        if new is not None and some_order_explains(
            [other for other in operations if is_lapse or other is not one],
            [other for other in lapses if not is_lapse or other is not one],
            new,
            ends,
        ):
            return True
    return False


INSTANTS = st.integers(0, 12)


@st.composite
def small_operations(draw: st.DrawFn, number: int) -> Operation:
    kind = draw(st.sampled_from([BOOK, BOOK, HOLD, CONFIRM, CANCEL, RELEASE, READ, READ]))
    begin = draw(INSTANTS)
    end = begin + draw(st.integers(0, 8))
    facts: dict[str, Any] = {"kind": kind, "invoked": begin, "answered": end, "status": 200}
    booking, token = draw(st.sampled_from(["b", "c"])), draw(st.sampled_from(["t", "s"]))
    match kind:
        case Kind.READ:
            sight = draw(st.sampled_from([Sight.FREE, Sight.TAKEN, Sight.BOOKED_BY]))
            facts["seen"] = (Observation("u", sight, booking if sight is Sight.BOOKED_BY else None),)
        case Kind.BOOK:
            facts |= {"takes": "u", "booking": booking}
        case Kind.HOLD:
            since = begin + draw(st.integers(0, 6))
            facts |= {"takes": "u", "token": f"{token}{number}" if draw(st.booleans()) else token}
            facts["lapses"] = (since, since + draw(st.integers(0, 4)))
        case Kind.CONFIRM:
            facts |= {"takes": "u", "booking": booking, "token": token}
        case Kind.CANCEL:
            facts |= {"gives_back": ("u",), "booking": booking}
        case _:
            facts |= {"gives_back": ("u",), "token": token}
    if kind in {BOOK, HOLD} and draw(st.booleans()):
        facts |= {"status": 409, "code": "SLOT_ALREADY_BOOKED", "booking": None, "token": None, "lapses": None}
    elif kind is CONFIRM and draw(st.booleans()):
        facts |= {"status": 410, "code": "HOLD_EXPIRED", "booking": None}
    elif kind not in {READ, HOLD} and draw(st.integers(0, 3)) == 0:
        facts |= {"answered": None, "status": None}
        if kind is BOOK and draw(st.booleans()):
            facts["booking"] = None
        elif kind in {BOOK, CONFIRM} and draw(st.booleans()):
            facts["found"] = end + draw(st.integers(0, 4))
    return Operation(number, number, **facts)


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    return [draw(small_operations(number)) for number in range(draw(st.integers(1, 6)))]


@settings(max_examples=400, deadline=None)
@given(small_histories())
def test_small_histories_are_judged_as_by_trying_all_orders(operations: list[Operation]) -> None:
    lapses = [one for one in operations if one.kind is HOLD and one.status == 200]
    ends = {"t": float("inf"), "s": float("inf")} | {one.token: one.lapses[1] for one in lapses if one.lapses}
    expected = some_order_explains(operations, lapses, ("free", ""), ends)
    event(f"explained: {expected}")
    assert judged(*operations).linearizable is expected


# --- what an honest service tells -------------------------------------------------------------------------------------


@st.composite
def honest_histories(draw: st.DrawFn) -> list[Operation]:
    """A unit that does one thing at a time, asked by clients whose requests overlap; some answers are lost."""
    state, operations, known, tokens = ("free", ""), [], ["none"], ["none"]
    for number in range(draw(st.integers(1, 40))):
        point = 1000 * (number + 1)
        begin, end = point - draw(st.integers(0, 5000)), point + draw(st.integers(0, 5000))
        kind = draw(st.sampled_from([BOOK, BOOK, HOLD, CONFIRM, CANCEL, RELEASE, READ]))
        facts: dict[str, Any] = {"kind": kind, "invoked": max(0, begin), "answered": end, "status": 200}
        new = state
        match kind:
            case Kind.BOOK | Kind.HOLD:
                facts["takes"] = "u"
                if state[0] != "free":
                    facts |= {"status": 409, "code": "SLOT_ALREADY_BOOKED"}
                elif kind is BOOK:
                    new, facts["booking"] = ("booked", f"b{number}"), f"b{number}"
                    known.append(f"b{number}")
                else:
                    new, facts["token"], facts["lapses"] = ("held", f"t{number}"), f"t{number}", (10**9, 10**9)
                    tokens.append(f"t{number}")
            case Kind.CONFIRM:
                facts |= {"takes": "u", "token": draw(st.sampled_from(tokens))}
                if state == ("held", facts["token"]):
                    new, facts["booking"] = ("booked", f"b{number}"), f"b{number}"
                    known.append(f"b{number}")
                else:
                    facts |= {"status": 410, "code": "HOLD_EXPIRED"}
            case Kind.CANCEL:
                facts |= {"gives_back": ("u",), "booking": draw(st.sampled_from(known))}
                new = ("free", "") if state == ("booked", facts["booking"]) else state
            case Kind.RELEASE:
                facts |= {"gives_back": ("u",), "token": draw(st.sampled_from(tokens))}
                new = ("free", "") if state == ("held", facts["token"]) else state
            case _:
                facts["seen"] = (Observation("u", Sight(state[0])),)
        state = new
        operation = Operation(number, number, **facts)
        if kind not in {HOLD, READ} and draw(st.integers(0, 9)) == 0:
            operation = replace(operation, answered=None, status=None, code=None)
        operations.append(operation)
    return operations


@settings(max_examples=100, deadline=None)
@given(honest_histories())
def test_what_an_honest_service_tells_is_accepted(operations: list[Operation]) -> None:
    verdict = judged(*operations)
    assert verdict.linearizable, verdict.describe()


@settings(max_examples=100, deadline=None)
@given(honest_histories())
def test_control_an_honest_history_that_ends_with_a_double_booking_is_found(operations: list[Operation]) -> None:
    at = max((one.answered or 0) for one in operations) + 1
    assert not judged(*operations, book(901, at, at + 9, "x"), book(902, at + 1, at + 8, "y")).linearizable
