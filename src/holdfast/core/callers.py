"""Who does something, from where: handed from the edge to the use case, and written into the outbox with it."""

from dataclasses import dataclass
from uuid import UUID

from holdfast.core.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller. `request_id` and `address` (the peer's IP address) are None outside of HTTP.

    `key_id` is the API key that a program came with in its owner's name, None for people who logged in.
    """

    user_id: UUID | None
    role: str
    session_id: UUID | None = None
    request_id: str | None = None
    address: str | None = None
    key_id: UUID | None = None
    # The span of the request (a traceparent): what travels together with others' is still seen as this one's consequence.
    trace: str | None = None

    @property
    def is_admin(self) -> bool:
        """True for the role admin."""
        return self.role == "admin"

    @property
    def own_id(self) -> UUID:
        """The caller's user id. Raises Unauthenticated for callers who are no user."""
        if self.user_id is None:
            raise Unauthenticated
        return self.user_id


#: The service itself: seeding, the command line, and what the worker does without anybody asking.
SYSTEM = Caller(user_id=None, role="admin")
