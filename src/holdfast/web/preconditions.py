"""`ETag`, `If-Match`, `If-None-Match` at the edge (RFC 9110 section 13)."""

from typing import Annotated

from fastapi import Header, Request, Response

from holdfast.core.answers import Answer
from holdfast.core.preconditions import named_tags
from holdfast.web.errors import send

IfMatch = Annotated[
    str | None,
    Header(description="The ETag that the change is meant for; 412 if the object has another one by now."),
]


def conditional(request: Request, full: Answer) -> Response:
    """The answer, or 304 where `If-None-Match` names its ETag."""
    etag = full.headers.get("ETag")
    header = request.headers.get("if-none-match")
    if etag is not None and header is not None and (header.strip() == "*" or etag in named_tags(header)):
        return Response(status_code=304, headers={"ETag": etag})
    return send(full)
