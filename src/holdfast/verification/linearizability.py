"""The checker: looks for an order of the operations, each at one instant between request and answer, that explains all answers.

Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990); the search is Wing and Gong's,
"Testing and verifying concurrent objects" (1993), with Lowe's memo of what was tried ("Testing for linearizability", 2017).
It is done per unit, since a system is linearizable if each of its objects is, and in stretches between quiet instants, at
which nothing is under way: a stretch begins with every state that the one before it may have ended in. Pure.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from holdfast.verification.histories import History, Kind, Operation
from holdfast.verification.units import FREE, NAMELESS, NEVER, State, Step, steps_of

#: Tried orders of one stretch after which it is left undecided; a run of thousands of operations needs about as many.
_PATIENCE = 1_000_000
_SHOWN = 20
_NANOSECONDS = 1e9

#: Told after each unit: how many are done, how many there are.
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A unit whose answers no order explains, up to and with `culprit`; `states` is what it may have been just before that."""

    unit: str
    name: str
    culprit: Operation
    states: tuple[State, ...]
    stretch: tuple[Operation, ...]

    def describe(self) -> str:
        """Some lines for people: the operations around it, in order of their requests, the one that fits nowhere marked."""
        was = " or ".join(str(state) for state in self.states)
        lines = [
            f"{self.name} ({self.unit})",
            f"  No order explains operation {self.culprit.number}. What went before explained, the unit was {was}.",
        ]
        lines += [f"  {'>' if one is self.culprit else ' '} {_in_words(one, self.unit)}" for one in self.stretch]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found. `undecided` names units with too many possible orders: neither right nor wrong."""

    units: int
    operations: int
    unknown: int
    orders_tried: int
    anomalies: tuple[Anomaly, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def linearizable(self) -> bool:
        """True where every unit's answers are explained."""
        return not self.anomalies and not self.undecided

    def describe(self) -> str:
        """A sentence with the figures, then each anomaly."""
        found = "1 anomaly" if len(self.anomalies) == 1 else f"{len(self.anomalies)} anomalies"
        figures = (
            f"{found} in {self.operations:,} operations on {self.units} units "
            f"({self.unknown} of unknown outcome, {self.orders_tried:,} orders tried)"
        )
        left = [f"Undecided, for there are too many possible orders: {name}" for name in self.undecided]
        return "\n\n".join([figures, *(anomaly.describe() for anomaly in self.anomalies), *left])


def check(history: History, *, told: Told = lambda _done, _all: None, patience: int = _PATIENCE) -> Verdict:
    """Check each unit; a unit's first anomaly is reported. All units were free when the history began."""
    anomalies, undecided, tried = [], [], 0
    steps = steps_of(history)
    for done, (unit, name) in enumerate(history.units.items(), start=1):
        outcome = _check_unit(steps[unit], patience)
        tried += outcome.tried
        if outcome.undecided:
            undecided.append(name)
        elif outcome.culprit is not None:
            stretch = _around(outcome.culprit, outcome.states, steps[unit])
            anomalies.append(Anomaly(unit, name, outcome.culprit.operation, outcome.states, stretch))
        told(done, len(history.units))
    return Verdict(
        units=len(history.units),
        operations=len(history.operations),
        unknown=sum(operation.unknown for operation in history.operations),
        orders_tried=tried,
        anomalies=tuple(anomalies),
        undecided=tuple(undecided),
    )


class _Point(NamedTuple):
    """How far a tried order is: the steps before `base` are in it, those in the bits of `mask` after it too (relative to it).

    `used` are the steps of unknown outcome that are in it.
    """

    base: int
    mask: int
    state: State
    used: frozenset[int]


@dataclass(slots=True)
class _Outcome:
    ends: set[tuple[State, frozenset[int]]] = field(default_factory=set)
    tried: int = 0
    culprit: Step | None = None
    states: tuple[State, ...] = ()
    undecided: bool = False


def _check_unit(steps: Sequence[Step], patience: int) -> _Outcome:
    outcome = _explain(steps, patience, far_sighted=True)
    if outcome.culprit is None:
        return outcome
    # Once more as it was lived: it may be a later operation that does not fit.
    again = _explain(steps, patience, far_sighted=False)
    again.tried += outcome.tried
    return outcome if again.undecided else again


def _explain(steps: Sequence[Step], patience: int, *, far_sighted: bool) -> _Outcome:
    """With `far_sighted`, a booking that nobody can name is not tried where something later denies it."""
    optional = [step for step in steps if not step.required]
    starts = {(FREE, frozenset[int]())}
    tried = 0
    stretches = list(_stretches([step for step in steps if step.required]))
    denials = [any(step.effect(NAMELESS) is None for step in stretch) for stretch in stretches]
    last_denial = max((number for number, denies in enumerate(denials) if denies), default=-1)
    for number, stretch in enumerate(stretches):
        search = _Search(stretch, optional, denied=far_sighted and number < last_denial, far_sighted=far_sighted)
        outcome = search.run(starts, patience)
        tried += outcome.tried
        outcome.tried = tried
        if outcome.undecided or outcome.culprit is not None:
            return outcome
        starts = outcome.ends
    return _Outcome(tried=tried)


def _stretches(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Cut where everything asked so far is answered. Steps of unknown outcome, never answered, may come in any stretch."""
    begun, latest = 0, 0
    for number, step in enumerate(steps):
        if number > begun and step.invoked > latest:
            yield steps[begun:number]
            begun = number
        latest = max(latest, step.answered)
    if begun < len(steps):
        yield steps[begun:]


class _Search:
    """All orders of one stretch's steps, from every state it may begin in; each point is looked at once."""

    def __init__(self, steps: Sequence[Step], optional: Sequence[Step], *, denied: bool, far_sighted: bool) -> None:
        self._steps = steps
        self._optional = optional
        self._denied = denied
        self._deniers = [number for number, step in enumerate(steps) if far_sighted and step.effect(NAMELESS) is None]
        self._makers: dict[State, list[int]] = {}
        for number, step in enumerate(steps):
            if step.makes is not None:
                self._makers.setdefault(step.makes, []).append(number)
        self._may_come = {step.makes for step in optional}

    def run(self, starts: set[tuple[State, frozenset[int]]], patience: int) -> _Outcome:
        """Every state it may end in; where there is none, the step that no order gets past, and the states before it."""
        outcome = _Outcome()
        furthest, stuck = -1, set[_Point]()
        for point in self._points(starts):
            outcome.tried += 1
            if outcome.tried > patience:
                outcome.undecided = True
                return outcome
            candidates, limit = self._candidates(point)
            if not candidates:
                outcome.ends.add((point.state, point.used))
            elif limit > furthest:
                furthest, stuck = limit, {point}
            elif limit == furthest:
                stuck.add(point)
        if not outcome.ends:
            # What must come before the next answer, and cannot, in any order: whoever was answered then.
            left = (self._steps[number] for number in self._candidates(min(stuck))[0])
            outcome.culprit = next(step for step in left if step.answered == furthest)
            outcome.states = tuple(sorted({point.state for point in stuck}))
        return outcome

    def _points(self, starts: set[tuple[State, frozenset[int]]]) -> Iterator[_Point]:
        """Every point that can be reached, but none from which only the same can follow as from another one."""
        # Those with fewer steps of unknown outcome come first: they can do all that the others can.
        waiting: list[tuple[int, int, _Point]] = []
        seen: dict[tuple[int, int, State], list[frozenset[int]]] = {}
        order = count()
        following = [_Point(0, 0, state, used) for state, used in starts]
        while True:
            for point in map(self._settled, following):
                heappush(waiting, (len(point.used), next(order), point))
            if not waiting:
                return
            _, _, point = heappop(waiting)
            following = []
            alike = seen.setdefault(point[:3], [])
            if any(used <= point.used for used in alike):
                continue
            alike.append(point.used)
            yield point
            following = list(self._following(point))

    def _candidates(self, point: _Point) -> tuple[list[int], int]:
        """The steps that may come next: those asked before any that is left was answered, and when that was."""
        found, limit = [], NEVER
        steps, mask = self._steps, point.mask
        for number in range(point.base, len(steps)):
            step = steps[number]
            if step.invoked > limit:
                break
            if not mask >> (number - point.base) & 1:
                found.append(number)
                limit = min(limit, step.answered)
        return found, limit

    def _following(self, point: _Point) -> Iterator[_Point]:
        candidates, limit = self._candidates(point)
        if not candidates:
            # The end of the stretch. What else may come belongs to the next one, which knows whether it was asked for yet.
            return
        for number in candidates:
            after = self._steps[number].effect(point.state) if self._steps[number].changes else None
            if after is not None:
                yield self._with(point, number, after)
        # Bookings that nobody can name are all alike, and there for good: one stands for all, where nothing speaks against it.
        nameless = self._is_denied(point)
        for number, step in enumerate(self._optional):
            if step.invoked > limit:
                break
            after = None if number in point.used else step.effect(point.state)
            if after is not None and not (nameless and after.is_nameless):
                nameless = nameless or after.is_nameless
                yield point._replace(state=after, used=point.used | {number})

    def _is_denied(self, point: _Point) -> bool:
        """True where something yet to come cannot be if the unit is booked from now on, for good, by nobody knows whom."""
        return self._denied or any(not self._is_in(point, number) for number in self._deniers)

    @staticmethod
    def _is_in(point: _Point, number: int) -> bool:
        return number < point.base or bool(point.mask >> (number - point.base) & 1)

    def _settled(self, point: _Point) -> _Point:
        """With all steps that fit now and change nothing: that they come now keeps no other order from being found."""
        while True:
            before = point
            for number in self._candidates(before)[0]:
                if self._changes_nothing(point, self._steps[number]):
                    point = self._with(point, number, point.state)
            if point is before:
                return point

    def _changes_nothing(self, point: _Point, step: Step) -> bool:
        if not step.changes:
            return step.effect(point.state) is not None
        # Giving back what is not there changes nothing, unless it can still come to be there.
        return (
            step.ends is not None
            and point.state != step.ends
            and step.ends not in self._may_come
            and all(number < point.base or point.mask >> (number - point.base) & 1 for number in self._makers.get(step.ends, ()))
        )

    @staticmethod
    def _with(point: _Point, number: int, state: State) -> _Point:
        base, mask = point.base, point.mask | 1 << (number - point.base)
        while mask & 1:
            base, mask = base + 1, mask >> 1
        return _Point(base, mask, state, point.used)


def _around(culprit: Step, states: Sequence[State], steps: Sequence[Step]) -> tuple[Operation, ...]:
    """The operation that fits nowhere, the changes that were under way with it, and those that made the unit what it was."""
    changes = [
        step
        for step in steps
        # Of the ends of holds only those that could matter.
        if step.changes and step.operation is not culprit.operation and not (step.is_lapse and step.ends not in states)
    ]
    made = [step for step in changes if step.makes in states]
    before = [step for step in changes if step.answered < culprit.invoked][-1:]
    meanwhile = [step for step in changes if step.answered >= culprit.invoked and step.invoked <= culprit.answered]
    chosen = {step.operation.number: step.operation for step in (*meanwhile[-_SHOWN:], *before, *made, culprit)}
    return tuple(sorted(chosen.values(), key=lambda operation: (operation.invoked, operation.number)))


def _in_words(operation: Operation, unit: str) -> str:
    begun = f"{operation.invoked / _NANOSECONDS:.6f}"
    ended = "?" if operation.answered is None else f"{operation.answered / _NANOSECONDS:.6f}"
    what = str(operation.kind)
    if operation.kind is Kind.RESCHEDULE:
        what += " to here" if operation.takes == unit else " away"
    told = [operation.answer]
    told += [f"booking {operation.booking}"] if operation.booking else []
    told += [f"hold {operation.token}"] if operation.token else []
    told += [" ".join(filter(None, (one.sight.value, one.booking))) for one in operation.seen if one.unit == unit]
    if operation.kind is Kind.HOLD and operation.lapses is not None:
        told.append(f"until {operation.lapses[0] / _NANOSECONDS:.3f}")
    return f"operation {operation.number}, client {operation.client}, {begun} to {ended} s: {what} -> {', '.join(told)}"
