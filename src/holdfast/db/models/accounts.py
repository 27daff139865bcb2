"""Users, their sessions (one per log-in), the refresh tokens of a session, and other secrets that open a door."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
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


class ApiKey(Base):
    """A key that a program comes with instead of a log-in. Only its hash is kept; it never may more than its owner."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("scopes <@ ARRAY['read', 'write'] AND cardinality(scopes) > 0", name="scopes_are_known"),
        Index("api_keys_of_a_user", "user_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class PasswordReset(Base):
    """The hash of a token that was mailed to a user who forgot the password: good once, until `expires_at`."""

    __tablename__ = "password_resets"
    __table_args__ = (Index("password_resets_user_id_idx", "user_id"),)

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class StreamTicket(Base):
    """The hash of a ticket that opens one stream, for browsers, which cannot send a header there. Deleted when it is used."""

    __tablename__ = "stream_tickets"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    role: Mapped[str]
    session_id: Mapped[UUID | None]
    # When the token that it was made with ends, and with it the stream.
    token_expires_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
