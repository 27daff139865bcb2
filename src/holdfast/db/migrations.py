"""Where the migrations are, which is the newest, and which one a database has."""

from functools import cache
from pathlib import Path
from typing import Literal

import asyncpg

from holdfast.db.database import Database


def folder() -> Path:
    """The folder of Alembic's environment: in the package where it was installed as a wheel, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


@cache
def head() -> str:
    """The newest revision that this version of the code knows.

    The names of the files say so (`YYYY_MM_DD_NNNN_what.py`): loading Alembic to learn it costs a third of a second at
    each start. A test holds the two together.
    """
    newest = max(path.stem for path in (folder() / "versions").glob("[0-9]*.py"))
    return "_".join(newest.split("_")[:4])


def standing(revision: str | None) -> Literal["behind", "at head", "ahead"]:
    """Where a database's revision is to this version of the code; their names sort. None, never migrated, is behind."""
    if revision is None or revision < head():
        return "behind"
    return "at head" if revision == head() else "ahead"


async def current(db: Database) -> str | None:
    """The revision that the database has, None where it was never migrated. Raises Busy."""
    try:
        rows = await db.fetch("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return rows[0]["version_num"] if rows else None
