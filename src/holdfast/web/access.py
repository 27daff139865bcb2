"""Who may call a route: a bearer token or an API key, checked before anything else of the request is looked at."""

from typing import Annotated, TypedDict

from asgi_correlation_id import correlation_id
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from holdfast.core import clock, tracing
from holdfast.core.callers import Caller
from holdfast.core.errors import Forbidden, Unauthenticated
from holdfast.core.logging import user_id
from holdfast.core.security import API_KEY_PREFIX, Identity
from holdfast.web import api_keys
from holdfast.web.api_keys import FoundKey
from holdfast.web.state import State

_SCHEME = "bearer"


class Origin(TypedDict):
    """Where a request came from, as it goes into the outbox."""

    request_id: str | None
    address: str | None
    trace: str | None


def request_origin(request: Request) -> Origin:
    """Request id, peer address and trace."""
    address = request.client.host if request.client else None
    return {"request_id": correlation_id.get(), "address": address, "trace": tracing.current()}


def bearer_token(header: str) -> str:
    """The token of an Authorization header; empty where it carries none."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != _SCHEME:
        return ""
    # Swagger UI puts its own "Bearer" before what was pasted, which often has one already.
    token = token.strip()
    return token[7:].strip() if token[:7].lower() == "bearer " else token


async def who_is(state: State, header: str) -> Identity | FoundKey:
    """Whose good token or API key an Authorization header carries. Raises Unauthenticated, Busy."""
    token = bearer_token(header)
    if not token:
        raise Unauthenticated
    if token.startswith(API_KEY_PREFIX):
        return await api_keys.find_key(state.db, token)
    identity = state.access_tokens.verify(token, now=clock.now())
    await state.revocations.check(identity)
    return identity


class Access(HTTPBearer):
    """A dependency that lets the named roles in and gives the verified Caller; everybody else is refused.

    `keys=False` lets only people in who logged in: an API key must not be a way to its owner's other credentials.
    """

    def __init__(self, *roles: str, refusal: str | None = None, keys: bool = True) -> None:
        super().__init__(
            scheme_name="BearerAuth",
            bearerFormat="JWT",
            description=(
                "The token of POST /login or /dummyLogin, with or without the word Bearer; or an API key of POST /api-keys "
                "(hf_...), which may what its owner may, within its scopes, but nothing with credentials."
            ),
            auto_error=False,
        )
        self._roles = frozenset(roles)
        self._refusal = refusal
        self._keys = keys

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]  # we give more than credentials
        """The caller; Unauthenticated without a good token or key, Forbidden for another role or beyond the key's scope."""
        known: Caller | None = request.scope.get("holdfast.caller")
        if known is not None:
            return known
        state: State = request.app.state.holdfast
        found = await who_is(state, request.headers.get("authorization", ""))
        if isinstance(found, FoundKey):
            caller = self._with_key(request, found)
        else:
            caller = Caller(found.user_id, found.role, found.session_id, **request_origin(request))
        if caller.role not in self._roles:
            raise Forbidden(self._refusal)
        request.scope["holdfast.caller"] = caller
        user_id.set(caller.user_id)
        return caller

    def _with_key(self, request: Request, key: FoundKey) -> Caller:
        if not self._keys:
            message = "An API key cannot do this: log in, and use the token."
            raise Forbidden(message)
        api_keys.check_scope(key, request.method)
        return Caller(key.user_id, key.role, key_id=key.id, **request_origin(request))


AnyCaller = Annotated[Caller, Depends(Access("user", "admin"))]
#: For everything that makes, changes or ends credentials.
LoggedInCaller = Annotated[Caller, Depends(Access("user", "admin", keys=False))]
UserCaller = Annotated[
    Caller, Depends(Access("user", refusal="Only users do this: admins do not book, hold or wait. Log in as a user."))
]
AdminCaller = Annotated[Caller, Depends(Access("admin", refusal="Only an admin may do this."))]
