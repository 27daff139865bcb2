"""What there is to book: resources of every kind, their details, schedules, published slots and seats."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, SmallInteger, UniqueConstraint, func, literal_column, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


class Resource(Base):
    """A room, a host or an event. `no` is what claims and slot ids name; its row is what takers lock."""

    __tablename__ = "resources"
    __table_args__ = (CheckConstraint("kind IN ('room', 'host', 'event')", name="kind_is_known"),)

    no: Mapped[int] = mapped_column(Identity(always=True, maxvalue=(1 << 40) - 1), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    time_zone: Mapped[str]
    policy: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    archived_at: Mapped[datetime | None]


class Room(Base):
    """The details of a resource of kind room; its own `kind` says which sort of room (bay, desk, court, ...)."""

    __tablename__ = "rooms"
    __table_args__ = (CheckConstraint("capacity > 0", name="capacity_is_positive"),)

    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"), primary_key=True)
    kind: Mapped[str] = mapped_column(server_default="room")
    description: Mapped[str | None]
    capacity: Mapped[int | None]
    location: Mapped[str | None]
    features: Mapped[list[str]] = mapped_column(ARRAY(TEXT), server_default="{}")


class Schedule(Base):
    """When a resource can be had: at most one rule per resource, which the primary key promises.

    `windows` is the wire's list of `{daysOfWeek, startTime, endTime}`, checked by `core.schedules`.
    """

    __tablename__ = "schedules"
    __table_args__ = (CheckConstraint("slot_minutes BETWEEN 5 AND 1440", name="slot_minutes_in_range"),)

    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    slot_minutes: Mapped[int] = mapped_column(SmallInteger)
    windows: Mapped[list[Any]]
    version: Mapped[int] = mapped_column(server_default="1")


class Host(Base):
    """The details of a resource of kind host: a user who offers time. `resources.name` is the display name."""

    __tablename__ = "hosts"

    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), unique=True)
    bio: Mapped[str | None]


class HostSlot(Base):
    """A slot that a host published by itself. A deleted one stays as history, and is out of its neighbours' way."""

    __tablename__ = "host_slots"
    __table_args__ = (
        ExcludeConstraint(
            (literal_column("int8range(resource_no, resource_no, '[]'::text)"), "&&"),
            ("during", "&&"),
            name="host_slots_never_overlap",
            using="gist",
            where=text("deleted_at IS NULL"),
        ),
        CheckConstraint(
            "NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during) "
            "AND isfinite(lower(during)) AND isfinite(upper(during))",
            name="are_half_open",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class Event(Base):
    """The details of a resource of kind event. `seats_version` changes when seats are added: layouts are cached by it."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("start_at < end_at", name="begin_before_they_end"),
        CheckConstraint("sales_start_at < sales_end_at", name="sell_before_they_stop_selling"),
        Index("events_soonest_first", "start_at", "resource_no"),
    )

    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"), primary_key=True)
    description: Mapped[str | None]
    venue: Mapped[str | None]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime | None]
    sales_start_at: Mapped[datetime | None]
    sales_end_at: Mapped[datetime | None]
    # The organizer's own fields; `metadata` is taken by SQLAlchemy.
    own_fields: Mapped[dict[str, Any]] = mapped_column("metadata", server_default="{}")
    seats_version: Mapped[int] = mapped_column(server_default="0")


class Seat(Base):
    """A seat of an event; never deleted. `no` is what claims name, and the order in which seats were made."""

    __tablename__ = "seats"
    __table_args__ = (
        UniqueConstraint("resource_no", "label", name="seats_one_per_label"),
        Index("seats_of_an_event", "resource_no", "no"),
    )

    no: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)
    resource_no: Mapped[int] = mapped_column(ForeignKey("resources.no"))
    label: Mapped[str]
    section: Mapped[str | None]
    row_name: Mapped[str | None]
    number: Mapped[int | None]
