"""What a user is, and what may be said without a database."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.accounts.errors import AdminNotOffered, EmailTaken
from holdfast.core.answers import version_tag
from holdfast.core.clock import instant_text

#: A used refresh token gives the same child again for this long: the answer may have been lost on the way.
RETRY_WINDOW = timedelta(seconds=10)
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


def may_retry(used_at: datetime, *, now: datetime) -> bool:
    """True where a used refresh token may give its child once more."""
    return now - used_at <= RETRY_WINDOW
