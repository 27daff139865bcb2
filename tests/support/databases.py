"""The PostgreSQL under test, and databases on it: cloned from one that was migrated once."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from holdfast.db import migrate
from holdfast.db.embedded import start

#: Durability is for the crash tests, which start servers of their own; everybody else wants speed.
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}


@contextmanager
def test_server(folder: Path) -> Iterator[str]:
    """The address of a server that may be written to: the one that was named, a container, or an embedded one."""
    given = os.environ.get("HOLDFAST_TEST_DATABASE_URL")
    if given:
        yield given
        return
    if os.environ.get("HOLDFAST_TEST_CONTAINERS"):
        from testcontainers.postgres import PostgresContainer

        image = os.environ.get("HOLDFAST_TEST_POSTGRES_IMAGE", "postgres:17-alpine")
        with PostgresContainer(image, driver=None) as container:
            yield container.get_connection_url()
        return
    version = int(os.environ.get("HOLDFAST_TEST_POSTGRES_VERSION", "18"))
    with start(folder, version=version, settings=THROW_AWAY) as server:
        yield server.url


def with_name(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def execute(url: str, *statements: str) -> None:
    """Run statements, each by itself, from outside of any event loop."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@contextmanager
def migrated_template(server: str) -> Iterator[str]:
    """The name of a migrated database to clone from."""
    name = f"holdfast_template_{secrets.token_hex(4)}"
    execute(server, f'CREATE DATABASE "{name}"')
    try:
        migrate.upgrade(with_name(server, name))
        yield name
    finally:
        execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def cloned_database(server: str, template: str | None) -> Iterator[str]:
    """The address of a database of one's own: a clone, or an empty one."""
    name = f"holdfast_test_{secrets.token_hex(4)}"
    clause = f' TEMPLATE "{template}"' if template else ""
    execute(server, f'CREATE DATABASE "{name}"{clause}')
    try:
        yield with_name(server, name)
    finally:
        execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')
