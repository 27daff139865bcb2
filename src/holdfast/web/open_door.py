"""What stands between the application and a world that is not all friendly: as much of it as the settings ask for."""

from http import HTTPStatus

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from holdfast.core.settings import Settings
from holdfast.web.compression import Compressed
from holdfast.web.errors import problem, send
from holdfast.web.middleware import Edge, Heads
from holdfast.web.proxies import TrustedProxies
from holdfast.web.rate_limit import RateLimit
from holdfast.web.security_headers import SecurityHeaders
from holdfast.web.state import State

#: Request headers that the service reads, beyond those that any page may send.
_READ = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
    "traceparent",
    "tracestate",
)
#: Answer headers that a page of another origin may read.
_SHOWN = (
    "Allow",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: Seconds that a browser need not ask again; two hours is the most that Chromium keeps.
_PREFLIGHT_SECONDS = 7200


class _Cors(CORSMiddleware):
    """Starlette's, whose refusals of a preflight are bare texts: ours are problems like any other."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight."""
        found = super().preflight_response(request_headers)
        if found.status_code < HTTPStatus.BAD_REQUEST:
            return found
        headers = {name: value for name, value in found.headers.items() if not name.startswith("content-")}
        text = f"{bytes(found.body).decode()}: see HOLDFAST_CORS_ORIGINS, and which methods and headers the API reads."
        return send(problem(found.status_code, "CORS_REFUSED", text, instance="*", headers=headers))


def install(app: FastAPI, settings: Settings, state: State) -> None:
    """Add the middleware, innermost first; what only some settings need is not there at all without them.

    The request id belongs outside of it: every answer has one, of whatever part.
    """
    app.add_middleware(Heads)
    app.add_middleware(Edge)
    if settings.rate_limit != "off":
        app.add_middleware(RateLimit, limit=settings.rate_limit, access_tokens=state.access_tokens)
    app.add_middleware(Compressed)
    if settings.origins:
        # Without credentials: tokens travel in a header that the page sets itself, never by themselves.
        app.add_middleware(
            _Cors,
            allow_origins=settings.origins,
            allow_methods=_METHODS,
            allow_headers=_READ,
            expose_headers=_SHOWN,
            max_age=_PREFLIGHT_SECONDS,
        )
    app.add_middleware(SecurityHeaders)
    if settings.trusted_networks:
        app.add_middleware(TrustedProxies, networks=settings.trusted_networks)
