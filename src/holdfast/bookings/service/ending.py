"""Ending an account: it gives future bookings back, so it lives here."""

from datetime import datetime
from uuid import UUID

from holdfast import outbox
from holdfast.accounts.errors import UserNotFound
from holdfast.accounts.queries import delete_api_keys, end_password_resets, end_sessions, find_user, update_user
from holdfast.bookings import queries
from holdfast.bookings.service.releasing import cancel_locked, lock_bookings, release_locked
from holdfast.bookings.service.taking import promote
from holdfast.core.callers import Caller
from holdfast.core.preconditions import check_if_match
from holdfast.db import locks
from holdfast.db.database import Database, TransactionAborted, retry_aborted
from holdfast.hosts.queries import find_host_of
from holdfast.idempotency import Once
from holdfast.resources.queries import archive_resource
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

    A host's guests lose theirs too, and the host is archived. Bookings of the past stay, without a name.

    Raises UserNotFound, Stale.
    """
    async with once.transaction(db) as session:
        host = await find_host_of(session, user_id)
        ids = await queries.ids_ahead(session, user_id, host_no=host.no if host else None, now=now)
        held = await queries.unended_holds(session, user_id)
        numbers = {no for hold in held for no in hold.resource_nos} | ({host.no} if host else set())
        bookings = await lock_bookings(session, await queries.find_bookings(session, ids), also=numbers)
        if host is not None:
            # What guests hold goes with the host's time.
            await locks.holds_of(session, [host.no])
            held += await queries.live_holds_of(session, host.no)
        await locks.holds(session, [hold.id for hold in held])
        # Those who may be offered what gets free too, all in one order.
        waiting = await queries.users_in_line(session, {*numbers, *(no for one in bookings for no in one.resource_nos)})
        await locks.users(session, {one for one in waiting if one < user_id})
        # From here on nobody can insert a booking for the user; whoever is about to waits, and finds nobody.
        await locks.user_and_references(session, user_id)
        await locks.users(session, {one for one in waiting if one > user_id})
        user = await find_user(session, user_id)
        if user is None:
            raise UserNotFound
        check_if_match(if_match, user.etag, user.as_json())
        present = await queries.ids_ahead(session, user_id, host_no=host.no if host else None, now=now)
        present_holds = {hold.id for hold in await queries.unended_holds(session, user_id)}
        if not set(present) <= set(ids) or not present_holds <= {hold.id for hold in held}:
            raise TransactionAborted
        await cancel_locked(session, [booking for booking in bookings if booking.status == "active"], by=by)
        await release_locked(session, held, by=by)
        await queries.leave_all(session, user_id)
        await queries.cancel_tickets_of(session, user_id)
        if host is not None:
            await archive_resource(session, host.no)
            await outbox.enqueue(session, "host.archived", host.id, by=by, before=host.as_json())
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
        await end_password_resets(session, user_id)
        await delete_api_keys(session, user_id)
        await outbox.enqueue(session, "user.deleted", user_id, by=by)
        await promote(session, {*numbers, *(no for booking in bookings for no in booking.resource_nos)}, now=now)
        await once.keep(session, None)
    revocations.user_out(user_id)
