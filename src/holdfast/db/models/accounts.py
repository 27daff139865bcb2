"""Users, their sessions (one per log-in) and the refresh tokens of a session."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from holdfast.db.models.base import Base


class User(Base):
    """A person. `email_key` is the e-mail as it is compared: without case. A deleted user's row stays, emptied."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'user')", name="role_is_known"),
        CheckConstraint("status IN ('active', 'suspended', 'deleted')", name="status_is_known"),
        Index("users_one_per_email", "email_key", unique=True),
        Index("users_newest_first", "created_at", "id"),
        Index("users_blocked", "id", postgresql_where=text("status <> 'active'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_key: Mapped[str]
    name: Mapped[str | None]
    role: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    password_hash: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Session(Base):
    """One log-in and all tokens that follow from it (a "family"). `network` is where it began, for the log-in limit."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("sessions_user_id_idx", "user_id"),
        Index("sessions_ended_at_idx", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    network: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RefreshToken(Base):
    """A refresh token's hash. `used_at` is when its child was made; a later use ends the session."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index("refresh_tokens_session_id_idx", "session_id"),)

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
