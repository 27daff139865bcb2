"""What can go wrong with the embedded server, in sentences for the person at the keyboard."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class EmbeddedPostgresError(Exception):
    """The embedded server cannot do what was asked; the message names the way out, and never holds the password."""


class EmbeddedUnavailable(EmbeddedPostgresError):
    """There is no embedded server on this machine; the message names HOLDFAST_DATABASE_URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: set HOLDFAST_DATABASE_URL to a PostgreSQL 15 or newer instead.")


def disk_full(path: Path) -> EmbeddedPostgresError:
    """Word the error for a disk without room."""
    return EmbeddedPostgresError(
        f"The disk that holds {path} is full: make room (a new database takes about 50 MB), then start again."
    )


def not_writable(path: Path) -> EmbeddedPostgresError:
    """Word the error for a folder that is closed to this process."""
    return EmbeddedPostgresError(
        f"{path} cannot be written by this user: choose another folder with HOLDFAST_DATA_DIR, or open that one."
    )


@contextmanager
def plain_sentences(path: Path) -> Iterator[None]:
    """Turn the system's errors about a folder into sentences; the cause stays attached."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path) from error
        if error.errno in _CLOSED:
            raise not_writable(path) from error
        reason = f"The embedded PostgreSQL in {path} cannot be used ({error.strerror or error}): "
        way_out = "choose another folder with HOLDFAST_DATA_DIR, or set HOLDFAST_DATABASE_URL."
        raise EmbeddedPostgresError(reason + way_out) from error
