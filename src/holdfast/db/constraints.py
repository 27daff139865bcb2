"""Database errors by the name of the constraint that was broken; all others pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import IntegrityError

from holdfast.core.errors import Refusal


@contextmanager
def refused_by(constraints: Mapping[str, type[Refusal]]) -> Iterator[None]:
    """Turn the violation of a named constraint into the refusal that it stands for."""
    try:
        yield
    except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as error:
        # From SQLAlchemy the driver's error comes wrapped, from `fetch_in` as it is.
        cause = error.orig.__cause__ if isinstance(error, IntegrityError) and error.orig is not None else error
        name = cause.constraint_name if isinstance(cause, asyncpg.PostgresError) else None
        refusal = constraints.get(name or "")
        if refusal is None:
            raise
        raise refusal from error
