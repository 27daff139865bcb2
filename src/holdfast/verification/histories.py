"""A recorded history: what concurrent clients asked, when, and what they were told. Pure; the search is `linearizability`.

A history is a file of JSON lines: a header that names the units, then one operation a line, so that it can be kept, read by
people and other tools, and checked again.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_FORMAT = "holdfast-history-1"
_SERVER_ERROR = 500
_ACCEPTED = 202


class HistoryError(Exception):
    """A file that is no history; the text says which line and why."""


class Kind(StrEnum):
    """What a client asked for."""

    BOOK = "book"
    HOLD = "hold"
    CONFIRM = "confirm"
    RELEASE = "release"
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    #: Any read: a list of slots, one booking, the admin's list. What it saw is in `seen`.
    READ = "read"


class Sight(StrEnum):
    """What a read tells of a unit."""

    FREE = "free"
    #: Not free; the read does not tell how.
    TAKEN = "taken"
    HELD = "held"
    BOOKED = "booked"
    #: Booked, by the booking that the observation names.
    BOOKED_BY = "booked by"
    #: Not booked by the booking that the observation names; whether it is free is not told.
    NOT_BOOKED_BY = "not booked by"
    #: Not booked by anything; whether it is free is not told.
    UNBOOKED = "not booked"


@dataclass(frozen=True, slots=True)
class Observation:
    """One unit as a read, or a refusal's list of alternatives, told of it."""

    unit: str
    sight: Sight
    booking: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One request. Instants are nanoseconds of the recorder's own clock since the recording began.

    `answered` is None where no answer came. `takes` is the unit that was asked for, or whose hold is confirmed; `gives_back`
    the units that the booking or hold may have been at (several only after a move of unknown outcome). `booking` and `token`
    are those that were made or named. Of an attempt whose answer was lost, `found` is when its booking was seen in a list, by its
    title. `lapses`: a hold's end lies between these two instants; no second one where that is not known.
    """

    number: int
    client: int
    kind: Kind
    invoked: int
    answered: int | None
    status: int | None = None
    code: str | None = None
    takes: str | None = None
    gives_back: tuple[str, ...] = ()
    booking: str | None = None
    token: str | None = None
    found: int | None = None
    lapses: tuple[int, int | None] | None = None
    seen: tuple[Observation, ...] = ()

    @property
    def unknown(self) -> bool:
        """True where it may have taken effect, at any time from then on, or never: no answer, a 5xx, or an answer to come."""
        return self.answered is None or self.status is None or self.status >= _SERVER_ERROR or self.status == _ACCEPTED

    @property
    def answer(self) -> str:
        """`201`, `409 SLOT_ALREADY_BOOKED`, `no answer`."""
        if self.answered is None or self.status is None:
            return "no answer"
        return f"{self.status} {self.code}" if self.code else str(self.status)


@dataclass(frozen=True, slots=True)
class History:
    """What a run recorded. `units` gives each unit that is checked its name for people; all of them were free when it began."""

    units: Mapping[str, str]
    operations: tuple[Operation, ...]
    about: Mapping[str, str] = field(default_factory=dict)

    def answers(self) -> Counter[str]:
        """How often each kind of request got each answer: `book 201`."""
        return Counter(f"{operation.kind} {operation.answer}" for operation in self.operations)


def to_lines(history: History) -> Iterable[str]:
    """The file's lines, without their ends."""
    yield _dumped({"format": _FORMAT, "about": dict(history.about), "units": dict(history.units)})
    for operation in history.operations:
        yield _dumped(_as_json(operation))


def from_lines(lines: Iterable[str]) -> History:
    """A history out of a file's lines. Raises HistoryError."""
    header: dict[str, Any] | None = None
    operations = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if header is None:
                header = _header(record)
            else:
                operations.append(_operation(record))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HistoryError(f"Line {number} is not of a recorded history ({type(error).__name__}: {error}).") from None
    if header is None:
        raise HistoryError("The file is empty: a history begins with a line that names the units.")
    units = {str(unit): str(name) for unit, name in header["units"].items()}
    return History(units, tuple(operations), {str(key): str(value) for key, value in header.get("about", {}).items()})


def _dumped(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def _header(record: dict[str, Any]) -> dict[str, Any]:
    if record.get("format") != _FORMAT or not isinstance(record.get("units"), dict):
        raise ValueError(f"it should begin with the format {_FORMAT} and the units")
    return record


def _as_json(operation: Operation) -> dict[str, Any]:
    record: dict[str, Any] = {
        "number": operation.number,
        "client": operation.client,
        "kind": operation.kind.value,
        "invoked": operation.invoked,
        "answered": operation.answered,
    }
    optional: dict[str, Any] = {
        "status": operation.status,
        "code": operation.code,
        "takes": operation.takes,
        "givesBack": list(operation.gives_back) or None,
        "booking": operation.booking,
        "token": operation.token,
        "found": operation.found,
        "lapses": operation.lapses,
        "seen": [_observation_as_json(one) for one in operation.seen] or None,
    }
    return record | {name: value for name, value in optional.items() if value is not None}


def _observation_as_json(one: Observation) -> dict[str, str]:
    record = {"unit": one.unit, "sight": one.sight.value}
    return record if one.booking is None else record | {"booking": one.booking}


def _operation(record: dict[str, Any]) -> Operation:
    invoked, answered = int(record["invoked"]), record["answered"]
    if answered is not None and int(answered) < invoked:
        raise ValueError("it was answered before it was asked")
    lapses = record.get("lapses")
    return Operation(
        number=int(record["number"]),
        client=int(record["client"]),
        kind=Kind(record["kind"]),
        invoked=invoked,
        answered=None if answered is None else int(answered),
        status=_whole(record.get("status")),
        code=_text(record.get("code")),
        takes=_text(record.get("takes")),
        gives_back=tuple(str(unit) for unit in record.get("givesBack", ())),
        booking=_text(record.get("booking")),
        token=_text(record.get("token")),
        found=_whole(record.get("found")),
        lapses=None if lapses is None else (int(lapses[0]), _whole(lapses[1])),
        seen=tuple(
            Observation(str(one["unit"]), Sight(one["sight"]), _text(one.get("booking"))) for one in record.get("seen", ())
        ),
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
