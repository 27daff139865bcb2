"""The development mailbox: where mails end that no server takes."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from holdfast.adapters.mail import Keep
from holdfast.core.errors import NotFound
from holdfast.db.database import Database
from holdfast.jobs import Periodic
from holdfast.notifications import queries
from holdfast.notifications.rules.pages import KeptMail

#: Mails that are kept, and listed.
_KEPT, _LISTED = 1_000, 100


def keep_in(db: Database) -> Keep:
    """Where the mailbox's mailer puts its mails."""

    async def keep(to: str, subject: str, message: bytes) -> None:
        async with db.transaction() as session:
            await queries.insert_mail(session, to=to, subject=subject, message=message)

    return keep


async def list_mails(db: Database) -> Sequence[KeptMail]:
    """The latest mails."""
    async with db.transaction() as session:
        return await queries.list_mails(session, limit=_LISTED)


async def get_mail(db: Database, mail_id: UUID) -> bytes:
    """A whole mail. Raises NotFound."""
    async with db.transaction() as session:
        found = await queries.find_mail(session, mail_id)
    if found is None:
        raise NotFound
    return found


def periodic(db: Database) -> tuple[Periodic, ...]:
    """What is done every so often: the mailbox does not grow without end."""

    async def tidy() -> None:
        async with db.transaction() as session:
            await queries.delete_old_mails(session, keep=_KEPT)

    return (Periodic("mails.tidy", timedelta(minutes=5), tidy),)
