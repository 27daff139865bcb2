"""The use cases of the audit log: looking through it, and following it."""

from holdfast.db.database import Database
from holdfast.reports import queries
from holdfast.reports.queries import Wanted
from holdfast.reports.rules import Change, number_in_cursor, number_text, place_in_cursor, place_text


async def list_audit(db: Database, wanted: Wanted, *, offset: int, limit: int) -> tuple[list[Change], int]:
    """One page of the changes that fit, newest first, and how many fit."""
    total = await queries.count_changes(db, wanted)
    if offset >= total:
        return [], total
    return await queries.list_changes(db, wanted, limit=limit, offset=offset), total


async def walk_audit(db: Database, wanted: Wanted, *, cursor: str, limit: int) -> tuple[list[Change], str | None]:
    """The changes behind a cursor (empty: from the newest), and the next cursor. Raises Invalid for a cursor not of ours."""
    after = place_in_cursor(cursor) if cursor else None
    found = await queries.list_changes(db, wanted, limit=limit + 1, after=after)
    return found[:limit], place_text(found[limit - 1]) if len(found) > limit else None


async def walk_changes(db: Database, *, after: str | None, limit: int) -> tuple[list[Change], str, bool]:
    """Changes in the order of their numbers, the cursor behind them, and whether there are more already.

    Without a cursor from the first one there was. A change is seen once the relay has numbered it: nothing is ever added
    in front of a cursor. Raises Invalid for a cursor not of ours.
    """
    number = number_in_cursor(after) if after else 0
    found = await queries.read_changes(db, after=number, limit=limit + 1)
    shown = found[:limit]
    last = shown[-1].number if shown else None
    return shown, number_text(number if last is None else last), len(found) > limit
