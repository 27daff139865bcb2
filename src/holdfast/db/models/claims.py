"""The one table of claims, and closures. Only `holdfast.claims` writes claims."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, literal_column, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


def _as_range(column: str) -> Any:
    """A number as a range of one, so that the constraint needs no extension (btree_gist)."""
    return literal_column(f"int8range({column}, {column}, '[]'::text)")


class Claim(Base):
    """A unit is taken: a resource (seat 0) during a period, or one seat of an event for good.

    Two claims of one unit never overlap, whatever the application does. A hold's end cannot be part of the constraint
    (it depends on the clock), which is why lapsed holds are released inside the taking transaction.
    """

    __tablename__ = "claims"
    __table_args__ = (
        ExcludeConstraint(
            (_as_range("resource_no"), "&&"),
            (_as_range("seat_no"), "&&"),
            ("during", "&&"),
            name="claims_never_overlap",
            using="gist",
        ),
        CheckConstraint("num_nonnulls(booking_id, hold_id, closure_id) = 1", name="have_one_holder"),
        CheckConstraint("(expires_at IS NOT NULL) = (hold_id IS NOT NULL)", name="expire_only_as_holds"),
        CheckConstraint("NOT isempty(during)", name="are_never_empty"),
        CheckConstraint(
            "CASE WHEN seat_no = 0 THEN lower_inc(during) AND NOT upper_inc(during) AND NOT upper_inf(during) "
            "AND isfinite(lower(during)) AND isfinite(upper(during)) "
            "ELSE lower_inf(during) AND upper_inf(during) END",
            name="are_half_open_or_a_seat_for_good",
        ),
        Index("claims_booking_id_idx", "booking_id", postgresql_where=text("booking_id IS NOT NULL")),
        Index("claims_hold_id_idx", "hold_id", postgresql_where=text("hold_id IS NOT NULL")),
        Index("claims_closure_id_idx", "closure_id", postgresql_where=text("closure_id IS NOT NULL")),
        # The same promise for seats, cheaper to read by: a seat map joins 10,000 of them.
        Index("claims_one_per_seat", "resource_no", "seat_no", unique=True, postgresql_where=text("seat_no <> 0")),
        # The time that bookings took of rooms and hosts, for reports: read without a look at the rows.
        Index(
            "claims_of_bookings_by_time",
            text("lower(during)"),
            postgresql_include=["during", "resource_no"],
            postgresql_where=text("booking_id IS NOT NULL AND seat_no = 0"),
        ),
        Index("claims_expires_at_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    no: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    seat_no: Mapped[int] = mapped_column(server_default="0")
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    # Which slot or seat it was taken by: what the booking that a hold becomes will say. Null for closures.
    slot_id: Mapped[UUID | None]
    booking_id: Mapped[UUID | None] = mapped_column(ForeignKey("bookings.id"))
    hold_id: Mapped[UUID | None] = mapped_column(ForeignKey("holds.id"))
    closure_id: Mapped[UUID | None] = mapped_column(ForeignKey("closures.id"))
    expires_at: Mapped[datetime | None]


class Closure(Base):
    """Why and by whom a resource is closed; when is said by its claim, and stays here for the list.

    Of seats (a block): without times, and over once its last claim is gone.
    """

    __tablename__ = "closures"
    __table_args__ = (
        CheckConstraint("start_at < end_at", name="begin_before_they_end"),
        CheckConstraint("(start_at IS NULL) = (end_at IS NULL)", name="have_both_times_or_none"),
        Index("closures_resource_no_idx", "resource_no", "start_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
