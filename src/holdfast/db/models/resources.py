"""What there is to book: resources of every kind, the details of rooms, and schedules."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, SmallInteger, func
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
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
