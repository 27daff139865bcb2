"""Ids are made before the insert: UUIDv7 (RFC 9562 section 5.7), so that index pages fill in order."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh, time-ordered id."""
    return uuid7()
