"""A span for each request, named by its route template; the caller's `traceparent` is its parent (core/tracing.py)."""

from http import HTTPStatus

from asgi_correlation_id import correlation_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core import tracing
from holdfast.web.metrics import route_of


class RequestSpans:
    """Around everything that answers a request. Installed only where traces are on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Follow one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
        parent = None if given is None else given.decode("latin-1")
        with tracing.span(scope["method"], parent, kind="server", request_id=correlation_id.get()) as span:
            if span is None:
                await self.app(scope, receive, send)
                return

            async def noting_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status: int = message["status"]
                    route = route_of(scope)
                    # Neither the path nor the query: a calendar's address is a secret, and so is a ticket.
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.request.method", scope["method"])
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", status)
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        tracing.mark_failed(span)
                await send(message)

            await self.app(scope, receive, noting_send)
