"""Bookings, the units that they have or had, series, holds, and those who wait for a place or for their turn."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Interval, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, Range
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


class Booking(Base):
    """Who has what: history, never deleted. `start_at` and `end_at` span its units (the index of one's own bookings)."""

    __tablename__ = "bookings"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'cancelled')", name="status_is_known"),
        CheckConstraint("kind IN ('room', 'host', 'event')", name="kind_is_known"),
        CheckConstraint("(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="say_when_cancelled"),
        CheckConstraint("start_at < end_at", name="begin_before_they_end"),
        Index("bookings_of_a_user", "user_id", "start_at", "id"),
        Index("bookings_newest_first", "created_at", "id"),
        Index(
            "bookings_to_remind_of",
            "start_at",
            postgresql_where=text("status = 'active' AND reminded_of IS DISTINCT FROM start_at"),
        ),
        Index("bookings_of_a_series", "series_id", "start_at", postgresql_where=text("series_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    series_id: Mapped[UUID | None] = mapped_column(ForeignKey("series.id"))
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    start_at: Mapped[datetime]
    # Null for an event that does not say when it ends.
    end_at: Mapped[datetime | None]
    title: Mapped[str | None]
    notes: Mapped[str | None]
    conference_link: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cancelled_at: Mapped[datetime | None]
    # The start that the user was reminded of: another start is reminded of again.
    reminded_of: Mapped[datetime | None]


class BookingUnit(Base):
    """One unit of a booking, with the slot id it was booked by: survives the claim and any change of schedule.

    `during` is the time of the slot; of a seat, that of the event (one instant where no end is known).
    """

    __tablename__ = "booking_units"
    __table_args__ = (Index("booking_units_of_a_resource", "resource_no", "booking_id"),)

    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    seat_no: Mapped[int] = mapped_column(server_default="0")
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    slot_id: Mapped[UUID]


class Series(Base):
    """Bookings that were made as one: the rule, and the first occurrence that it counts from."""

    __tablename__ = "series"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    recurrence: Mapped[str]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Hold(Base):
    """Units kept for a user until `expires_at`. Live while its claims are there and have not lapsed.

    `booking_id` is the id that its booking will have: the conference provider is asked with it before there is a booking.
    """

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("origin IN ('request', 'conference', 'waitlist')", name="origin_is_known"),
        CheckConstraint("outcome IN ('booked', 'released', 'lapsed')", name="outcome_is_known"),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="say_how_they_ended"),
        Index("holds_of_a_user", "user_id", "expires_at", postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    booking_id: Mapped[UUID]
    #: A user's own, one that waits for a conference link, or an offer to somebody on the waitlist.
    origin: Mapped[str] = mapped_column(server_default="request")
    lasts_for: Mapped[timedelta] = mapped_column(Interval)
    extended_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


class WaitlistEntry(Base):
    """Somebody who waits for a slot, or for seats of an event (`slot_id` null). `number` is the order of committed joins."""

    __tablename__ = "waitlist_entries"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'offered', 'booked', 'lapsed', 'left')", name="status_is_known"),
        CheckConstraint("quantity > 0", name="quantity_is_positive"),
        CheckConstraint("status <> 'offered' OR hold_id IS NOT NULL", name="offered_have_a_hold"),
        CheckConstraint("status <> 'booked' OR booking_id IS NOT NULL", name="booked_have_a_booking"),
        CheckConstraint("(status IN ('waiting', 'offered')) = (ended_at IS NULL)", name="say_when_they_ended"),
        Index(
            "waitlist_entries_once_per_user",
            "user_id",
            "resource_no",
            "slot_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("waitlist_entries_in_line", "resource_no", "number", postgresql_where=text("status = 'waiting'")),
        Index("waitlist_entries_of_a_user", "user_id", "number"),
        Index("waitlist_entries_hold_id_idx", "hold_id", postgresql_where=text("hold_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Identity(always=True))
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    slot_id: Mapped[UUID | None]
    # The slot's time, or the event's.
    start_at: Mapped[datetime]
    end_at: Mapped[datetime | None]
    quantity: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    auto_book: Mapped[bool]
    status: Mapped[str] = mapped_column(server_default="waiting")
    hold_id: Mapped[UUID | None] = mapped_column(ForeignKey("holds.id"))
    booking_id: Mapped[UUID | None] = mapped_column(ForeignKey("bookings.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]


class BookingRequest(Base):
    """A booking request's place in the fair queue of a resource. `number` is the order of committed arrivals.

    `answer_by` is until when its client waits for the answer; null once the client was told where to look (202).
    """

    __tablename__ = "booking_requests"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'booked', 'refused', 'cancelled')", name="status_is_known"),
        CheckConstraint("(status = 'waiting') = (ended_at IS NULL)", name="say_when_they_ended"),
        CheckConstraint("status <> 'booked' OR booking_id IS NOT NULL", name="booked_have_a_booking"),
        Index(
            "booking_requests_in_line",
            "resource_no",
            "number",
            postgresql_where=text("status = 'waiting' AND hold_id IS NULL"),
        ),
        Index("booking_requests_of_a_user", "user_id", "number"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Identity(always=True))
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    # What is wanted, and by whom it was asked for: enough to book it in another process, or after a restart.
    request: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="waiting")
    booking_id: Mapped[UUID | None] = mapped_column(ForeignKey("bookings.id"))
    # Its turn has come, and what it wants is held until there is a conference link.
    hold_id: Mapped[UUID | None] = mapped_column(ForeignKey("holds.id"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    answer_by: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
