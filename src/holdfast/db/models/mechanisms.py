"""The outbox and the idempotency keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


class OutboxMessage(Base):
    """What happened, written with the change. `number` is given by the relay, in order, once the row is committed.

    Never updated otherwise and never deleted: the same rows are the audit log.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_unnumbered", "occurred_at", postgresql_where=text("number IS NULL")),
        Index("outbox_one_per_number", "number", unique=True, postgresql_where=text("number IS NOT NULL")),
        Index("outbox_of_a_subject", "subject_id", "occurred_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    type: Mapped[str]
    subject_id: Mapped[UUID]
    actor_id: Mapped[UUID | None]
    actor_role: Mapped[str]
    request_id: Mapped[str | None]
    address: Mapped[str | None]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # clock_timestamp(), not now(): several messages of one transaction keep their order.
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class IdempotencyKey(Base):
    """A caller's key, what was asked with it, and the first answer.

    `status` is null while a booking waits for its conference link: `booking_id` is then the id that the provider was
    asked with, and until `busy_until` a repeat is "in progress".
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("status IS NOT NULL OR booking_id IS NOT NULL", name="have_an_answer_or_a_booking"),
        Index("idempotency_keys_created_at_idx", "created_at"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    content_type: Mapped[str | None]
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    body: Mapped[bytes | None]
    booking_id: Mapped[UUID | None]
    busy_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
