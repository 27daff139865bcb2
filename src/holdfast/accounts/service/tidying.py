"""Forgetting tokens and sessions that are over."""

from datetime import timedelta

from holdfast.db.database import Database
from holdfast.db.tidying import delete_in_steps

#: Sessions say from which networks an account was used, which the log-in limit asks: they are kept for a season.
SESSIONS_KEPT_FOR = timedelta(days=90)
RESETS_KEPT_FOR = timedelta(days=1)

_SESSIONS = """
DELETE FROM sessions WHERE id IN (
  SELECT id FROM sessions WHERE least(ended_at, expires_at) < now() - $2::interval LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING 1"""
_RESETS = """
DELETE FROM password_resets WHERE hash IN (
  SELECT hash FROM password_resets WHERE expires_at < now() - $2::interval LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING 1"""


async def tidy(db: Database) -> None:
    """Delete sessions (their refresh tokens with them) that ended a season ago, and password resets that are over."""
    await delete_in_steps(db, _SESSIONS, SESSIONS_KEPT_FOR)
    await delete_in_steps(db, _RESETS, RESETS_KEPT_FOR)
