"""Alembic's environment: runs the migrations on one connection, under a lock, with an end to every wait."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast.db.models import Base

# Two `holdfast migrate` at once take turns.
_TURN = 4_711_000_001


def _url() -> str:
    given = context.config.attributes.get("database_url")
    if given is None:
        from holdfast.core.settings import load_settings

        setting = load_settings().database_url
        if setting is None:
            msg = "HOLDFAST_DATABASE_URL is not set; `holdfast migrate` works without it"
            raise RuntimeError(msg)
        given = setting.get_secret_value()
    return str(given).replace("postgresql://", "postgresql+asyncpg://", 1)


def _migrate(connection: Connection) -> None:
    # A migration that cannot have its lock must not queue in front of the whole service.
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(text("SELECT pg_advisory_lock(:turn)"), {"turn": _TURN})
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:turn)"), {"turn": _TURN})
        connection.commit()


async def _online() -> None:
    engine = create_async_engine(_url(), connect_args={"timeout": 5})
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


asyncio.run(_online())
