"""The names behind the ids of an export, and whether its reader may still have it."""

from collections.abc import Iterable
from uuid import UUID

from holdfast.db.database import Database

_NAMES = """
SELECT id, name FROM resources WHERE id = ANY($1::uuid[])
UNION ALL SELECT id, email FROM users WHERE id = ANY($2::uuid[])"""
_IS_ADMIN = "SELECT EXISTS (SELECT FROM users WHERE id = $1 AND role = 'admin' AND status = 'active') AS is_admin"


async def read_names(db: Database, *, resources: Iterable[UUID], users: Iterable[UUID]) -> dict[UUID, str]:
    """Resources by their names, users by their e-mails."""
    return dict(await db.fetch(_NAMES, list(set(resources)), list(set(users))))


async def is_admin(db: Database, user_id: UUID | None) -> bool:
    """Whether the user is an active admin now, whatever a token said that was good once."""
    (row,) = await db.fetch(_IS_ADMIN, user_id)
    found: bool = row["is_admin"]
    return found
