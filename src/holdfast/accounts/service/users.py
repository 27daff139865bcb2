"""Making users, looking at them, changing them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from holdfast import outbox
from holdfast.accounts import queries, rules
from holdfast.accounts.errors import EmailTaken, OwnAccount, UserNotFound
from holdfast.accounts.rules import User
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.core.preconditions import check_if_match
from holdfast.core.security import Passwords
from holdfast.db import constraints, locks
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.web.revocations import Revocations

_ONE_PER_EMAIL = {"users_one_per_email": EmailTaken}


@retry_aborted
async def register(
    db: Database,
    passwords: Passwords,
    *,
    email: str,
    password: str,
    role: str,
    name: str | None,
    development: bool,
    by: Caller,
) -> User:
    """A new user. Raises AdminNotOffered, EmailTaken."""
    rules.check_registration(email, role, development=development)
    return await add_user(db, passwords, email=email, password=password, role=role, name=name, by=by)


async def add_user(
    db: Database, passwords: Passwords, *, email: str, password: str, role: str, name: str | None, by: Caller
) -> User:
    """A new user with any role, for the command line and the seed. Raises EmailTaken."""
    password_hash = await passwords.hash(password)
    async with db.transaction() as session:
        with constraints.refused_by(_ONE_PER_EMAIL):
            user = await queries.insert_user(
                session,
                id=new_id(),
                email=email,
                email_key=rules.email_key(email),
                name=name,
                role=role,
                password_hash=password_hash,
            )
        await outbox.enqueue(session, "user.created", user.id, by=by, after=user.as_json())
    return user


async def get_user(db: Database, user_id: UUID) -> User:
    """A user who is not deleted. Raises UserNotFound."""
    async with db.transaction() as session:
        user = await queries.find_user(session, user_id)
    if user is None:
        raise UserNotFound
    return user


@retry_aborted
async def change_profile(
    db: Database, *, user_id: UUID, changes: dict[str, Any], if_match: str | None, by: Caller, once: Once
) -> User:
    """Change a user's own name. Raises UserNotFound, Stale."""
    async with once.transaction(db) as session:
        await locks.users(session, [user_id])
        before = await queries.find_user(session, user_id)
        if before is None:
            raise UserNotFound
        check_if_match(if_match, before.etag, before.as_json())
        user = await queries.update_user(session, user_id, **changes) if changes else before
        if changes:
            await outbox.enqueue(session, "user.updated", user.id, by=by, before=before.as_json(), after=user.as_json())
        await once.keep(session, user)
    return user


async def list_users(
    db: Database, *, q: str | None, role: str | None, status: str | None, offset: int, limit: int
) -> tuple[Sequence[User], int]:
    """One page of users who are not deleted, newest first, and how many there are."""
    async with db.transaction() as session:
        return await queries.list_users(session, q=q, role=role, status=status, offset=offset, limit=limit)


@retry_aborted
async def change_user(
    db: Database,
    revocations: Revocations,
    *,
    user_id: UUID,
    changes: dict[str, Any],
    if_match: str | None,
    by: Caller,
    once: Once,
) -> User:
    """Change another user's role or status; either ends their sessions. Raises UserNotFound, OwnAccount, Stale."""
    ended: list[UUID] = []
    async with once.transaction(db) as session:
        await locks.users(session, [user_id])
        before = await queries.find_user(session, user_id)
        if before is None:
            raise UserNotFound
        check_if_match(if_match, before.etag, before.as_json())
        changes = {name: value for name, value in changes.items() if getattr(before, name) != value}
        if changes and user_id == by.user_id:
            raise OwnAccount
        user = before
        if changes:
            user = await queries.update_user(session, user_id, **changes)
            ended = await queries.end_sessions(session, user_id)
            await outbox.enqueue(session, "user.updated", user.id, by=by, before=before.as_json(), after=user.as_json())
        await once.keep(session, user)
    for session_id in ended:
        revocations.session_out(session_id)
    if user.status == "active":
        revocations.user_in(user_id)
    else:
        revocations.user_out(user_id)
    return user
