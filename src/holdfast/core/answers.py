"""An answer as plain values: what a router sends and what an idempotency key keeps, byte for byte."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and the headers that belong to the answer (`Location`, `ETag`); content type apart."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


def answer(value: Mapping[str, Any] | None, *, status: int = 200, location: str | None = None, etag: str | None = None) -> Answer:
    """An answer whose body is `value` as JSON (none: an empty body)."""
    headers: dict[str, str] = {}
    if location is not None:
        headers["Location"] = location
    if etag is not None:
        headers["ETag"] = etag
    return Answer(status, b"" if value is None else orjson.dumps(value), headers)


def version_tag(version: int) -> str:
    """The strong `ETag` (RFC 9110 section 8.8.3) of an object's version."""
    return f'"{version}"'
