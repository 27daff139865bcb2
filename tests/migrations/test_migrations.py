"""One head; up, down and up again; and what the migrations make is what the models say, constraint by constraint."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast.db import migrate, migrations
from holdfast.db.models import Base
from support.databases import cloned_database, execute

#: Everything about a schema that a mistake could hide in, as PostgreSQL itself words it.
CATALOGUE = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid), coll.collname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation coll ON coll.oid = a.attcollation
        WHERE a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": """
        SELECT c.relname, k.conname, k.contype::text, pg_get_constraintdef(k.oid), k.condeferrable, k.condeferred, k.convalidated
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'""",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle
        FROM pg_sequences WHERE schemaname = 'public'""",
    "other relations": """
        SELECT c.relname, c.relkind::text, c.relpersistence::text, c.reloptions FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public' WHERE c.relkind NOT IN ('i', 'I')""",
    "functions": """
        SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'public'""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT t.tgisinternal""",
    "types": """
        SELECT t.typname, t.typtype::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd', 'r')""",
    "extensions": "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'",
}

Catalogue = dict[str, set[tuple[Any, ...]]]


async def _read(url: str) -> Catalogue:
    connection = await asyncpg.connect(url)
    try:
        return {
            name: {
                tuple(tuple(value) if isinstance(value, list) else value for value in row)
                for row in await connection.fetch(statement)
                if "alembic_version" not in str(row[0])
            }
            for name, statement in CATALOGUE.items()
        }
    finally:
        await connection.close()


def catalogue(url: str) -> Catalogue:
    """A database's schema, without Alembic's own table."""
    return asyncio.run(_read(url))


def differences(one: Catalogue, other: Catalogue) -> dict[str, set[tuple[Any, ...]]]:
    """What only one of two schemas has."""
    return {name: one[name] ^ other[name] for name in CATALOGUE if one[name] != other[name]}


def create_all(url: str) -> None:
    """The schema that the models describe."""

    async def run() -> None:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    asyncio.run(run())


def test_there_is_one_head_and_its_file_says_so(empty: str) -> None:
    heads = ScriptDirectory.from_config(migrate.alembic_config(empty)).get_heads()
    assert heads == [migrations.head()]


def test_every_migration_can_be_taken_back(empty: str) -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config(empty))
    revisions = [revision.revision for revision in script.walk_revisions()][::-1]
    for revision in revisions:
        migrate.upgrade(empty, revision)
        made = catalogue(empty)
        migrate.downgrade(empty, "-1")
        migrate.upgrade(empty, revision)
        assert differences(catalogue(empty), made) == {}, revision


def test_up_down_and_up_again_on_an_empty_database(empty: str) -> None:
    nothing = catalogue(empty)
    migrate.upgrade(empty)
    first = catalogue(empty)
    assert len(first["columns"]) > 50
    migrate.downgrade(empty, "base")
    assert differences(catalogue(empty), nothing) == {}
    migrate.upgrade(empty)
    assert differences(catalogue(empty), first) == {}


def test_up_at_the_head_changes_nothing(empty: str) -> None:
    migrate.upgrade(empty)
    first = catalogue(empty)
    migrate.upgrade(empty)
    assert differences(catalogue(empty), first) == {}


def test_the_migrations_make_what_the_models_say(empty: str, another_empty: str) -> None:
    migrate.upgrade(empty)
    create_all(another_empty)
    assert differences(catalogue(empty), catalogue(another_empty)) == {}


def test_up_down_up_and_parity_on_an_older_version(older_postgres: str) -> None:
    with cloned_database(older_postgres, None) as migrated, cloned_database(older_postgres, None) as created:
        migrate.upgrade(migrated)
        migrate.downgrade(migrated, "base")
        migrate.upgrade(migrated)
        create_all(created)
        assert differences(catalogue(migrated), catalogue(created)) == {}


@pytest.mark.parametrize(
    ("part", "statements"),
    [
        (
            "constraints",
            [
                "ALTER TABLE claims DROP CONSTRAINT claims_are_never_empty",
                "ALTER TABLE claims ADD CONSTRAINT claims_are_never_empty CHECK (true)",
            ],
        ),
        (
            "constraints",
            [
                "ALTER TABLE claims DROP CONSTRAINT claims_never_overlap",
                """ALTER TABLE claims ADD CONSTRAINT claims_never_overlap
                EXCLUDE USING gist (int8range(resource_no, resource_no, '[]') WITH &&, during WITH &&)""",
            ],
        ),
        ("constraints", ["ALTER TABLE claims DROP CONSTRAINT claims_never_overlap"]),
        (
            "constraints",
            [
                "ALTER TABLE bookings DROP CONSTRAINT bookings_user_id_fkey",
                """ALTER TABLE bookings ADD CONSTRAINT bookings_user_id_fkey
                FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE""",
            ],
        ),
        (
            "indexes",
            [
                "DROP INDEX claims_hold_id_idx",
                "CREATE INDEX claims_hold_id_idx ON claims (hold_id) WHERE expires_at IS NOT NULL",
            ],
        ),
        ("indexes", ["DROP INDEX users_one_per_email", "CREATE INDEX users_one_per_email ON users (email_key)"]),
        ("columns", ["ALTER TABLE users ALTER COLUMN status DROP DEFAULT"]),
        ("columns", ["ALTER TABLE users ALTER COLUMN email DROP NOT NULL"]),
        ("columns", ["ALTER TABLE rooms ALTER COLUMN capacity TYPE integer"]),
        ("columns", ["ALTER TABLE resources ALTER COLUMN no SET GENERATED BY DEFAULT"]),
        ("sequences", ["ALTER TABLE resources ALTER COLUMN no SET MAXVALUE 1000"]),
        ("functions", ["CREATE FUNCTION stray() RETURNS int LANGUAGE sql AS 'SELECT 1'"]),
    ],
)
def test_control_the_comparison_sees_every_kind_of_change(
    postgres: str, template: str, own_database: str, part: str, statements: list[str]
) -> None:
    before = catalogue(own_database)
    execute(own_database, *statements)
    assert part in differences(catalogue(own_database), before)


def test_two_upgrades_at_once_take_turns(empty: str) -> None:
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(_upgrade_in_a_process, empty) for _ in range(2)]:
            assert done.result() == (0, "")
    assert asyncio.run(_revisions(empty)) == [migrations.head()]
    assert len(catalogue(empty)["columns"]) > 50


def _upgrade_in_a_process(url: str) -> tuple[int, str]:
    """As `holdfast migrate` does it: Alembic's context is one per process."""
    done = subprocess.run(
        [sys.executable, "-c", "from holdfast.cli import main; main()", "migrate"],
        env={**os.environ, "HOLDFAST_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


async def _revisions(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")]
    finally:
        await connection.close()


def test_an_upgrade_waits_for_another_one_and_then_finds_it_done(empty: str) -> None:
    """The other is parked with the turn in its hand; ours is seen to wait, and goes on when it is let."""

    async def run() -> None:
        holder, watcher = await asyncpg.connect(empty), await asyncpg.connect(empty)
        try:
            await holder.execute("SELECT pg_advisory_lock(4711000001)")
            ours = asyncio.create_task(asyncio.to_thread(_upgrade_in_a_process, empty))
            async with asyncio.timeout(20):
                while not await watcher.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                    "(SELECT oid FROM pg_database WHERE datname = current_database())"
                ):
                    assert not ours.done(), ours.result()
                    await asyncio.sleep(0.01)
            assert await watcher.fetchval("SELECT to_regclass('claims')") is None
            await holder.execute("SELECT pg_advisory_unlock(4711000001)")
            assert await ours == (0, "")
            assert await watcher.fetchval("SELECT to_regclass('claims')") is not None
        finally:
            await holder.close()
            await watcher.close()

    asyncio.run(run())
