"""Looking at a live database: one read-only snapshot, however long it takes."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from holdfast.db.database import CONNECT_SECONDS, Database, as_refusal
from holdfast.inspection.invariants import INVARIANTS
from holdfast.inspection.shapes import Invariant, Severity

#: Ids that a finding names.
EXAMPLES = 5
#: Between two looks at what the worker's next round should mend: rounds are a second apart.
PATIENCE_SECONDS = 5.0
#: Rows that are compared between two looks, or judged one by one where SQL alone cannot tell.
_MOST_COMPARED = 10_000

#: A long look is no defect: the service's own limits are not for it. It holds back nobody but VACUUM.
_UNHURRIED = """
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '5s';
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL plan_cache_mode = auto;
SET LOCAL TimeZone = 'UTC'"""
_COUNTED = """
WITH found(id) AS MATERIALIZED ({statement})
SELECT (SELECT count(*) FROM found) AS total, ARRAY(SELECT id::text FROM found LIMIT $1) AS examples"""
_LISTED = "SELECT * FROM ({statement}) found LIMIT $1"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one invariant was found: how many things break it, some of their ids, and how long the look took.

    `level`: `ok`, `note` (no promise is broken), or `fail`.
    """

    invariant: Invariant
    level: Literal["ok", "note", "fail"]
    total: int
    examples: tuple[str, ...]
    seconds: float


async def check(
    db: Database,
    *,
    invariants: Sequence[Invariant] = INVARIANTS,
    examples: int = EXAMPLES,
    patience: float = PATIENCE_SECONDS,
) -> AsyncIterator[Finding]:
    """Look at the invariants one after the other, each finding as soon as it is there. Raises Busy.

    One repeatable-read transaction, so that all of them speak of the same moment. What the worker's next round should mend
    is looked at again `patience` seconds later, in another one: it is wrong where the same things are so still.
    """
    connection = await _connect(db)
    try:
        stuck: dict[str, set[str]] = {}
        async with _snapshot(connection):
            for invariant in invariants:
                if invariant.severity is Severity.STUCK and patience > 0:
                    stuck[invariant.name] = set(await _ids(connection, invariant))
                    if stuck[invariant.name]:
                        continue
                yield await look(connection, invariant, examples=examples)
        again = [invariant for invariant in invariants if stuck.get(invariant.name)]
        if again:
            await asyncio.sleep(patience)
            async with _snapshot(connection):
                for invariant in again:
                    yield await look(connection, invariant, examples=examples, among=stuck[invariant.name])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        refusal = as_refusal(error)
        if refusal is None:
            raise
        raise refusal from error
    finally:
        await connection.close(timeout=1)


async def look(
    connection: Any, invariant: Invariant, *, examples: int = EXAMPLES, among: Collection[str] | None = None
) -> Finding:
    """What breaks one invariant, as this connection sees the tables; `among`: only of these ids."""
    began = time.monotonic()
    if invariant.confirms is None and among is None:
        (row,) = await connection.fetch(_COUNTED.format(statement=invariant.statement), examples)
        total, shown = row["total"], tuple(row["examples"])
    else:
        ids = [one for one in await _ids(connection, invariant) if among is None or one in among]
        total, shown = len(ids), tuple(ids[:examples])
    level: Literal["ok", "note", "fail"] = "ok" if not total else "note" if invariant.severity is Severity.NOTE else "fail"
    return Finding(invariant, level, total, shown, time.monotonic() - began)


async def _ids(connection: Any, invariant: Invariant) -> list[str]:
    """The ids of what breaks an invariant, up to a number that nobody reads through."""
    rows = await connection.fetch(_LISTED.format(statement=invariant.statement), _MOST_COMPARED)
    return [str(row[0]) for row in rows if invariant.confirms is None or invariant.confirms(row)]


async def _connect(db: Database) -> Any:
    """A connection outside of the pools, whose statements and waits are short. Raises Busy."""
    try:
        return await asyncpg.connect(
            db.url,
            timeout=CONNECT_SECONDS,
            # Behind a pooler of transactions, a prepared statement may be another connection's.
            statement_cache_size=0,
            server_settings={"application_name": "holdfast doctor"},
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        refusal = as_refusal(error)
        if refusal is None:
            raise
        raise refusal from error


@asynccontextmanager
async def _snapshot(connection: Any) -> AsyncIterator[None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_UNHURRIED)
        yield
