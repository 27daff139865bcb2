"""Who may call a route: a bearer token, checked before anything else of the request is looked at."""

from typing import Annotated, TypedDict

from asgi_correlation_id import correlation_id
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Unauthenticated
from holdfast.web.state import State

_SCHEME = "bearer"


class Origin(TypedDict):
    """Where a request came from, as it goes into the outbox."""

    request_id: str | None
    address: str | None


def request_origin(request: Request) -> Origin:
    """Request id and peer address."""
    return {"request_id": correlation_id.get(), "address": request.client.host if request.client else None}


class Access(HTTPBearer):
    """A dependency that lets the named roles in and gives the verified Caller; everybody else is refused."""

    def __init__(self, *roles: str, refusal: str | None = None) -> None:
        super().__init__(
            scheme_name="BearerAuth",
            bearerFormat="JWT",
            description="The token of POST /login or /dummyLogin, with or without the word Bearer.",
            auto_error=False,
        )
        self._roles = frozenset(roles)
        self._refusal = refusal

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]  # we give more than credentials
        """The caller; Unauthenticated without a good token, Forbidden for another role."""
        known: Caller | None = request.scope.get("holdfast.caller")
        if known is not None:
            return known
        state: State = request.app.state.holdfast
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthenticated
        # Swagger UI puts its own "Bearer" before what was pasted, which often has one already.
        token = token.strip()
        if token[:7].lower() == "bearer ":
            token = token[7:].strip()
        identity = state.access_tokens.verify(token, now=clock.now())
        await state.revocations.check(identity)
        if identity.role not in self._roles:
            raise Forbidden(self._refusal)
        caller = Caller(identity.user_id, identity.role, identity.session_id, **request_origin(request))
        request.scope["holdfast.caller"] = caller
        return caller


AnyCaller = Annotated[Caller, Depends(Access("user", "admin"))]
UserCaller = Annotated[
    Caller, Depends(Access("user", refusal="Only users do this: admins do not book, hold or wait. Log in as a user."))
]
AdminCaller = Annotated[Caller, Depends(Access("admin", refusal="Only an admin may do this."))]
