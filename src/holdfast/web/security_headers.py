"""Headers that tell browsers and caches what not to do with an answer: constants, added in plain ASGI."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

_EVERYWHERE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
#: An answer of the API is no page: nothing in it runs, loads or is framed, whatever somebody got stored in it.
_NO_PAGE: Headers = (*_EVERYWHERE, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))
#: All files are our own. Swagger UI and ReDoc write style elements and draw from data: addresses; ReDoc searches in a worker
#: that it makes out of a blob.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
_PAGE: Headers = (*_EVERYWHERE, (b"content-security-policy", _PAGE_POLICY))
#: A year, as browsers keep it. Only said where the request came by https: http for a demo must go on working.
_BY_HTTPS = (b"strict-transport-security", b"max-age=31536000")

_NEVER_KEPT = (b"cache-control", b"no-store")
#: One person's view: no shared cache has it, and a browser asks whether it still holds (`If-None-Match`).
_KEPT_BY_ONE = (b"cache-control", b"private, no-cache")
_KEPT_BY_ALL = (b"cache-control", b"no-cache")
_PAGES = frozenset({"/", "/docs", "/redoc", "/openapi.json"})
_PAGE_FILES = "/static/"
#: Where tokens and secrets are made.
_SECRETS = ("/login", "/dummyLogin", "/register", "/auth/", "/api-keys", "/users/me/password", "/webhooks", "/calendar-feeds")


def _caching(path: str) -> tuple[bytes, bytes]:
    if path.startswith(_SECRETS):
        return _NEVER_KEPT
    if path in _PAGES or path.startswith(_PAGE_FILES):
        return _KEPT_BY_ALL
    return _KEPT_BY_ONE


class SecurityHeaders:
    """Around everything that answers, errors included. A `Cache-Control` that a route chose itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other protocols pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                is_page, chose = False, False
                for name, value in headers:
                    if name == b"content-type":
                        is_page = value.startswith(b"text/html")
                    elif name == b"cache-control":
                        chose = True
                headers += _PAGE if is_page else _NO_PAGE
                if not chose:
                    headers.append(_caching(scope["path"]))
                if scope.get("scheme") == "https":
                    headers.append(_BY_HTTPS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
