"""Who comes to a stream: with a token or a key in the header, or, from a browser, with a ticket in the address."""

from datetime import UTC, datetime

from starlette.requests import HTTPConnection

from holdfast.core.callers import Caller
from holdfast.streams import rules
from holdfast.streams.service import Hub, Visitor, use_ticket
from holdfast.web.access import who_is
from holdfast.web.api_keys import FoundKey
from holdfast.web.state import State


def hub_of(connection: HTTPConnection) -> Hub:
    """The process's hub."""
    hub: Hub = connection.app.state.hub
    return hub


def check_origin(connection: HTTPConnection) -> None:
    """Raise OriginForbidden for a web page of a foreign origin."""
    settings = connection.app.state.holdfast.settings
    allowed = settings.origins
    if settings.public_url is not None:
        allowed.append("/".join(settings.public_url.lower().split("/")[:3]))
    scheme = "https" if connection.scope["scheme"] in {"https", "wss"} else "http"
    headers = connection.headers
    rules.check_origin(headers.get("origin"), scheme=scheme, host=headers.get("host"), allowed=allowed)


async def visitor_of(connection: HTTPConnection) -> tuple[Visitor, Caller]:
    """Who comes. Raises Unauthenticated, TicketUnknown."""
    state: State = connection.app.state.holdfast
    ticket = connection.query_params.get("ticket")
    header = connection.headers.get("authorization")
    if ticket is not None and header is None:
        used = await use_ticket(state.db, ticket)
        await state.revocations.check_user(used.user_id, used.session_id)
        caller = Caller(used.user_id, used.role, used.session_id)
        return Visitor(used.user_id, used.session_id, expires_at=used.token_expires_at), caller
    found = await who_is(state, header or "")
    if isinstance(found, FoundKey):
        return Visitor(found.user_id, key_id=found.id), Caller(found.user_id, found.role, key_id=found.id)
    expires_at = datetime.fromtimestamp(found.expires, UTC)
    caller = Caller(found.user_id, found.role, found.session_id)
    return Visitor(found.user_id, found.session_id, expires_at=expires_at), caller
