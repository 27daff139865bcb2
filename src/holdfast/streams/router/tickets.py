"""POST /auth/ticket and POST /notices."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.streams import schemas, service
from holdfast.streams.service.opening import TICKET_LIFE
from holdfast.web.access import AdminCaller, LoggedInCaller, bearer_token
from holdfast.web.errors import send
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, refusals
from holdfast.web.routing import Route
from holdfast.web.state import StateDep

router = APIRouter(route_class=Route, tags=["streams"])


@router.post(
    "/auth/ticket",
    operation_id="makeStreamTicket",
    summary="A ticket that opens one stream from a browser",
    responses={200: {"description": "Done.", "model": schemas.TicketAnswer}, **refusals(401, 403)},
)
async def make_ticket(request: Request, caller: LoggedInCaller, state: StateDep) -> Response:
    """Browsers cannot send a token with `EventSource` or `WebSocket`: they send `?ticket=`, good once, within 30 seconds."""
    identity = state.access_tokens.verify(bearer_token(request.headers["authorization"]), now=clock.now())
    ends = datetime.fromtimestamp(identity.expires, UTC)
    ticket = await service.make_ticket(state.db, expires_at=ends, by=caller)
    made = answer({"ticket": ticket, "expiresIn": int(TICKET_LIFE.total_seconds())})
    return send(Answer(made.status, made.body, {"Cache-Control": "no-store"}))


def _shown(notice: dict[str, str]) -> Answer:
    return answer({"notice": notice}, status=201)


@router.post(
    "/notices",
    operation_id="sendNotice",
    summary="Tell everybody who is connected",
    responses=changes(schemas.NoticeAnswer, status=201),
    status_code=201,
)
async def send_notice(body: schemas.NoticeRequest, caller: AdminCaller, state: StateDep, once: OnceDep) -> Response:
    """Every open stream and WebSocket gets a `system.notice`. Who is not connected does not hear of it later."""
    notice = await service.send_notice(state.db, message=body.message, by=caller, once=once.answering(_shown))
    return send(_shown(notice))
