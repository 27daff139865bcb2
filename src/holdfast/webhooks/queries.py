"""Webhooks and their deliveries in SQL.

Locks are taken in one order: the webhook's row, then deliveries of a subject in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.core.ids import new_id
from holdfast.db.database import Database, fetch_from, fetch_in
from holdfast.webhooks.rules import ATTEMPT_LEASE, TEST, Delivery, Webhook

#: Secrets of a webhook that sign beside the present one.
_MOST_PREVIOUS = 4
_WEBHOOK = "id, url, types, description, enabled, disabled_reason, failing_since, previous_secret_until, version, created_at"
_DELIVERY = (
    "id, webhook_id, message_id, type, subject_id, status, attempts, last_attempt_at, next_attempt_at, response_status, "
    "response_milliseconds, error, created_at, ended_at"
)
_FIND = f"SELECT {_WEBHOOK} FROM webhooks WHERE id = $1 AND deleted_at IS NULL"  # noqa: S608 - our own columns
_LOCK = f"{_FIND} FOR NO KEY UPDATE"
_LIST = f"""SELECT {_WEBHOOK} FROM webhooks WHERE deleted_at IS NULL
ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2"""  # noqa: S608 - our own columns
_COUNT = "SELECT count(*) AS total FROM webhooks WHERE deleted_at IS NULL"
_INSERT = f"""INSERT INTO webhooks (id, url, types, description, enabled, secret, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_WEBHOOK}"""  # noqa: S608 - our own columns
_CHANGE = f"""UPDATE webhooks SET url = $2, types = $3, description = $4, enabled = $5, version = version + 1,
  disabled_reason = CASE WHEN $5 = enabled THEN disabled_reason END,
  failing_since = CASE WHEN $5 = enabled AND $2 = url THEN failing_since END
WHERE id = $1 RETURNING {_WEBHOOK}"""  # noqa: S608 - our own columns
#: Who rotates again while an old one still signs, perhaps because an answer was lost, must not end the one that is in use: all of
#: them sign on (in one column, as in one header), at most so many.
_ROTATE = f"""UPDATE webhooks SET secret = $2, version = version + 1,
  previous_secret = array_to_string((secret || CASE WHEN previous_secret_until > clock_timestamp()
    THEN string_to_array(previous_secret, ' ') END)[1:{_MOST_PREVIOUS}], ' '),
  previous_secret_until = clock_timestamp() + $3::interval
WHERE id = $1 RETURNING {_WEBHOOK}"""  # noqa: S608 - our own columns
#: What it was is in the outbox; its secrets are nowhere.
_DELETE = """UPDATE webhooks SET deleted_at = clock_timestamp(), enabled = false, disabled_reason = NULL, secret = '',
  previous_secret = NULL, previous_secret_until = NULL
WHERE id = $1"""
_STATE = "SELECT enabled, deleted_at IS NOT NULL AS deleted FROM webhooks WHERE id = $1 FOR NO KEY UPDATE"
_REMOVE = "DELETE FROM webhooks WHERE id = $1"

#: The foreign key of the deliveries to come would take the same lock: a webhook is not deleted under the relay's feet.
_ENABLED = "SELECT id, types FROM webhooks WHERE enabled FOR KEY SHARE"
_ADD = """
INSERT INTO webhook_deliveries (id, webhook_id, message_id, number, subject_id, type, body, trace)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::text[], $7::text[], $8::text[])
ON CONFLICT (webhook_id, message_id) DO NOTHING RETURNING id"""

_DELIVERIES = f"""SELECT {_DELIVERY} FROM webhook_deliveries
WHERE webhook_id = $1 AND ($2::text IS NULL OR status = $2)
ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4"""  # noqa: S608 - our own columns
_COUNT_DELIVERIES = """
SELECT count(*) AS total FROM webhook_deliveries WHERE webhook_id = $1 AND ($2::text IS NULL OR status = $2)"""
_FIND_DELIVERY = f"""SELECT {_DELIVERY}, body FROM webhook_deliveries
WHERE webhook_id = $1 AND id = $2"""  # noqa: S608 - our own columns
#: One that may be under way is not begun a second time before its attempt's end.
_AGAIN = f"""UPDATE webhook_deliveries SET status = 'pending', ended_at = NULL,
  failures = CASE WHEN status = 'pending' THEN failures ELSE 0 END,
  next_attempt_at = CASE WHEN status = 'pending'
    THEN least(next_attempt_at, greatest(clock_timestamp(), last_attempt_at + $3::interval)) END
WHERE webhook_id = $1 AND id = $2 RETURNING {_DELIVERY}"""  # noqa: S608 - our own columns

_PLACE = "SELECT webhook_id, subject_id, number FROM webhook_deliveries WHERE id = $1 AND status = 'pending'"
_EARLIER = """
SELECT id FROM webhook_deliveries
WHERE webhook_id = $1 AND subject_id = $2 AND status = 'pending' AND (number, id) < ($3, $4)
ORDER BY number, id LIMIT 1 FOR SHARE"""
_LOCK_TURN = """
SELECT d.id, d.webhook_id, d.subject_id, d.message_id, d.type, d.body, d.failures, d.status, w.url, w.enabled, w.secret,
  CASE WHEN w.previous_secret_until > clock_timestamp() THEN w.previous_secret END AS previous_secret,
  w.failing_since IS NOT NULL AS failing, w.deleted_at IS NOT NULL AS deleted,
  greatest(d.next_attempt_at - clock_timestamp(), interval '0') AS wait
FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
WHERE d.id = $1 FOR UPDATE OF d"""
_BEGIN = """
UPDATE webhook_deliveries SET attempts = attempts + 1, last_attempt_at = clock_timestamp(),
  next_attempt_at = clock_timestamp() + $2::interval
WHERE id = $1 RETURNING attempts"""
_RECORD = """
UPDATE webhook_deliveries SET status = $3, response_status = $4, response_milliseconds = $5, error = $6,
  failures = failures + $7, next_attempt_at = clock_timestamp() + $8::interval,
  ended_at = CASE WHEN $3 = 'pending' THEN NULL ELSE clock_timestamp() END
WHERE id = $1 AND attempts = $2 AND status = 'pending' RETURNING id"""
_NEXT = """
SELECT id, trace FROM webhook_deliveries WHERE webhook_id = $1 AND subject_id = $2 AND status = 'pending'
ORDER BY number, id LIMIT 1"""
_CANCEL_ONE = """
UPDATE webhook_deliveries SET status = 'cancelled', ended_at = clock_timestamp(), next_attempt_at = NULL WHERE id = $1"""
_CANCEL = """
UPDATE webhook_deliveries SET status = 'cancelled', ended_at = clock_timestamp(), next_attempt_at = NULL
FROM (SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending' AND type <> $3
      ORDER BY subject_id, number, id LIMIT $2 FOR UPDATE) p
WHERE webhook_deliveries.id = p.id RETURNING p.id"""
_REMOVE_SOME = """
DELETE FROM webhook_deliveries
WHERE id IN (SELECT id FROM webhook_deliveries WHERE webhook_id = $1 LIMIT $2) RETURNING id"""

_LOCK_FAILING = """
SELECT enabled, failing_since <= clock_timestamp() - $2::interval AS too_long FROM webhooks WHERE id = $1 FOR NO KEY UPDATE"""
_BEGINS_TO_FAIL = """
UPDATE webhooks SET failing_since = clock_timestamp(), version = version + 1 WHERE id = $1 AND failing_since IS NULL"""
_WORKS = "UPDATE webhooks SET failing_since = NULL, version = version + 1 WHERE id = $1 AND failing_since IS NOT NULL"
_DISABLE = f"""UPDATE webhooks SET enabled = false, disabled_reason = $2, version = version + 1
WHERE id = $1 AND enabled RETURNING {_WEBHOOK}"""  # noqa: S608 - our own columns

#: The first pending delivery of each subject, a page of subjects at a time, along the index of the order.
_HEADS = """
SELECT DISTINCT ON (webhook_id, subject_id) id, webhook_id, subject_id, trace,
  coalesce(next_attempt_at, created_at) < clock_timestamp() - $4::interval AS overdue
FROM webhook_deliveries WHERE status = 'pending' AND (webhook_id, subject_id) > ($1, $2)
ORDER BY webhook_id, subject_id, number, id LIMIT $3"""
TIDY = """
DELETE FROM webhook_deliveries
WHERE id IN (SELECT id FROM webhook_deliveries WHERE ended_at < now() - $2::interval ORDER BY ended_at LIMIT $1)
RETURNING 1"""


def _webhook(row: Mapping[str, Any]) -> Webhook:
    return Webhook(**{**row, "types": tuple(row["types"])})


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(**{name: value for name, value in row.items() if name != "body"})


async def find_webhook(source: Database | AsyncSession, webhook_id: UUID) -> Webhook | None:
    """A webhook that is not deleted."""
    rows = await fetch_from(source, _FIND, webhook_id)
    return _webhook(rows[0]) if rows else None


async def lock_webhook(session: AsyncSession, webhook_id: UUID) -> Webhook | None:
    """The same, locked against other changes of it."""
    rows = await fetch_in(session, _LOCK, webhook_id)
    return _webhook(rows[0]) if rows else None


async def list_webhooks(db: Database, *, offset: int, limit: int) -> tuple[list[Webhook], int]:
    """One page, newest first, and how many there are."""
    rows = await db.fetch(_LIST, limit, offset)
    return [_webhook(row) for row in rows], (await db.fetch(_COUNT))[0]["total"]


async def count_webhooks(session: AsyncSession) -> int:
    """How many there are."""
    total: int = (await fetch_in(session, _COUNT))[0]["total"]
    return total


async def insert_webhook(
    session: AsyncSession,
    *,
    url: str,
    types: Sequence[str],
    description: str | None,
    enabled: bool,
    secret: str,
    created_by: UUID | None,
) -> Webhook:
    """A new webhook."""
    rows = await fetch_in(session, _INSERT, new_id(), url, list(types), description, enabled, secret, created_by)
    return _webhook(rows[0])


async def change_webhook(
    session: AsyncSession, webhook_id: UUID, *, url: str, types: Sequence[str], description: str | None, enabled: bool
) -> Webhook:
    """New values. One that is enabled, disabled or sent elsewhere begins without a history of failures."""
    return _webhook((await fetch_in(session, _CHANGE, webhook_id, url, list(types), description, enabled))[0])


async def rotate_secret(session: AsyncSession, webhook_id: UUID, secret: str, both_for: timedelta) -> Webhook:
    """A new secret; the one before signs beside it for a while."""
    return _webhook((await fetch_in(session, _ROTATE, webhook_id, secret, both_for))[0])


async def mark_deleted(session: AsyncSession, webhook_id: UUID) -> None:
    """Out of sight, and nothing is sent any more."""
    await fetch_in(session, _DELETE, webhook_id)


async def state_of(session: AsyncSession, webhook_id: UUID) -> tuple[bool, bool] | None:
    """Whether a webhook is enabled, and whether it is deleted, locked; None where it is gone."""
    rows = await fetch_in(session, _STATE, webhook_id)
    return (rows[0]["enabled"], rows[0]["deleted"]) if rows else None


async def remove_webhook(session: AsyncSession, webhook_id: UUID) -> None:
    """The row itself, with what deliveries it has."""
    await fetch_in(session, _REMOVE, webhook_id)


async def enabled_webhooks(session: AsyncSession) -> list[tuple[UUID, frozenset[str]]]:
    """Those that messages go to, with the types that each wants: none for all."""
    return [(row["id"], frozenset(row["types"])) for row in await fetch_in(session, _ENABLED)]


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be made."""

    webhook_id: UUID
    message_id: str
    number: int
    subject_id: UUID
    type: str
    body: str
    trace: str | None = None
    #: Made in order: of one number, the id decides.
    id: UUID = field(default_factory=new_id)


async def add_deliveries(session: AsyncSession, deliveries: Sequence[NewDelivery]) -> None:
    """Add pending deliveries; a message that the webhook has already is left out."""
    await fetch_in(
        session,
        _ADD,
        [one.id for one in deliveries],
        [one.webhook_id for one in deliveries],
        [one.message_id for one in deliveries],
        [one.number for one in deliveries],
        [one.subject_id for one in deliveries],
        [one.type for one in deliveries],
        [one.body for one in deliveries],
        [one.trace for one in deliveries],
    )


async def list_deliveries(
    db: Database, webhook_id: UUID, *, status: str | None, offset: int, limit: int
) -> tuple[list[Delivery], int]:
    """One page of a webhook's deliveries, newest first, and how many there are."""
    rows = await db.fetch(_DELIVERIES, webhook_id, status, limit, offset)
    total: int = (await db.fetch(_COUNT_DELIVERIES, webhook_id, status))[0]["total"]
    return [_delivery(row) for row in rows], total


async def find_delivery(source: Database | AsyncSession, webhook_id: UUID, delivery_id: UUID) -> tuple[Delivery, str] | None:
    """A delivery, with the body that is sent."""
    rows = await fetch_from(source, _FIND_DELIVERY, webhook_id, delivery_id)
    return (_delivery(rows[0]), rows[0]["body"]) if rows else None


async def deliver_again(session: AsyncSession, webhook_id: UUID, delivery_id: UUID) -> Delivery | None:
    """Make a delivery pending as if it were new, or bring its next attempt forward."""
    rows = await fetch_in(session, _AGAIN, webhook_id, delivery_id, ATTEMPT_LEASE)
    return _delivery(rows[0]) if rows else None


async def place_of(session: AsyncSession, delivery_id: UUID) -> tuple[UUID, UUID, int] | None:
    """Webhook, subject and number of a pending delivery."""
    rows = await fetch_in(session, _PLACE, delivery_id)
    return (rows[0]["webhook_id"], rows[0]["subject_id"], rows[0]["number"]) if rows else None


async def earlier_is_pending(
    session: AsyncSession, *, webhook_id: UUID, subject_id: UUID, number: int, delivery_id: UUID
) -> bool:
    """True where another must come first. It is locked: its end comes after our look, and will see who waits."""
    return bool(await fetch_in(session, _EARLIER, webhook_id, subject_id, number, delivery_id))


async def lock_turn(session: AsyncSession, delivery_id: UUID) -> Mapping[str, Any] | None:
    """A delivery with its webhook's address and secrets, locked; `wait` is None or how long its time is not yet come."""
    rows = await fetch_in(session, _LOCK_TURN, delivery_id)
    return rows[0] if rows else None


async def begin_attempt(session: AsyncSession, delivery_id: UUID) -> int:
    """Count an attempt, whose time is the caller's alone; returns its number."""
    number: int = (await fetch_in(session, _BEGIN, delivery_id, ATTEMPT_LEASE))[0]["attempts"]
    return number


async def record(
    session: AsyncSession,
    delivery_id: UUID,
    attempt: int,
    *,
    status: str,
    response: int | None,
    milliseconds: int,
    error: str | None,
    failed: bool,
    pause: timedelta | None,
) -> bool:
    """Write down what an attempt came to; False where another attempt was begun meanwhile, or it has ended."""
    rows = await fetch_in(session, _RECORD, delivery_id, attempt, status, response, milliseconds, error, int(failed), pause)
    return bool(rows)


async def next_of(session: AsyncSession, webhook_id: UUID, subject_id: UUID) -> tuple[UUID, str | None] | None:
    """The first pending delivery of a subject, and its trace."""
    rows = await fetch_in(session, _NEXT, webhook_id, subject_id)
    return (rows[0]["id"], rows[0]["trace"]) if rows else None


async def cancel_delivery(session: AsyncSession, delivery_id: UUID) -> None:
    """It is not sent any more."""
    await fetch_in(session, _CANCEL_ONE, delivery_id)


async def cancel_pending(session: AsyncSession, webhook_id: UUID, limit: int) -> int:
    """Cancel a webhook's pending deliveries but tests, at most `limit`; returns how many."""
    return len(await fetch_in(session, _CANCEL, webhook_id, limit, TEST))


async def remove_deliveries(session: AsyncSession, webhook_id: UUID, limit: int) -> int:
    """Delete some of a webhook's deliveries; returns how many."""
    return len(await fetch_in(session, _REMOVE_SOME, webhook_id, limit))


async def lock_failing(session: AsyncSession, webhook_id: UUID, give_up_after: timedelta) -> tuple[bool, bool] | None:
    """Whether a webhook is enabled, and whether nothing has come through for too long, locked; None where it is gone."""
    rows = await fetch_in(session, _LOCK_FAILING, webhook_id, give_up_after)
    return (rows[0]["enabled"], bool(rows[0]["too_long"])) if rows else None


async def begins_to_fail(session: AsyncSession, webhook_id: UUID) -> None:
    """Remember since when nothing has come through."""
    await fetch_in(session, _BEGINS_TO_FAIL, webhook_id)


async def works_again(session: AsyncSession, webhook_id: UUID) -> None:
    """Something came through."""
    await fetch_in(session, _WORKS, webhook_id)


async def disable(session: AsyncSession, webhook_id: UUID, reason: str) -> Webhook | None:
    """Disable a webhook, saying why; None where it is disabled already."""
    rows = await fetch_in(session, _DISABLE, webhook_id, reason)
    return _webhook(rows[0]) if rows else None


@dataclass(frozen=True, slots=True)
class Head:
    """The first pending delivery of a subject. Overdue: whoever should send it has not come."""

    id: UUID
    webhook_id: UUID
    subject_id: UUID
    trace: str | None
    overdue: bool


async def heads(db: Database, after: tuple[UUID, UUID], *, limit: int, patience: timedelta) -> list[Head]:
    """The first pending delivery of each subject behind `after` (webhook and subject)."""
    return [Head(**row) for row in await db.fetch(_HEADS, *after, limit, patience)]
