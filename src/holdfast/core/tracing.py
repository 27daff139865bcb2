"""Traces: what follows from what, over processes (W3C trace context). Nothing where no collector is set."""

from collections.abc import Iterator
from contextlib import contextmanager


def current() -> str | None:
    """The `traceparent` of what is under way, None where nobody traces."""
    return None


@contextmanager
def span(_name: str, _parent: str | None = None, **_attributes: str | int) -> Iterator[None]:
    """A part of a trace; `parent` is the traceparent that it follows from."""
    yield
