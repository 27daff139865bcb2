"""Refusals of a repeat."""

from holdfast.core.errors import Conflict


class InProgress(Conflict):
    """The first request with this key still runs."""

    code = "IDEMPOTENCY_IN_PROGRESS"
    message = "The first request with this Idempotency-Key is still running: repeat it in a moment."
