"""The routes of the audit log, and of following every change (api.md sections 8 and 9)."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from holdfast.core.answers import answer
from holdfast.reports import schemas, service
from holdfast.reports.queries import Wanted
from holdfast.reports.rules import Types
from holdfast.web.access import AdminCaller
from holdfast.web.errors import send
from holdfast.web.fields import Id, Instant, Text
from holdfast.web.openapi import reads
from holdfast.web.paging import PageDep, cursor_answer, page_answer
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["reports"])

_Type = Annotated[str, Text(100, empty=False)]


@router.get(
    "/audit",
    operation_id="listAudit",
    summary="Who did what to what, when, from where",
    responses=reads(schemas.AuditAnswer, 400, 403),
)
async def list_audit(
    request: Request,
    _caller: AdminCaller,
    db: DatabaseDep,
    page: PageDep,
    types: Annotated[
        list[_Type] | None,
        Query(
            alias="type",
            description="Such as booking.cancelled, or with a dot at the end all that begin so: `booking.`. Repeat it: any fits.",
            max_length=50,
        ),
    ] = None,
    subject_id: Annotated[Id | None, Query(alias="subjectId", description="What it happened to.")] = None,
    actor_id: Annotated[Id | None, Query(alias="actorId", description="The user who did it, also with an API key.")] = None,
    api_key_id: Annotated[Id | None, Query(alias="apiKeyId")] = None,
    request_id: Annotated[
        Annotated[str, Text(200, empty=False)] | None, Query(alias="requestId", description="X-Request-ID of the answer to it.")
    ] = None,
    start: Annotated[Instant | None, Query(alias="from", description="What happened then or later.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="What happened before that.")] = None,
    cursor: Annotated[
        Annotated[str, Text(500)] | None,
        Query(description="Walk instead of paging: empty to begin, then `nextCursor` of the answer before."),
    ] = None,
) -> Response:
    """For admins; newest first. All filters together must fit. The log is only ever added to; nothing secret is in it."""
    wanted = Wanted(Types.of(types or ()), subject_id, actor_id, api_key_id, request_id, start, end)
    if cursor is not None:
        found, following = await service.walk_audit(db, wanted, cursor=cursor, limit=page.size)
        return send(cursor_answer(request, "audit", [one.as_json() for one in found], following))
    found, total = await service.list_audit(db, wanted, offset=page.offset, limit=page.size)
    return send(page_answer(request, "audit", [one.as_json() for one in found], page, total))


@router.get(
    "/changes",
    operation_id="listChanges",
    summary="Every change in order, without gaps",
    responses=reads(schemas.ChangesAnswer, 400, 403),
)
async def list_changes(
    _caller: AdminCaller,
    db: DatabaseDep,
    after: Annotated[
        Annotated[str, Text(500)] | None,
        Query(description="`nextCursor` of the answer before; without it from the first change there was."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Changes of one answer, at most.")] = 100,
) -> Response:
    """For admins and their API keys: for systems that were away, or that keep a copy.

    A change appears a moment after its commit, when it has got its `number`; nothing is ever added in front of a cursor. Keep
    `nextCursor`, and ask again: at once while `more` is true, else whenever you like.
    """
    found, following, more = await service.walk_changes(db, after=after, limit=limit)
    return send(answer({"changes": [one.as_json() for one in found], "nextCursor": following, "more": more}))
