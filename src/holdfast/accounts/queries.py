"""Users, sessions, tokens and API keys in SQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast.accounts.rules import ApiKey, User
from holdfast.db import models
from holdfast.db.database import AnyRow, AnySelect

_COLUMNS = (
    models.User.id,
    models.User.email,
    models.User.name,
    models.User.role,
    models.User.status,
    models.User.version,
    models.User.created_at,
    exists()
    .where(models.Host.user_id == models.User.id, models.Resource.no == models.Host.resource_no)
    .where(models.Resource.archived_at.is_(None))
    .label("is_host"),
)


def _user(row: AnyRow) -> User:
    return User(*row)


async def find_user(session: AsyncSession, user_id: UUID) -> User | None:
    """A user who is not deleted."""
    row = (await session.execute(select(*_COLUMNS).where(models.User.id == user_id, models.User.status != "deleted"))).first()
    return None if row is None else _user(row)


async def find_credentials(session: AsyncSession, email_key: str) -> tuple[User, str | None] | None:
    """A user by the e-mail's key, with the password's hash."""
    row = (
        await session.execute(
            select(*_COLUMNS, models.User.password_hash).where(
                models.User.email_key == email_key, models.User.status != "deleted"
            )
        )
    ).first()
    return None if row is None else (User(*row[:-1]), row[-1])


async def find_password_hash(session: AsyncSession, user_id: UUID) -> str | None:
    """The hash of a user's password, None where they have none."""
    found: str | None = await session.scalar(select(models.User.password_hash).where(models.User.id == user_id))
    return found


async def insert_user(session: AsyncSession, **values: object) -> User:
    """A new user; the constraint `users_one_per_email` refuses a second one."""
    return _user((await session.execute(insert(models.User).values(**values).returning(*_COLUMNS))).one())


async def active_users(session: AsyncSession, ids: Iterable[UUID]) -> set[UUID]:
    """Those of the users who are neither suspended nor gone."""
    rows = await session.execute(select(models.User.id).where(models.User.id.in_(list(ids)), models.User.status == "active"))
    return set(rows.scalars())


async def ensure_user(session: AsyncSession, **values: object) -> User:
    """The user with this id, made where there is none.

    No index is named: of two who come at once the second may meet the first in the index of e-mails as well.
    """
    await session.execute(upsert(models.User).values(**values).on_conflict_do_nothing())
    return _user((await session.execute(select(*_COLUMNS).where(models.User.id == values["id"]))).one())


async def update_user(session: AsyncSession, user_id: UUID, **values: object) -> User:
    """Change columns of a user, and the version with them."""
    return _user(
        (
            await session.execute(
                update(models.User)
                .where(models.User.id == user_id)
                .values(**values, version=models.User.version + 1)
                .returning(*_COLUMNS)
            )
        ).one()
    )


def _matching(statement: AnySelect, q: str | None, role: str | None, status: str | None) -> AnySelect:
    statement = statement.where(models.User.status != "deleted")
    if q:
        pattern = "%" + q.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        statement = statement.where(or_(models.User.email.ilike(pattern), models.User.name.ilike(pattern)))
    if role:
        statement = statement.where(models.User.role == role)
    if status:
        statement = statement.where(models.User.status == status)
    return statement


async def list_users(
    session: AsyncSession, *, q: str | None, role: str | None, status: str | None, offset: int, limit: int
) -> tuple[Sequence[User], int]:
    """One page of users, newest first, and how many there are."""
    total = await session.scalar(_matching(select(func.count()).select_from(models.User), q, role, status))
    rows = await session.execute(
        _matching(select(*_COLUMNS), q, role, status)
        .order_by(models.User.created_at.desc(), models.User.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [_user(row) for row in rows], total or 0


async def insert_session(
    session: AsyncSession,
    *,
    session_id: UUID,
    user_id: UUID,
    network: str | None,
    now: datetime,
    expires_at: datetime,
) -> None:
    """A new session; the user's own expired ones go."""
    await session.execute(delete(models.Session).where(models.Session.user_id == user_id, models.Session.expires_at < now))
    await session.execute(
        insert(models.Session).values(id=session_id, user_id=user_id, network=network, created_at=now, expires_at=expires_at)
    )


async def network_is_known(session: AsyncSession, user_id: UUID, network: str) -> bool:
    """True where the user has logged in from this network before."""
    return bool(
        await session.scalar(
            select(select(models.Session.id).where(models.Session.user_id == user_id, models.Session.network == network).exists())
        )
    )


async def insert_refresh_token(session: AsyncSession, *, token_hash: bytes, session_id: UUID, now: datetime) -> None:
    """A refresh token, by its hash; the same one twice is one."""
    await session.execute(
        upsert(models.RefreshToken).values(hash=token_hash, session_id=session_id, created_at=now).on_conflict_do_nothing()
    )


async def lock_refresh_token(session: AsyncSession, token_hash: bytes) -> AnyRow | None:
    """The token with its session and the session's user, locked: session_id, used_at, ended_at, expires_at, user_id."""
    locked = await session.scalar(
        select(models.RefreshToken.session_id).where(models.RefreshToken.hash == token_hash).with_for_update(key_share=True)
    )
    if locked is None:
        return None
    return (
        await session.execute(
            select(
                models.RefreshToken.session_id,
                models.RefreshToken.used_at,
                models.Session.ended_at,
                models.Session.expires_at,
                models.Session.user_id,
            )
            .join(models.Session, models.Session.id == models.RefreshToken.session_id)
            .where(models.RefreshToken.hash == token_hash)
        )
    ).first()


async def refresh_token_used_at(session: AsyncSession, token_hash: bytes) -> datetime | None:
    """When this token was used, None where it was not, or is unknown."""
    used_at: datetime | None = await session.scalar(
        select(models.RefreshToken.used_at).where(models.RefreshToken.hash == token_hash)
    )
    return used_at


async def mark_refresh_token_used(session: AsyncSession, token_hash: bytes, *, now: datetime) -> None:
    """Its child is made."""
    await session.execute(update(models.RefreshToken).where(models.RefreshToken.hash == token_hash).values(used_at=now))


async def extend_session(session: AsyncSession, session_id: UUID, *, expires_at: datetime) -> None:
    """A session that is used lives on."""
    await session.execute(update(models.Session).where(models.Session.id == session_id).values(expires_at=expires_at))


async def end_session(session: AsyncSession, session_id: UUID) -> None:
    """No token of the session is good any more."""
    await session.execute(
        update(models.Session)
        .where(models.Session.id == session_id, models.Session.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp())
    )


async def end_sessions(session: AsyncSession, user_id: UUID, *, keep: UUID | None = None) -> list[UUID]:
    """End all of a user's sessions but one; returns the ended ones."""
    rows = await session.execute(
        update(models.Session)
        .where(
            models.Session.user_id == user_id,
            models.Session.ended_at.is_(None),
            models.Session.id.is_distinct_from(keep),
        )
        .values(ended_at=func.clock_timestamp())
        .returning(models.Session.id)
    )
    return list(rows.scalars())


async def session_of_token(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """Session and user of a refresh token."""
    row = (
        await session.execute(
            select(models.Session.id, models.Session.user_id)
            .join(models.RefreshToken, models.RefreshToken.session_id == models.Session.id)
            .where(models.RefreshToken.hash == token_hash)
        )
    ).first()
    return None if row is None else (row[0], row[1])


_KEY_COLUMNS = (
    models.ApiKey.id,
    models.ApiKey.name,
    models.ApiKey.scopes,
    models.ApiKey.created_at,
    models.ApiKey.expires_at,
    models.ApiKey.last_used_at,
)


def _key(row: AnyRow) -> ApiKey:
    return ApiKey(row.id, row.name, tuple(row.scopes), row.created_at, row.expires_at, row.last_used_at)


async def insert_api_key(session: AsyncSession, **values: object) -> ApiKey:
    """A new key, by its secret's hash."""
    return _key((await session.execute(insert(models.ApiKey).values(**values).returning(*_KEY_COLUMNS))).one())


async def count_api_keys(session: AsyncSession, user_id: UUID) -> int:
    """How many keys a user has, expired ones included."""
    return await session.scalar(select(func.count()).select_from(models.ApiKey).where(models.ApiKey.user_id == user_id)) or 0


async def list_api_keys(session: AsyncSession, user_id: UUID) -> list[ApiKey]:
    """All keys of a user, newest first."""
    rows = await session.execute(
        select(*_KEY_COLUMNS)
        .where(models.ApiKey.user_id == user_id)
        .order_by(models.ApiKey.created_at.desc(), models.ApiKey.id.desc())
    )
    return [_key(row) for row in rows]


async def find_api_key(session: AsyncSession, user_id: UUID, key_id: UUID) -> ApiKey | None:
    """A key of a user's own."""
    row = (
        await session.execute(
            select(*_KEY_COLUMNS).where(models.ApiKey.user_id == user_id, models.ApiKey.id == key_id),
        )
    ).first()
    return None if row is None else _key(row)


async def delete_api_key(session: AsyncSession, user_id: UUID, key_id: UUID) -> ApiKey | None:
    """Delete a key of a user's own; returns what it was."""
    row = (
        await session.execute(
            delete(models.ApiKey).where(models.ApiKey.user_id == user_id, models.ApiKey.id == key_id).returning(*_KEY_COLUMNS)
        )
    ).first()
    return None if row is None else _key(row)


async def delete_api_keys(session: AsyncSession, user_id: UUID) -> None:
    """The user is going, and all keys with them."""
    await session.execute(delete(models.ApiKey).where(models.ApiKey.user_id == user_id))


async def delete_calendar_feeds(session: AsyncSession, user_id: UUID) -> None:
    """None of the user's calendar addresses leads anywhere any more."""
    await session.execute(delete(models.CalendarFeed).where(models.CalendarFeed.user_id == user_id))


async def insert_password_reset(session: AsyncSession, *, token_hash: bytes, user_id: UUID, life: timedelta) -> None:
    """A token for a new password, by its hash, good for so long by the database's clock."""
    await session.execute(
        insert(models.PasswordReset).values(hash=token_hash, user_id=user_id, expires_at=func.clock_timestamp() + life)
    )


def _open_reset(token_hash: bytes) -> tuple[ColumnElement[bool], ...]:
    return (
        models.PasswordReset.hash == token_hash,
        models.PasswordReset.used_at.is_(None),
        models.PasswordReset.expires_at > func.clock_timestamp(),
    )


async def user_of_password_reset(session: AsyncSession, token_hash: bytes) -> UUID | None:
    """Whose password this token may set; None for one that is unknown, used or over."""
    user_id: UUID | None = await session.scalar(select(models.PasswordReset.user_id).where(*_open_reset(token_hash)))
    return user_id


async def use_password_reset(session: AsyncSession, token_hash: bytes) -> bool:
    """Use the token, which it can be once; False where it cannot any more."""
    used = await session.execute(
        update(models.PasswordReset)
        .where(*_open_reset(token_hash))
        .values(used_at=func.clock_timestamp())
        .returning(models.PasswordReset.user_id)
    )
    return used.first() is not None


async def end_password_resets(session: AsyncSession, user_id: UUID) -> None:
    """No token that was sent to the user sets a password any more."""
    await session.execute(
        delete(models.PasswordReset).where(models.PasswordReset.user_id == user_id, models.PasswordReset.used_at.is_(None))
    )
