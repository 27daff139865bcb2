"""Ending an account: it gives future bookings back, so it lives here."""

from datetime import datetime
from uuid import UUID

from holdfast import claims, outbox
from holdfast.accounts.errors import UserNotFound
from holdfast.accounts.queries import end_sessions, find_user, update_user
from holdfast.bookings import queries
from holdfast.bookings.service.giving_back import cancel_locked, lock_bookings
from holdfast.claims import HolderKind
from holdfast.core.callers import Caller
from holdfast.core.preconditions import check_if_match
from holdfast.db import locks
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.idempotency import Once
from holdfast.web.revocations import Revocations


@retry_aborted
async def end_account(
    db: Database,
    revocations: Revocations,
    *,
    user_id: UUID,
    if_match: str | None,
    now: datetime,
    by: Caller,
    once: Once,
) -> None:
    """Delete an account: future bookings are cancelled, tokens end, name, e-mail and password are emptied.

    Bookings of the past stay, without a name. Raises UserNotFound, Stale.
    """
    async with once.transaction(db) as session:
        ids = await queries.ids_ahead(session, user_id, now=now)
        held = await queries.own_live_holds(session, user_id)
        bookings = await lock_bookings(session, await queries.find_bookings(session, ids), also=[no for _, no in held])
        # From here on nobody can insert a booking for the user; whoever is about to waits, and finds nobody.
        await locks.user_and_references(session, user_id)
        user = await find_user(session, user_id)
        if user is None:
            raise UserNotFound
        check_if_match(if_match, user.etag, user.as_json())
        if set(await queries.ids_ahead(session, user_id, now=now)) - set(ids):
            raise TransactionAborted
        for booking in bookings:
            if booking.status == "active":
                await cancel_locked(session, booking, by=by)
        holds = sorted({hold_id for hold_id, _ in held})
        for hold_id in holds:
            await claims.release(session, HolderKind.HOLD, hold_id)
        await queries.end_holds(session, holds)
        address = f"deleted-{user_id}@holdfast.invalid"
        await update_user(
            session,
            user_id,
            status="deleted",
            email=address,
            email_key=address,
            name=None,
            password_hash=None,
        )
        await end_sessions(session, user_id)
        await outbox.enqueue(session, "user.deleted", user_id, by=by)
        await once.keep(session, None)
    revocations.user_out(user_id)
