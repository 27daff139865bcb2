"""Logging in and out, refreshing tokens."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.accounts import queries, rules
from holdfast.accounts.errors import AccountSuspended, RefreshTokenReused, RefreshTokenUnknown, WrongCredentials
from holdfast.accounts.rules import User
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens, Passwords, RefreshTokens
from holdfast.db.database import Database, commit_durably, retry_aborted
from holdfast.web.login_limit import LoginLimit, network_of
from holdfast.web.revocations import Revocations


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a log-in gives. `expires_in` is the access token's life in seconds."""

    token: str
    refresh_token: str
    expires_in: int

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "token": self.token,
            "refreshToken": self.refresh_token,
            "expiresIn": self.expires_in,
            "tokenType": "Bearer",
        }


@dataclass(frozen=True, slots=True)
class TokenMaker:
    """Both kinds of tokens, and how long a session lives without use."""

    access: AccessTokens
    refresh: RefreshTokens
    session_life: timedelta


@retry_aborted
async def log_in(
    db: Database,
    passwords: Passwords,
    tokens: TokenMaker,
    limit: LoginLimit,
    *,
    email: str,
    password: str,
    address: str | None,
    now: datetime,
) -> TokenPair:
    """A new session. Raises TooMany, WrongCredentials (unknown and wrong alike, in equal time), AccountSuspended."""
    account, network = rules.email_key(email), network_of(address)
    limit.attempt(account, network)
    async with db.transaction() as session:
        found = await queries.find_credentials(session, account)
        known_here = (
            found is not None
            and limit.strangers_shut_out(account)
            and await queries.network_is_known(session, found[0].id, network)
        )
    if limit.strangers_shut_out(account) and not known_here:
        limit.refuse_stranger(account)
    # Outside of any transaction: a hash takes a quarter of a second.
    right = await passwords.matches(password, found[1] if found is not None else None)
    if found is None or not right:
        limit.failed(account, network)
        raise WrongCredentials
    limit.succeeded(account, network)
    user = found[0]
    if user.status != "active":
        raise AccountSuspended
    return await start_session(db, tokens, user=user, network=network, now=now)


async def start_session(db: Database, tokens: TokenMaker, *, user: User, network: str | None, now: datetime) -> TokenPair:
    """A session and its first two tokens."""
    session_id, refresh_token = new_id(), tokens.refresh.first()
    async with db.transaction() as session:
        await queries.insert_session(
            session,
            session_id=session_id,
            user_id=user.id,
            network=network,
            now=now,
            expires_at=now + tokens.session_life,
        )
        await queries.insert_refresh_token(
            session, token_hash=tokens.refresh.stored(refresh_token), session_id=session_id, now=now
        )
    return _pair(tokens, user=user, session_id=session_id, refresh_token=refresh_token, now=now)


def _pair(tokens: TokenMaker, *, user: User, session_id: UUID, refresh_token: str, now: datetime) -> TokenPair:
    token = tokens.access.sign(user_id=user.id, role=user.role, session_id=session_id, now=now)
    return TokenPair(token, refresh_token, int(tokens.access.life.total_seconds()))


@retry_aborted
async def dummy_log_in(db: Database, tokens: TokenMaker, *, role: str, address: str | None, now: datetime) -> str:
    """An access token for the fixed user of a role, whose row exists from then on. Raises AccountSuspended."""
    async with db.transaction() as session:
        email = rules.dummy_email(role)
        user = await queries.ensure_user(
            session,
            id=rules.DUMMY_IDS[role],
            email=email,
            email_key=rules.email_key(email),
            name=f"Demo {role}",
            role=role,
        )
    if user.status != "active":
        raise AccountSuspended
    return (await start_session(db, tokens, user=user, network=network_of(address), now=now)).token


@retry_aborted
async def refresh(db: Database, tokens: TokenMaker, revocations: Revocations, *, token: str, now: datetime) -> TokenPair:
    """Trade a refresh token for its child and a new access token.

    Raises RefreshTokenUnknown, and RefreshTokenReused, which ends the session: unless the retry comes within ten seconds
    and nobody has used the child, which is what an honest client whose answer was lost looks like.
    """
    stored = tokens.refresh.stored(token)
    child = tokens.refresh.child(token)
    reused: UUID | None = None
    user: User | None = None
    async with db.transaction() as session:
        found = await queries.lock_refresh_token(session, stored)
        if found is None or found.ended_at is not None or found.expires_at <= now:
            raise RefreshTokenUnknown
        user = await queries.find_user(session, found.user_id)
        if user is None or user.status != "active":
            raise RefreshTokenUnknown
        child_used_at = await queries.refresh_token_used_at(session, tokens.refresh.stored(child))
        if found.used_at is not None and (child_used_at is not None or not rules.may_retry(found.used_at, now=now)):
            # Committed, not raised from inside: the end of the session must outlive the refusal.
            await queries.end_session(session, found.session_id)
            reused = found.session_id
        elif found.used_at is None:
            await queries.mark_refresh_token_used(session, stored, now=now)
            await queries.insert_refresh_token(
                session, token_hash=tokens.refresh.stored(child), session_id=found.session_id, now=now
            )
            await queries.extend_session(session, found.session_id, expires_at=now + tokens.session_life)
        else:
            await commit_durably(session)
        session_id = found.session_id
    if reused is not None:
        revocations.session_out(reused)
        raise RefreshTokenReused
    return _pair(tokens, user=user, session_id=session_id, refresh_token=child, now=now)


@retry_aborted
async def log_out(db: Database, tokens: TokenMaker, revocations: Revocations, *, refresh_token: str | None, by: Caller) -> None:
    """End the caller's session, and that of the refresh token where it is the caller's own."""
    ended: set[UUID] = {by.session_id} if by.session_id else set()
    async with db.transaction() as session:
        if refresh_token is not None:
            owner = await queries.session_of_token(session, tokens.refresh.stored(refresh_token))
            if owner is not None and owner[1] == by.user_id:
                ended.add(owner[0])
        for session_id in sorted(ended):
            await queries.end_session(session, session_id)
    for session_id in ended:
        revocations.session_out(session_id)
