"""Changing a password, and getting a new one where it was forgotten."""

import asyncio
from dataclasses import replace
from uuid import UUID

from holdfast import outbox
from holdfast.accounts import queries, rules
from holdfast.accounts.errors import PasswordWrong, ResetTokenInvalid
from holdfast.core.callers import Caller
from holdfast.core.security import Passwords, new_secret, stored_secret
from holdfast.db import locks
from holdfast.db.database import Database, retry_aborted
from holdfast.web.login_limit import LoginLimit, network_of
from holdfast.web.revocations import Revocations

#: How long every answer to a forgotten password takes, in seconds: more than the work for an account that there is.
ANSWER_SECONDS = 0.1


@retry_aborted
async def change_password(
    db: Database, passwords: Passwords, revocations: Revocations, *, current: str, new: str, by: Caller
) -> None:
    """A new password, which ends the user's other sessions. Raises PasswordWrong."""
    user_id = by.own_id
    async with db.transaction() as session:
        known = await queries.find_password_hash(session, user_id)
    if not await passwords.matches(current, known):
        raise PasswordWrong
    password_hash = await passwords.hash(new)
    async with db.transaction() as session:
        await locks.users(session, [user_id])
        if await queries.find_password_hash(session, user_id) != known:
            # Another change came first, so the current password is not the one that was checked.
            raise PasswordWrong
        await queries.update_user(session, user_id, password_hash=password_hash)
        await queries.end_password_resets(session, user_id)
        ended = await queries.end_sessions(session, user_id, keep=by.session_id)
        await outbox.enqueue(session, "user.password_changed", user_id, by=by)
    for session_id in ended:
        revocations.session_out(session_id)


async def ask_for_reset(db: Database, limit: LoginLimit, *, email: str, by: Caller) -> None:
    """Have a token for a new password sent, where there is an account for the e-mail. Raises TooMany for the network.

    Takes as long whether there is one or not, and whether the account was asked for too often, which nobody is told.
    """
    loop = asyncio.get_running_loop()
    answered_at = loop.time() + ANSWER_SECONDS
    account = rules.email_key(email)
    if limit.may_reset(account, network_of(by.address)):
        await _request_reset(db, account, by=by)
    await asyncio.sleep(answered_at - loop.time())


@retry_aborted
async def _request_reset(db: Database, account: str, *, by: Caller) -> None:
    async with db.transaction() as session:
        found = await queries.find_credentials(session, account)
        if found is not None and rules.may_reset(found[0]):
            # Without any secret: the token is made when the mail is.
            await outbox.enqueue(session, "user.password_reset_requested", found[0].id, by=by)


@retry_aborted
async def make_reset_token(db: Database, user_id: UUID) -> str | None:
    """A token for a new password, for the mail that brings it; the user's earlier ones end.

    None where the user is gone, suspended, or one who is sent none. Called twice for one request, the second token counts.
    """
    token = new_secret()
    async with db.transaction() as session:
        await locks.users(session, [user_id])
        user = await queries.find_user(session, user_id)
        if user is None or not rules.may_reset(user):
            return None
        await queries.end_password_resets(session, user_id)
        await queries.insert_password_reset(session, token_hash=stored_secret(token), user_id=user_id, life=rules.RESET_LIFE)
    return token


@retry_aborted
async def reset_password(
    db: Database, passwords: Passwords, revocations: Revocations, *, token: str, new: str, by: Caller
) -> None:
    """Set a new password with a token out of a mail, once. Raises ResetTokenInvalid.

    All of the user's sessions, API keys and calendar feeds end: whoever had got into the account may have made some.
    """
    stored = stored_secret(token)
    async with db.transaction() as session:
        user_id = await queries.user_of_password_reset(session, stored)
    if user_id is None:
        raise ResetTokenInvalid
    # Only for a token that is good so far: guessing must not cost us hashes.
    password_hash = await passwords.hash(new)
    async with db.transaction() as session:
        await locks.users(session, [user_id])
        user = await queries.find_user(session, user_id)
        if user is None or user.status != "active" or not await queries.use_password_reset(session, stored):
            raise ResetTokenInvalid
        await queries.update_user(session, user_id, password_hash=password_hash)
        await queries.end_password_resets(session, user_id)
        ended = await queries.end_sessions(session, user_id)
        await queries.delete_api_keys(session, user_id)
        await queries.delete_calendar_feeds(session, user_id)
        await outbox.enqueue(session, "user.password_changed", user_id, by=replace(by, user_id=user_id, role=user.role))
    for session_id in ended:
        revocations.session_out(session_id)
