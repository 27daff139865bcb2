"""What a user is, and what may be said without a database."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.accounts.errors import AdminNotOffered, EmailTaken, ExpiryInPast, TooManyApiKeys
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text

#: A used refresh token gives the same child again for this long: the answer may have been lost on the way.
RETRY_WINDOW = timedelta(seconds=10)
#: How long a token for a new password is good after its mail was made.
RESET_LIFE = timedelta(minutes=30)
#: What an API key may: look, and everything (which includes looking).
SCOPES = ("read", "write")
#: API keys that one user may have, expired ones included: who needs more has forgotten to delete some.
MAX_API_KEYS = 50
#: Nobody registers here; the fixed users of /dummyLogin live here.
DUMMY_DOMAIN = "@dummy.holdfast.invalid"
DUMMY_IDS = {
    "admin": UUID("00000000-0000-4000-8000-00000000000a"),
    "user": UUID("00000000-0000-4000-8000-00000000000b"),
}


@dataclass(frozen=True, slots=True)
class User:
    """A user as others may see them; the password hash is not part of it."""

    id: UUID
    email: str
    name: str | None
    role: str
    status: str
    version: int
    created_at: datetime
    is_host: bool = False

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return version_tag(self.version)

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "email": self.email,
            "name": self.name,
            "role": self.role,
            "isHost": self.is_host,
            "status": self.status,
            "createdAt": instant_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner may see it; the secret was shown once, when it was made."""

    id: UUID
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "id": str(self.id),
            "name": self.name,
            "scopes": list(self.scopes),
            "createdAt": instant_text(self.created_at),
            "expiresAt": instant_text(self.expires_at) if self.expires_at else None,
            "lastUsedAt": instant_text(self.last_used_at) if self.last_used_at else None,
        }


def email_key(email: str) -> str:
    """The e-mail as it is compared: without case, composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).casefold())


def dummy_email(role: str) -> str:
    """The fixed e-mail of the fixed user of a role."""
    return f"{role}{DUMMY_DOMAIN}"


def check_registration(email: str, role: str, *, development: bool) -> None:
    """Raise AdminNotOffered in production, EmailTaken for the dummies' own addresses."""
    if role == "admin" and not development:
        raise AdminNotOffered
    if email_key(email).endswith(DUMMY_DOMAIN):
        raise EmailTaken


def may_reset(user: User) -> bool:
    """True where a user may be sent a token for a new password. The dummies' addresses are nobody's, and they have none."""
    return user.status == "active" and not email_key(user.email).endswith(DUMMY_DOMAIN)


def check_new_api_key(*, keys: int, expires_at: datetime | None, now: datetime) -> None:
    """Raise ExpiryInPast, TooManyApiKeys. `keys` is how many the user has."""
    if expires_at is not None and expires_at <= now:
        raise ExpiryInPast
    if keys >= MAX_API_KEYS:
        raise TooManyApiKeys(details={"maxApiKeys": MAX_API_KEYS})


def may_retry(used_at: datetime, *, now: datetime) -> bool:
    """True where a used refresh token may give its child once more."""
    return now - used_at <= RETRY_WINDOW
