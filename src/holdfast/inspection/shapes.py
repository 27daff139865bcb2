"""What an invariant is."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import asyncpg


class Severity(StrEnum):
    """What a row that breaks it means."""

    #: A promise is broken.
    BROKEN = "broken"
    #: A promise is broken if it is so a moment later still: what nobody was told of, the worker takes up in its next round.
    STUCK = "stuck"
    #: No promise is broken, and yet somebody should know.
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must be so.

    `name` is stable: alarms may name it. `broken` says in a sentence what is wrong where it is not so, and `what` of which
    things there are ids. `statement` returns one row for each of those, its first column the id; where SQL cannot tell,
    `confirms` judges each row.
    """

    name: str
    broken: str
    what: str
    statement: str
    severity: Severity = Severity.BROKEN
    advice: str = ""
    confirms: Callable[[asyncpg.Record], bool] | None = None
