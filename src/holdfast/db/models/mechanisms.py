"""The outbox, the jobs and the idempotency keys."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DDL, CheckConstraint, ForeignKey, Index, SmallInteger, event, func, text
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
        # The audit log's filters. Newest first without one is the newest of each type.
        Index("outbox_of_a_type", "type", "occurred_at", "id"),
        Index("outbox_of_an_actor", "actor_id", "occurred_at"),
        Index("outbox_of_a_key", "actor_key_id", "occurred_at", postgresql_where=text("actor_key_id IS NOT NULL")),
        Index("outbox_of_a_request", "request_id", postgresql_where=text("request_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    type: Mapped[str]
    subject_id: Mapped[UUID]
    actor_id: Mapped[UUID | None]
    actor_role: Mapped[str]
    # The API key that the actor came with; null for a log-in.
    actor_key_id: Mapped[UUID | None]
    request_id: Mapped[str | None]
    address: Mapped[str | None]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # The W3C trace context of the request, so that what follows is seen as its consequence.
    trace: Mapped[str | None]
    # clock_timestamp(), not now(): several messages of one transaction keep their order.
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


#: Nobody rewrites the audit log, this service included: rows are only added, and numbered once by the relay.
OUTBOX_GUARDS = (
    """
CREATE FUNCTION outbox_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the outbox is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$
""",
    """
CREATE TRIGGER outbox_is_never_rewritten
BEFORE DELETE OR UPDATE OF id, type, subject_id, actor_id, actor_role, actor_key_id, request_id, address, before, after,
  trace, occurred_at ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_refuses()
""",
    """
CREATE TRIGGER outbox_is_numbered_once BEFORE UPDATE OF number ON outbox
FOR EACH ROW WHEN (OLD.number IS NOT NULL) EXECUTE FUNCTION outbox_refuses()
""",
)
for _guard in OUTBOX_GUARDS:
    event.listen(OutboxMessage.__table__, "after_create", DDL(_guard))  # type: ignore[no-untyped-call]


class Job(Base):
    """Work for later, or for somebody who has time. Claimed with SKIP LOCKED; done ones are deleted, dead ones stay.

    `attempt` counts the claims and is the fencing token: whoever was stopped for longer than its lease finds another number
    there, and changes nothing any more.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'active', 'dead')", name="state_is_known"),
        CheckConstraint("(state = 'active') = (leased_until IS NOT NULL)", name="are_leased_while_active"),
        Index("jobs_due", "kind", "run_at", postgresql_where=text("state = 'waiting'")),
        Index("jobs_leased", "leased_until", postgresql_where=text("state = 'active'")),
        Index("jobs_failed", "failed_at", postgresql_where=text("failed_at IS NOT NULL")),
        Index("jobs_once_per_key", "kind", "key", unique=True, postgresql_where=text("key IS NOT NULL AND state <> 'dead'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key: Mapped[str | None]
    payload: Mapped[dict[str, Any]]
    trace: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="waiting")
    attempt: Mapped[int] = mapped_column(server_default="0")
    # Failures since it was enqueued or re-queued: which pause comes next.
    failures: Mapped[int] = mapped_column(server_default="0")
    # Asked for, by its key, while it was under way: it may have looked too early, and is run once more.
    again: Mapped[bool] = mapped_column(server_default="false")
    run_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    leased_until: Mapped[datetime | None]
    error: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobCount(Base):
    """How many jobs of a kind were completed, and how many runs failed, for ever: done jobs leave no row."""

    __tablename__ = "job_counts"

    kind: Mapped[str] = mapped_column(primary_key=True)
    completed: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")


class PeriodicRun(Base):
    """When a periodic job last ran: its row is the lock of whoever runs it, in whichever process."""

    __tablename__ = "periodic_runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    ran_at: Mapped[datetime]


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
