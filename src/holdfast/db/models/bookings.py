"""Bookings, the units that they have or had, and holds."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, Range
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
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    title: Mapped[str | None]
    notes: Mapped[str | None]
    conference_link: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cancelled_at: Mapped[datetime | None]


class BookingUnit(Base):
    """One unit of a booking, with the slot id it was booked by: survives the claim and any change of schedule."""

    __tablename__ = "booking_units"
    __table_args__ = (Index("booking_units_of_a_resource", "resource_no", "booking_id"),)

    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.id"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    seat_no: Mapped[int] = mapped_column(server_default="0")
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    slot_id: Mapped[UUID]


class Hold(Base):
    """Units kept for a user until `expires_at`. Live while its claims are there and have not lapsed.

    `booking_id` is the id that its booking will have: the conference provider is asked with it before there is a booking.
    """

    __tablename__ = "holds"
    __table_args__ = (Index("holds_of_a_user", "user_id", "expires_at", postgresql_where=text("ended_at IS NULL")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    booking_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
