"""The model of one unit, and what each operation of a history means to it. Pure.

A unit (a room's slot, a host's slot, an event's seat: all alike) is free, held under a token, or booked by a booking. A
request becomes a step per unit: a take, a giving back, or an observation. What concerns several units is taken apart: a
reschedule is a giving back of one unit and a take of another, a list of slots one observation of each. So atomicity over
several units is not judged here, and every judgement stays sound: what is refused, no order of the requests explains.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from holdfast.verification.histories import History, Kind, Observation, Operation, Sight

#: Later than every instant.
NEVER = sys.maxsize

_OK = range(200, 300)
_NOT_FOUND, _CONFLICT, _GONE = 404, 409, 410
_TAKEN = {"SLOT_ALREADY_BOOKED", "SEATS_TAKEN"}
#: What the service itself gave out is unknown to it: something acknowledged was lost.
_LOST = {"BOOKING_NOT_FOUND", "HOLD_NOT_FOUND"}
_UNNAMED = "?"


class State(NamedTuple):
    """What a unit is: `free`, `held` (by a token), `booked` (by a booking), or `lapsed`: free, since a token's hold ended."""

    phase: str
    holder: str = ""

    @property
    def is_free(self) -> bool:
        """True where the next taker gets it."""
        return self.phase in {"free", "lapsed"}

    @property
    def is_nameless(self) -> bool:
        """True where it is booked by an attempt whose answer was lost and that nobody has seen since."""
        return self == NAMELESS

    def __str__(self) -> str:
        if self.is_free:
            return "free"
        who = "an attempt whose answer was lost" if self.holder.startswith(_UNNAMED) else self.holder
        return f"{self.phase} by {who}"


FREE = State("free")
#: Booked by an attempt whose answer was lost and that nobody has seen since: it can never be named, so never given back.
NAMELESS = State("booked", _UNNAMED)

#: The state after a step, or None where the step cannot be in this state.
Effect = Callable[[State], State | None]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one operation does to one unit, or sees of it, at some instant between `invoked` and `answered`.

    A step that is not `required` may never happen. An observation never `changes` anything. `makes` is the state that it
    leads to, where it is one that a holder is named in; `ends` the only state that it changes, where it may meet any.
    """

    operation: Operation
    invoked: int
    answered: int
    effect: Effect
    required: bool = True
    changes: bool = True
    makes: State | None = None
    ends: State | None = None

    @property
    def is_lapse(self) -> bool:
        """True for the end of a hold, which nobody asks for."""
        return self.operation.kind is Kind.HOLD and self.changes and self.makes is None


def steps_of(history: History) -> dict[str, list[Step]]:
    """Every unit's steps, in order of invocation. What concerns units that the history does not name is left out."""
    found: dict[str, list[Step]] = {unit: [] for unit in history.units}
    ends_of_holds = {
        operation.token: operation.lapses[1] or NEVER
        for operation in history.operations
        if operation.kind is Kind.HOLD and operation.token is not None and operation.lapses is not None
    }
    for operation in history.operations:
        for unit, step in _steps(operation, ends_of_holds):
            if unit in found:
                found[unit].append(step)
    for steps in found.values():
        steps.sort(key=lambda step: (step.invoked, step.answered))
    return found


def _steps(operation: Operation, ends_of_holds: dict[str, int]) -> Iterator[tuple[str, Step]]:
    if not operation.unknown:
        yield from ((one.unit, _observation(operation, _sees(one))) for one in operation.seen)
        if operation.status == _NOT_FOUND and operation.code in _LOST:
            for unit in filter(None, (operation.takes, *operation.gives_back)):
                yield unit, _observation(operation, lambda _state: False)
            return
    match operation.kind:
        case Kind.BOOK:
            yield from _book(operation)
        case Kind.HOLD:
            yield from _hold(operation)
        case Kind.CONFIRM:
            yield from _confirm(operation, ends_of_holds)
        case Kind.RELEASE | Kind.CANCEL:
            yield from _give_back(operation)
        case Kind.RESCHEDULE:
            yield from _reschedule(operation)
        case Kind.READ:
            pass


def _sees(one: Observation) -> Callable[[State], bool]:
    booked_by = State("booked", one.booking or "")
    return {
        Sight.FREE: lambda state: state.is_free,
        Sight.TAKEN: lambda state: not state.is_free,
        Sight.HELD: lambda state: state.phase == "held",
        Sight.BOOKED: lambda state: state.phase == "booked",
        Sight.BOOKED_BY: lambda state: state == booked_by,
        Sight.NOT_BOOKED_BY: lambda state: state != booked_by,
        Sight.UNBOOKED: lambda state: state.phase != "booked",
    }[one.sight]


def _observation(operation: Operation, is_so: Callable[[State], bool]) -> Step:
    answered = NEVER if operation.answered is None else operation.answered
    return Step(operation, operation.invoked, answered, lambda state: state if is_so(state) else None, changes=False)


def _change(operation: Operation, effect: Effect, *, makes: State | None = None) -> Step:
    """A change that must have happened before the answer; one of unknown outcome may come at any time, or never.

    Where what it made was seen later, it is known after all: it happened before that.
    """
    known = operation.found if operation.unknown else operation.answered
    return Step(operation, operation.invoked, NEVER if known is None else known, effect, required=known is not None, makes=makes)


def _ending(operation: Operation, target: State, after: State) -> Step:
    """A change of one state, which is nothing where the unit is in another: giving back may be repeated."""
    if operation.unknown:
        return _change(operation, lambda state: after if state == target else None)
    answered = NEVER if operation.answered is None else operation.answered
    return Step(operation, operation.invoked, answered, lambda state: after if state == target else state, ends=target)


def _took(operation: Operation) -> bool:
    return operation.unknown or operation.status in _OK


def _refused_as_taken(operation: Operation) -> bool:
    return operation.status == _CONFLICT and operation.code in _TAKEN


def _book(operation: Operation) -> Iterator[tuple[str, Step]]:
    if operation.takes is None:
        return
    booked = State("booked", operation.booking or _UNNAMED)
    if _took(operation):
        yield operation.takes, _change(operation, lambda state: booked if state.is_free else None, makes=booked)
    elif _refused_as_taken(operation):
        yield operation.takes, _observation(operation, lambda state: not state.is_free)


def _hold(operation: Operation) -> Iterator[tuple[str, Step]]:
    if operation.takes is None:
        return
    token = operation.token or f"{_UNNAMED}{operation.number}"
    held, lapsed = State("held", token), State("lapsed", token)
    if _took(operation):
        yield operation.takes, _change(operation, lambda state: held if state.is_free else None, makes=held)
        since, until = operation.lapses or (operation.invoked, None)
        if operation.unknown or until is None:
            # Some time from then on, or given back before.
            yield (
                operation.takes,
                Step(operation, since, NEVER, lambda state: lapsed if state == held else None, required=False),
            )
        else:
            yield operation.takes, Step(operation, since, until, lambda state: lapsed if state == held else state, ends=held)
    elif _refused_as_taken(operation):
        yield operation.takes, _observation(operation, lambda state: not state.is_free)


def _confirm(operation: Operation, ends_of_holds: dict[str, int]) -> Iterator[tuple[str, Step]]:
    if operation.takes is None or operation.token is None:
        return
    booked, held = State("booked", operation.booking or _UNNAMED), State("held", operation.token)
    accepts = {held}
    if operation.invoked <= ends_of_holds.get(operation.token, NEVER):
        # It asked in time and was accepted under the lock; until its commit, others may already see a hold that lapsed.
        accepts.add(State("lapsed", operation.token))
    if _took(operation):
        yield operation.takes, _change(operation, lambda state: booked if state in accepts else None, makes=booked)
    elif operation.status == _GONE or operation.code == "HOLD_USED":
        yield operation.takes, _observation(operation, lambda state: state != held)


def _give_back(operation: Operation) -> Iterator[tuple[str, Step]]:
    holder = operation.booking if operation.kind is Kind.CANCEL else operation.token
    target = State("booked" if operation.kind is Kind.CANCEL else "held", holder or "")
    for unit in operation.gives_back:
        if _took(operation):
            yield unit, _ending(operation, target, FREE)
        elif operation.status == _GONE or operation.code == "HOLD_USED":
            yield unit, _observation(operation, lambda state: state != target)


def _reschedule(operation: Operation) -> Iterator[tuple[str, Step]]:
    if operation.takes is None or operation.booking is None:
        return
    booked = State("booked", operation.booking)
    if _refused_as_taken(operation):
        yield operation.takes, _observation(operation, lambda state: not state.is_free and state != booked)
    elif operation.code == "BOOKING_CANCELLED":
        for unit in operation.gives_back:
            yield unit, _observation(operation, lambda state: state != booked)
    elif _took(operation):
        old = [unit for unit in operation.gives_back if unit != operation.takes]
        for unit in old:
            if len(operation.gives_back) > 1:
                yield unit, _ending(operation, booked, FREE)
            else:
                yield unit, _change(operation, lambda state: FREE if state == booked else None)
        if operation.gives_back == (operation.takes,):
            if not operation.unknown:
                yield operation.takes, _observation(operation, lambda state: state == booked)
            return
        stays = operation.takes in operation.gives_back
        yield (
            operation.takes,
            _change(operation, lambda state: booked if state.is_free or (stays and state == booked) else None, makes=booked),
        )
