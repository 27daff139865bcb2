"""What the account routes take and give."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from holdfast.web.fields import Body, Email, Instant, Text
from holdfast.web.openapi import PaginationAnswer

Role = Literal["admin", "user"]


#: Any non-empty string: length and script don't matter (the body's limit bounds it).
Password = Annotated[str, Text(1 << 20, empty=False), Field(json_schema_extra={"format": "password"})]
Name = Annotated[str, Text(200, blank=False)]
Token = Annotated[str, Text(2_000)]
Scope = Literal["read", "write"]


class DummyLogin(Body):
    """Which of the two fixed users."""

    role: Role


class Registration(Body):
    """A new account."""

    email: Email
    password: Password
    role: Role
    name: Name | None = None


class Login(Body):
    """Credentials."""

    email: Email
    password: Password


class Refresh(Body):
    """The refresh token to trade."""

    refreshToken: Token


class Logout(Body):
    """Another session of the caller's to end besides the present one."""

    refreshToken: Token | None = None


class ProfileChange(Body):
    """What is to change; what is not named stays."""

    name: Name | None = None


class PasswordChange(Body):
    """The old and the new password."""

    currentPassword: Password
    newPassword: Password


class ResetRequest(Body):
    """Whose password was forgotten."""

    email: Email


class PasswordReset(Body):
    """The token out of the mail, and the new password."""

    token: Token
    newPassword: Password


class NewApiKey(Body):
    """What an API key is called, and what it may: both without `scopes`. Without `expiresAt` it has no end."""

    name: Name = Field(examples=["Timetable on the wall"])
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=2)] | None = None
    expiresAt: Instant | None = None


class UserChange(Body):
    """What an admin changes of a user; what is not named stays."""

    role: Role | None = None
    status: Literal["active", "suspended"] | None = None


class TokenAnswer(BaseModel):
    """An access token."""

    token: str


class TokenPairAnswer(TokenAnswer):
    """An access token, and the refresh token that gives the next one. `expiresIn` is in seconds."""

    refreshToken: str
    expiresIn: int
    tokenType: Literal["Bearer"]


class ResetRequestAnswer(BaseModel):
    """The same for everybody."""

    message: str


class ApiKeyShape(BaseModel):
    """An API key, without its secret. `lastUsedAt` is exact to the minute."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    name: str
    scopes: list[Scope]
    createdAt: str = Field(json_schema_extra={"format": "date-time"})
    expiresAt: str | None = Field(json_schema_extra={"format": "date-time"})
    lastUsedAt: str | None = Field(json_schema_extra={"format": "date-time"})


class ApiKeyAnswer(BaseModel):
    """One API key."""

    apiKey: ApiKeyShape


class NewApiKeyAnswer(ApiKeyAnswer):
    """A new API key, and the secret that nobody can be shown again."""

    secret: str = Field(examples=["hf_..."])


class ApiKeysAnswer(BaseModel):
    """All of your API keys."""

    apiKeys: list[ApiKeyShape]


class UserShape(BaseModel):
    """A user."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    email: str = Field(json_schema_extra={"format": "email"})
    name: str | None
    role: Role
    isHost: bool
    status: Literal["active", "suspended", "deleted"]
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class UserAnswer(BaseModel):
    """One user."""

    user: UserShape


class UsersAnswer(BaseModel):
    """A page of users."""

    users: list[UserShape]
    pagination: PaginationAnswer
