"""LISTEN: being woken by another process's NOTIFY, on a connection of its own that is made again when it is lost."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import asyncpg
import structlog

from holdfast.db.database import CONNECT_SECONDS

#: Seconds between two attempts to connect, and between two looks whether the connection still answers.
_AGAIN_SECONDS = 1.0
_PROBE_SECONDS = 10.0
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


async def listen(url: str, channel: str, wake: Callable[[], None]) -> None:
    """Call `wake` for each notification, and after each new connection, as what came before it was missed; until cancelled.

    A hint, not a promise: who is woken looks for itself, and looks now and then without being woken. Not through PgBouncer in
    transaction mode, which gives the connection to somebody else between two statements.
    """
    while True:
        connection = None
        try:
            connection = await asyncpg.connect(
                url,
                timeout=CONNECT_SECONDS,
                command_timeout=CONNECT_SECONDS,
                server_settings={"application_name": "holdfast listens"},
            )
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _, lost=lost: lost.set())
            await connection.add_listener(channel, lambda *_: wake())
            wake()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await lost.wait()
                # Fails where it is lost. One that a firewall forgot looks alive until something is asked.
                await connection.execute("SELECT 1")
        except _LOST as error:
            log.warning("listening.lost", reason=type(error).__name__)
            await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            if connection is not None:
                with suppress(*_LOST):
                    connection.terminate()
