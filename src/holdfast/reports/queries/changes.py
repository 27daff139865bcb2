"""The audit log in SQL: the outbox's rows, newest first with filters, or all of them by their numbers."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from holdfast import outbox
from holdfast.db.database import Database
from holdfast.reports.rules import Change, Place, Types

_COLUMNS = """m.id, m.number, m.type, m.subject_id, m.actor_id, m.actor_role, m.actor_key_id, m.request_id, m.address,
  m.before::text AS before, m.after::text AS after, m.occurred_at"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes: all that fit everything that is named."""

    types: Types = field(default_factory=Types)
    subject_id: UUID | None = None
    actor_id: UUID | None = None
    actor_key_id: UUID | None = None
    request_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def is_selective(self) -> bool:
        """Something is named that has an index of its own."""
        return any(one is not None for one in (self.subject_id, self.actor_id, self.actor_key_id, self.request_id))


#: Every type there is, by one look into the index for each: there are some dozens, however many rows.
_KNOWN_TYPES = """
WITH RECURSIVE known AS (
  (SELECT type FROM outbox ORDER BY type LIMIT 1)
  UNION ALL
  SELECT (SELECT o.type FROM outbox o WHERE o.type > known.type ORDER BY o.type LIMIT 1) FROM known WHERE known.type IS NOT NULL)
SELECT type FROM known WHERE type IS NOT NULL"""


class _Arguments:
    """Arguments, and the conditions with their `$1`, `$2`: a text, and a plan, for each set of filters."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.conditions: list[str] = []

    def add(self, value: object) -> str:
        """The placeholder of a value."""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def where(self) -> str:
        """All conditions; true where there is none."""
        return " AND ".join(self.conditions) or "true"


def _filtered(wanted: Wanted) -> _Arguments:
    """What is asked for but the types."""
    made = _Arguments()
    for condition, value in (
        ("m.subject_id = ", wanted.subject_id),
        ("m.actor_id = ", wanted.actor_id),
        ("m.actor_key_id = ", wanted.actor_key_id),
        ("m.request_id = ", wanted.request_id),
        ("m.occurred_at >= ", wanted.start),
        ("m.occurred_at < ", wanted.end),
    ):
        if value is not None:
            made.conditions.append(condition + made.add(value))
    return made


async def _types(db: Database, wanted: Types) -> list[str]:
    return [row["type"] for row in await db.fetch(_KNOWN_TYPES) if wanted.fits(row["type"])]


async def list_changes(db: Database, wanted: Wanted, *, limit: int, offset: int = 0, after: Place | None = None) -> list[Change]:
    """Changes, newest first; those behind a place of that order, where one is given.

    By the index of what is named; where nothing is, type by type by theirs, the newest of each, so that a rare type is found
    without a look at all the others.
    """
    arguments = _filtered(wanted)
    if after is not None:
        place = f"({arguments.add(after.occurred_at)}, {arguments.add(after.id)})"
        arguments.conditions.append(f"(m.occurred_at, m.id) < {place}")
    types = arguments.add(await _types(db, wanted.types))
    most = f"{arguments.add(limit)}::bigint"
    skipped = f"{arguments.add(offset)}::bigint"
    newest_first = "ORDER BY m.occurred_at DESC, m.id DESC"
    found = f"outbox m WHERE m.type = ANY({types}::text[]) AND {arguments.where}"
    newest = f"SELECT m.* FROM outbox m WHERE m.type = wanted.type AND {arguments.where} {newest_first}"  # noqa: S608 - our own words
    newest_of_each = f"unnest({types}::text[]) AS wanted(type) CROSS JOIN LATERAL ({newest} LIMIT {most} + {skipped}) m"
    source = found if wanted.is_selective else newest_of_each
    statement = f"SELECT {_COLUMNS} FROM {source} {newest_first} LIMIT {most} OFFSET {skipped}"  # noqa: S608 - our own words
    return [_change(row) for row in await db.fetch(statement, *arguments.values)]


async def count_changes(db: Database, wanted: Wanted) -> int:
    """How many fit."""
    arguments = _filtered(wanted)
    arguments.conditions.append(f"m.type = ANY({arguments.add(await _types(db, wanted.types))}::text[])")
    (row,) = await db.fetch(f"SELECT count(*) AS total FROM outbox m WHERE {arguments.where}", *arguments.values)  # noqa: S608 - ours
    total: int = row["total"]
    return total


def _shape(text: str | None) -> dict[str, Any] | None:
    return None if text is None else orjson.loads(text)


def _change(row: asyncpg.Record) -> Change:
    values = dict(row)
    return Change(**{**values, "before": _shape(values["before"]), "after": _shape(values["after"])})


async def read_changes(db: Database, *, after: int, limit: int) -> list[Change]:
    """The changes with the next numbers, lowest first."""
    return [
        Change(
            id=message.id,
            number=message.number,
            type=message.type,
            subject_id=message.subject_id,
            actor_id=message.actor_id,
            actor_role=message.actor_role,
            actor_key_id=message.actor_key_id,
            request_id=message.request_id,
            address=message.address,
            before=message.before,
            after=message.after,
            occurred_at=message.occurred_at,
        )
        for message in await outbox.read_after(db, after, limit=limit)
    ]
