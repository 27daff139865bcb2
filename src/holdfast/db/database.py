"""Connections and transactions. Every wait has an end, and its end is a Busy refusal, never a hang.

Two ways to one database: SQLAlchemy's pool for transactions, plain asyncpg connections for the single statements of the
hottest reads, where SQLAlchemy's share of a request is more than all the rest of it (measured in docs/decisions/0002).
"""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import asyncpg
from sqlalchemy import Row, Select, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import QueuePool

from holdfast.core import metrics
from holdfast.core.errors import Busy

P = ParamSpec("P")
T = TypeVar("T")
#: A row, and a statement, of whatever columns.
AnyRow: TypeAlias = Row[*tuple[Any, ...]]
AnySelect: TypeAlias = Select[*tuple[Any, ...]]

CONNECT_SECONDS = 2.0
POOL_SECONDS = 2.0
#: Longer than the server's own limits, so that it speaks only where the server does not answer at all.
COMMAND_SECONDS = 5.0
SERVER_SETTINGS = {
    "statement_timeout": "3s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    # Our statements have one good plan each. Left to itself, PostgreSQL plans the look ahead of a lock anew each time, which
    # costs as much as running it (364 us against 201).
    "plan_cache_mode": "force_generic_plan",
    # Compiling a statement takes longer than the longest of ours.
    "jit": "off",
}
_ATTEMPTS = 4
_MARK = text("SELECT pg_logical_emit_message(true, 'holdfast', '')")
_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
_DATABASE_ERRORS = (SQLAlchemyError, asyncpg.PostgresError, *_CLIENT_ERRORS, OSError, TimeoutError)

#: SQLSTATEs (PostgreSQL, appendix A) after which the whole use case may be run again: nothing has happened.
_ABORTED = frozenset({"40001", "40P01"})
#: SQLSTATEs and classes of them that mean "not now": locks, cancelled statements, connections, start-up and shutdown.
_BUSY = frozenset({"55P03", "57014", "25P03", "57P01", "57P02", "57P03", "53300", "53400", "25P02"})


class TransactionAborted(Busy):
    """PostgreSQL gave this transaction up for another's sake (a deadlock, a stale plan); run the use case again."""


def _cause(error: BaseException) -> BaseException:
    """The driver's error under SQLAlchemy's wrapping."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def as_refusal(error: BaseException) -> Busy | None:
    """The refusal that a database error stands for, or None where it is a defect of ours."""
    cause = _cause(error)
    state = cause.sqlstate or "" if isinstance(cause, asyncpg.PostgresError) else ""
    if isinstance(cause, asyncpg.InvalidCachedStatementError) or state in _ABORTED:
        return TransactionAborted()
    if state:
        return Busy() if state in _BUSY or state.startswith("08") else None
    # The server went away: "connection is closed", "connection was closed in the middle of operation"; or in the middle
    # of a word, after which asyncpg's own state machine is lost.
    gone = isinstance(cause, asyncpg.InternalClientError) or (
        isinstance(cause, asyncpg.InterfaceError) and "connection" in str(cause)
    )
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return Busy() if gone or lost or isinstance(cause, OSError | TimeoutError | PoolTimeout) else None


class _Refusing:
    """`with _REFUSING:` turns the database's errors into the refusals that they stand for.

    A class, not a generator: the hottest read passes here, and a generator's context costs four microseconds.
    """

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise the refusal, or let the error pass."""
        if isinstance(error, _DATABASE_ERRORS):
            refusal = as_refusal(error)
            if refusal is not None:
                raise refusal from error


_REFUSING = _Refusing()
#: No objects are kept in our sessions, so there are none to bring up to date after an UPDATE, which costs more than the rest.
_OPTIONS = {"synchronize_session": False}
_AFTERWARDS = "holdfast.afterwards"


async def _take_turn(turns: asyncio.Semaphore) -> None:
    """One of a pool's connections' worth of work, in order of arrival; TimeoutError after POOL_SECONDS."""
    if turns.locked():
        since = perf_counter()
        try:
            async with asyncio.timeout(POOL_SECONDS):
                await turns.acquire()
        finally:
            metrics.pool_waited(perf_counter() - since)
    else:
        await turns.acquire()
        metrics.pool_not_waited()


def retry_aborted(use_case: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Run a whole use case again, a few times, where PostgreSQL aborted its transaction; then it is Busy."""

    @functools.wraps(use_case)
    async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, _ATTEMPTS):
            try:
                return await use_case(*args, **kwargs)
            except TransactionAborted:
                await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - jitter, not a secret
        return await use_case(*args, **kwargs)

    return retried


class Database:
    """One PostgreSQL database, as one process uses it.

    `on_connect` is called with each new asyncpg connection; tests count statements with it.
    """

    def __init__(self, url: str, *, pool_size: int = 16, on_connect: Callable[[Any], None] | None = None) -> None:
        self.url = url
        self._on_connect = on_connect
        self._read_pool_size = max(1, pool_size // 2)
        # Idle connections for single reads. No session state is ever set on them, so there is none to reset, and with turns
        # taken below there is nothing to wait for: a list does what a pool does, for 60 us less.
        self._idle: list[Any] = []
        self._closed = False
        # Pools wake their waiters unfairly (whoever comes in between wins, and the woken one queues again, for up to
        # seconds): the turns are taken here, first come, first served, and the pool itself never waits.
        self._read_turns = asyncio.Semaphore(self._read_pool_size)
        self._transaction_turns = asyncio.Semaphore(max(1, pool_size - self._read_pool_size))
        self._reads, self._transactions = metrics.Pool("reads"), metrics.Pool("transactions")
        self.engine: AsyncEngine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=max(1, pool_size - self._read_pool_size),
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_use_lifo=True,
            # An error is logged without the values that it was about.
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": COMMAND_SECONDS,
                "server_settings": {**SERVER_SETTINGS, "application_name": "holdfast"},
            },
        )
        if on_connect is not None:
            hook = on_connect
            event.listen(self.engine.sync_engine, "connect", lambda dbapi, _record: hook(dbapi.driver_connection))

    async def open(self) -> None:
        """Connect and warm up. Raises Busy where the database is out of reach."""
        await self.fetch("SELECT 1")

    async def close(self) -> None:
        """Close all connections; what is under way ends with its statement."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=1)
            except _DATABASE_ERRORS:
                connection.terminate()
        await self.engine.dispose()
        self._reads.closed()
        self._transactions.closed()

    async def _connect(self) -> Any:
        # Opened at the first need: a service that starts before its database answers 503 until it is there.
        connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={**SERVER_SETTINGS, "application_name": "holdfast reads"},
        )
        if self._on_connect is not None:
            self._on_connect(connection)
        return connection

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Run one statement outside any transaction and return its rows. Raises Busy, after which a write may have happened.

        For reads, and for what stands by itself: the queue's claims, which nobody is told of before they are leased.
        """
        with _REFUSING:
            await _take_turn(self._read_turns)
            self._reads.taken()
            try:
                return await self._fetch(statement, arguments)
            finally:
                self._read_turns.release()
                self._reads.returned(idle=len(self._idle))

    async def _fetch(self, statement: str, arguments: tuple[object, ...]) -> Sequence[asyncpg.Record]:
        connection = self._idle_connection() or await self._connect()
        try:
            rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
        except asyncpg.PostgresError:
            self._keep(connection)
            raise
        except BaseException:
            # Cancelled, timed out, or lost: nobody knows what the connection is in the middle of.
            connection.terminate()
            raise
        self._keep(connection)
        return rows

    def _idle_connection(self) -> Any:
        """An idle connection, None where there is none; those that a restart of the server has closed are dropped."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _keep(self, connection: Any) -> None:
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A READ COMMITTED transaction: committed when the block ends, rolled back when it raises.

        Raises TransactionAborted (see `retry_aborted`) and Busy. A Busy out of the commit itself leaves open whether it
        took place; an idempotency key tells.
        """
        with _REFUSING:
            await _take_turn(self._transaction_turns)
            self._transactions.taken()
            try:
                async with (
                    AsyncSession(self.engine, expire_on_commit=False, execution_options=_OPTIONS) as session,
                    session.begin(),
                ):
                    yield session
                for tell in session.info.get(_AFTERWARDS, ()):
                    tell()
            finally:
                self._transaction_turns.release()
                self._transactions.returned(idle=cast("QueuePool", self.engine.pool).checkedin())


def after_commit(session: AsyncSession, tell: Callable[[], None]) -> None:
    """Call `tell` once the session's transaction is committed, and not otherwise. It must not fail, and takes no time."""
    session.info.setdefault(_AFTERWARDS, []).append(tell)


async def commit_durably(session: AsyncSession) -> None:
    """Make the commit of a transaction that changes nothing wait as a write's does: fsync, synchronous standbys.

    For answers that acknowledge what an earlier transaction did (a replay, a second cancel). Where that one's wait for a
    standby was cut short, it is visible here and nowhere else: to acknowledge it from a mere read could acknowledge what
    is lost. A logical message is a WAL record that means nothing to anybody (PostgreSQL, section 9.28.6).
    """
    await session.execute(_MARK)


async def fetch_in(session: AsyncSession, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
    """Run a statement with asyncpg's own parameters (`$1`) inside the session's transaction.

    For the statements that also run outside of one (`Database.fetch`): one text, one decoder.
    """
    connection = await session.connection()
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    if not driver.is_in_transaction():
        # SQLAlchemy begins lazily, at a statement of its own: then this is that one. Its placeholders are asyncpg's.
        result = await connection.exec_driver_sql(statement, arguments)
        found: Any = result.mappings().all() if result.returns_rows else []
        return cast("Sequence[asyncpg.Record]", found)
    rows: Sequence[asyncpg.Record] = await driver.fetch(statement, *arguments)
    return rows


async def fetch_from(source: Database | AsyncSession, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
    """Read without a lock, outside of any transaction (`Database`), or in the session: under its locks, and what it wrote."""
    if isinstance(source, Database):
        return await source.fetch(statement, *arguments)
    return await fetch_in(source, statement, *arguments)
