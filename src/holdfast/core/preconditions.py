"""`If-Match` (RFC 9110 section 13.1.1): a change meant for one version of an object. Decided under the object's lock."""

from collections.abc import Mapping
from typing import Any

from holdfast.core.errors import Stale


def named_tags(header: str) -> set[str]:
    """The entity tags that a header lists, weak ones as if strong."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def check_if_match(if_match: str | None, etag: str, present: Mapping[str, Any]) -> None:
    """Raise Stale, with the present state, where the header names no version that is still the present one."""
    if if_match is None or if_match.strip() == "*" or etag in named_tags(if_match):
        return
    raise Stale(details={"present": dict(present), "etag": etag})
