"""What goes out, and who may fetch it: webhooks and their deliveries, calendar feeds, the development mailbox."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


class Webhook(Base):
    """Where messages are sent to. No types: all of them. After a rotation both secrets sign until `previous_secret_until`."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("NOT enabled OR disabled_reason IS NULL", name="say_why_only_when_disabled"),
        CheckConstraint("NOT enabled OR deleted_at IS NULL", name="are_disabled_when_deleted"),
        Index("webhooks_newest_first", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")
    description: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    # Since when nothing has come through; null after a success.
    failing_since: Mapped[datetime | None]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Out of sight; a job removes its deliveries, which may be many, a batch at a time, and then the row.
    deleted_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """One message for one webhook: its body as it is sent each time, and what became of it.

    Deliveries of one subject (a booking) go one after the other, in the order of `number`, that of the outbox.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'delivered', 'failed', 'cancelled')", name="status_is_known"),
        CheckConstraint("(status = 'pending') = (ended_at IS NULL)", name="say_when_they_ended"),
        Index("webhook_deliveries_once_per_message", "webhook_id", "message_id", unique=True),
        Index(
            "webhook_deliveries_in_order",
            "webhook_id",
            "subject_id",
            "number",
            "id",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("webhook_deliveries_newest_first", "webhook_id", "created_at", "id"),
        Index("webhook_deliveries_ended_at_idx", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    # The message's id on the wire: the same over all attempts.
    message_id: Mapped[str]
    number: Mapped[int]
    subject_id: Mapped[UUID]
    type: Mapped[str]
    body: Mapped[str]
    trace: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    # Counts the requests that were begun and is the fencing token: a worker that was stopped finds another number there.
    attempts: Mapped[int] = mapped_column(server_default="0")
    # Attempts that failed since it was made, or asked for again: which pause comes next.
    failures: Mapped[int] = mapped_column(server_default="0")
    last_attempt_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    response_status: Mapped[int | None] = mapped_column(SmallInteger)
    response_milliseconds: Mapped[int | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]


class CalendarFeed(Base):
    """A private address of a user's or a room's calendar. Only the hash of its token is kept."""

    __tablename__ = "calendar_feeds"
    __table_args__ = (Index("calendar_feeds_of_a_user", "user_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    # Null: the bookings of the user.
    resource_no: Mapped[int | None] = mapped_column(ForeignKey("resources.no"))
    hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Mail(Base):
    """A mail that no server was there to take: the development mailbox, read at its page."""

    __tablename__ = "mails"
    __table_args__ = (Index("mails_newest_first", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    to_address: Mapped[str]
    subject: Mapped[str]
    # The whole message (RFC 5322), as it would have been sent.
    message: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
