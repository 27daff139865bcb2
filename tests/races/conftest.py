"""Every race has a database of its own, with real commits."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from conftest import make_settings
from support.api import Person
from support.races import Arena, arena_on


@pytest.fixture(autouse=True, scope="package")
def _plain_log() -> Iterator[None]:
    """Tracebacks as text: structlog's default draws them with every local value, which takes seconds for each."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def arena(own_database: str) -> AsyncIterator[Arena]:
    # Half of it is for transactions: wide enough that a crowd meets at the locks, not only in the queue for a connection.
    async with arena_on(make_settings(own_database, pool_size=40)) as made:
        yield made


@pytest.fixture
async def boss(arena: Arena) -> Person:
    return await arena.api.admin()
