"""The families of refusals. A feature's own refusals, with their codes, live in its `errors.py`.

One table in `web/errors.py` turns a family into an HTTP status; nothing here knows about HTTP.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class Refusal(Exception):
    """A use case says no. `code` is stable and upper-case, `message` is a sentence for the caller.

    `details` names the rule, its value and what is possible instead; it must be JSON-serializable and
    never contain what the caller sent.
    """

    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, message: str | None = None, *, details: Mapping[str, Any] | None = None) -> None:
        self.text = message if message is not None else self.message
        self.details = details
        super().__init__(self.text)


class Invalid(Refusal):
    """The request itself is wrong: repeating it unchanged never helps."""

    code = "INVALID_REQUEST"
    message = "The request is invalid."


class Unauthenticated(Refusal):
    """Nobody known is calling."""

    code = "UNAUTHORIZED"
    message = "A valid bearer token is needed: log in, then send 'Authorization: Bearer <token>'."


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    code = "FORBIDDEN"
    message = "Your role, or the owner of this object, does not allow this."


class NotFound(Refusal):
    """There is no such thing, or not for this caller."""

    code = "NOT_FOUND"
    message = "There is no such thing."


class Conflict(Refusal):
    """The state of the world is in the way; it may change."""

    code = "CONFLICT"
    message = "The present state does not allow this."


class Gone(Refusal):
    """It was there and is over."""

    code = "GONE"
    message = "This is over."


class Stale(Refusal):
    """`If-Match` names a version that is no longer the present one; `details` carries the present state."""

    code = "CHANGED_MEANWHILE"
    message = "The object was changed meanwhile: look at its present state and send your change again."


class KeyReused(Refusal):
    """An idempotency key came back with another request (the only 422 of the service)."""

    code = "IDEMPOTENCY_KEY_REUSED"
    message = "This Idempotency-Key was used for another request: choose a new key for a new request."


class TooMany(Refusal):
    """The caller came too often. `retry_after` is in whole seconds."""

    code = "TOO_MANY_REQUESTS"
    message = "Too many attempts: wait, then try again."

    def __init__(self, message: str | None = None, *, retry_after: int) -> None:
        super().__init__(message, details={"retryAfterSeconds": retry_after})
        self.retry_after = retry_after


class Busy(Refusal):
    """A wait came to its end: a lock, a connection, the database. Trying again soon may help."""

    code = "BUSY"
    message = "The service is busy: try again in a moment."
    retry_after: int = 1


class UpstreamFailed(Refusal):
    """A service that we depend on refused, failed or was too slow."""

    code = "UPSTREAM_FAILED"
    message = "A service that Holdfast depends on failed: try again later."
