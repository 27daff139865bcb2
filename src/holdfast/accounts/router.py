"""The routes of accounts (api.md section 1)."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from holdfast.accounts import rules, schemas, service
from holdfast.accounts.rules import User
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.core.callers import Caller
from holdfast.core.errors import NotFound
from holdfast.web.access import AdminCaller, AnyCaller, LoggedInCaller, request_origin
from holdfast.web.errors import send
from holdfast.web.fields import PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, opens, reads, reads_one, refusals
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route
from holdfast.web.state import State, StateDep

router = APIRouter(route_class=Route, tags=["accounts"])

SearchText = Annotated[Annotated[str, Text(200)] | None, Query(description="Part of the e-mail or name.")]


def _shown(user: User) -> Answer:
    return answer({"user": user.as_json()}, etag=user.etag)


def _tokens(state: State) -> service.TokenMaker:
    life = timedelta(days=state.settings.refresh_token_days)
    return service.TokenMaker(state.access_tokens, state.refresh_tokens, life)


@router.post(
    "/dummyLogin",
    operation_id="dummyLogin",
    summary="Log in as the demo admin or user (development only)",
    responses=opens(schemas.TokenAnswer, 403, 404),
)
async def dummy_login(body: schemas.DummyLogin, request: Request, state: StateDep) -> Response:
    """A token for one of two fixed users. In production there is no such route (404)."""
    if not state.settings.development:
        raise NotFound
    address = request_origin(request)["address"]
    token = await service.dummy_log_in(state.db, _tokens(state), role=body.role, address=address, now=clock.now())
    return send(answer({"token": token}))


@router.post(
    "/register",
    operation_id="register",
    summary="Make an account",
    responses=opens(schemas.UserAnswer, 403, status=201),
    status_code=201,
)
async def register(body: schemas.Registration, request: Request, state: StateDep) -> Response:
    """The role admin can be chosen in development only; in production admins are made with the command line."""
    user = await service.register(
        state.db,
        state.passwords,
        email=body.email,
        password=body.password,
        role=body.role,
        name=body.name,
        development=state.settings.development,
        by=Caller(None, "anyone", **request_origin(request)),
    )
    return send(answer({"user": user.as_json()}, status=201, location=f"/users/{user.id}"))


@router.post(
    "/login",
    operation_id="login",
    summary="Trade e-mail and password for tokens",
    responses=opens(schemas.TokenPairAnswer, 401, 403, 429),
)
async def login(body: schemas.Login, request: Request, state: StateDep) -> Response:
    """Unknown account and wrong password are answered alike. Failed attempts are limited (429)."""
    pair = await service.log_in(
        state.db,
        state.passwords,
        _tokens(state),
        state.login_limit,
        email=body.email,
        password=body.password,
        address=request_origin(request)["address"],
        now=clock.now(),
    )
    return send(answer(pair.as_json()))


@router.post(
    "/auth/refresh",
    operation_id="refreshToken",
    summary="Trade a refresh token for the next pair",
    responses=opens(schemas.TokenPairAnswer, 401),
)
async def refresh(body: schemas.Refresh, state: StateDep) -> Response:
    """A refresh token is good once: a later reuse ends the session (`TOKEN_REUSED`). A retry within 10 s is honest."""
    pair = await service.refresh(state.db, _tokens(state), state.revocations, token=body.refreshToken, now=clock.now())
    return send(answer(pair.as_json()))


@router.post(
    "/auth/logout",
    operation_id="logout",
    summary="End this session",
    responses={204: {"description": "Ended."}, **refusals(400, 401, 403)},
    status_code=204,
)
async def logout(caller: LoggedInCaller, state: StateDep, body: schemas.Logout | None = None) -> Response:
    """Every token of the session is refused from now on; with `refreshToken`, that one's session too."""
    await service.log_out(
        state.db,
        _tokens(state),
        state.revocations,
        refresh_token=body.refreshToken if body is not None else None,
        by=caller,
    )
    return send(Answer(204))


@router.post(
    "/auth/password-reset",
    operation_id="askForPasswordReset",
    summary="Forgotten the password? Have a mail sent",
    responses=opens(schemas.ResetRequestAnswer, 429, status=202),
    status_code=202,
)
async def ask_for_password_reset(body: schemas.ResetRequest, request: Request, state: StateDep) -> Response:
    """The same answer, after the same time, whether there is such an account or not. The mail's token is good for 30 minutes."""
    await service.ask_for_reset(
        state.db, state.login_limit, email=body.email, by=Caller(None, "anyone", **request_origin(request))
    )
    return send(answer({"message": "If there is an account with this e-mail, a mail is on its way to it."}, status=202))


@router.put(
    "/auth/password-reset",
    operation_id="resetPassword",
    summary="Set a new password with the token out of the mail",
    responses={204: {"description": "Set; all of the user's sessions are ended."}, **refusals(400)},
    status_code=204,
)
async def reset_password(body: schemas.PasswordReset, request: Request, state: StateDep) -> Response:
    """Once: `RESET_TOKEN_INVALID` for a token that was used, is over or was followed by another. Sessions and API keys end."""
    await service.reset_password(
        state.db,
        state.passwords,
        state.revocations,
        token=body.token,
        new=body.newPassword,
        by=Caller(None, "anyone", **request_origin(request)),
    )
    return send(Answer(204))


@router.post(
    "/api-keys",
    operation_id="makeApiKey",
    summary="Make an API key for a program",
    responses=reads(schemas.NewApiKeyAnswer, 400, 403, 409, status=201),
    status_code=201,
)
async def make_api_key(body: schemas.NewApiKey, caller: LoggedInCaller, state: StateDep) -> Response:
    """The secret is shown once. The key may what you may, by your present role, but nothing with credentials.

    Scopes: `read` for GET and HEAD, `write` for everything, looking included; both without `scopes`. An Idempotency-Key is
    ignored: a secret is never stored to be replayed.
    """
    key, secret = await service.make_api_key(
        state.db, name=body.name, scopes=body.scopes or rules.SCOPES, expires_at=body.expiresAt, by=caller, now=clock.now()
    )
    return send(answer({"apiKey": key.as_json(), "secret": secret}, status=201, location=f"/api-keys/{key.id}"))


@router.get("/api-keys", operation_id="listApiKeys", summary="Your API keys", responses=reads(schemas.ApiKeysAnswer, 403))
async def list_api_keys(caller: LoggedInCaller, state: StateDep) -> Response:
    """Newest first, expired ones included, at most fifty; never with their secrets."""
    return send(answer({"apiKeys": [key.as_json() for key in await service.list_api_keys(state.db, by=caller)]}))


@router.get(
    "/api-keys/{key_id}",
    operation_id="getApiKey",
    summary="One of your API keys",
    responses=reads(schemas.ApiKeyAnswer, 400, 403, 404),
)
async def get_api_key(key_id: PathId, caller: LoggedInCaller, state: StateDep) -> Response:
    """Without its secret."""
    return send(answer({"apiKey": (await service.get_api_key(state.db, key_id=key_id, by=caller)).as_json()}))


@router.delete(
    "/api-keys/{key_id}",
    operation_id="deleteApiKey",
    summary="Delete one of your API keys",
    responses={204: {"description": "Deleted; the next request with it is refused."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def delete_api_key(key_id: PathId, caller: LoggedInCaller, state: StateDep, once: OnceDep) -> Response:
    """At once, in every process."""
    await service.delete_api_key(state.db, key_id=key_id, by=caller, once=once.answering(lambda _nothing: Answer(204)))
    return send(Answer(204))


@router.get("/users/me", operation_id="getMe", summary="Your own profile", responses=reads_one(schemas.UserAnswer, 404))
async def get_me(request: Request, caller: AnyCaller, state: StateDep) -> Response:
    """The user behind the token."""
    return conditional(request, _shown(await service.get_user(state.db, caller.own_id)))


@router.patch(
    "/users/me",
    operation_id="changeMe",
    summary="Change your own profile",
    responses=changes(schemas.UserAnswer, 404, 412),
)
async def change_me(
    body: schemas.ProfileChange, caller: AnyCaller, state: StateDep, once: OnceDep, if_match: IfMatch = None
) -> Response:
    """What is not named stays."""
    user = await service.change_profile(
        state.db,
        user_id=caller.own_id,
        changes=body.model_dump(exclude_unset=True),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(user))


@router.put(
    "/users/me/password",
    operation_id="changePassword",
    summary="Change your password",
    responses={204: {"description": "Changed; your other sessions are ended."}, **refusals(400, 401, 403, 404)},
    status_code=204,
)
async def change_password(body: schemas.PasswordChange, caller: LoggedInCaller, state: StateDep) -> Response:
    """The current password is asked for; all other sessions end."""
    await service.change_password(
        state.db,
        state.passwords,
        state.revocations,
        current=body.currentPassword,
        new=body.newPassword,
        by=caller,
    )
    return send(Answer(204))


@router.get("/users", operation_id="listUsers", summary="All users", responses=reads(schemas.UsersAnswer, 400, 403))
async def list_users(
    request: Request,
    _admin: AdminCaller,
    state: StateDep,
    page: PageDep,
    q: SearchText = None,
    role: Literal["admin", "user"] | None = None,
    status: Literal["active", "suspended"] | None = None,
) -> Response:
    """Newest first; deleted accounts are left out."""
    users, total = await service.list_users(state.db, q=q, role=role, status=status, offset=page.offset, limit=page.size)
    return send(page_answer(request, "users", [user.as_json() for user in users], page, total))


@router.get(
    "/users/{user_id}",
    operation_id="getUser",
    summary="One user",
    responses=reads_one(schemas.UserAnswer, 400, 403, 404),
)
async def get_user(user_id: PathId, request: Request, _admin: AdminCaller, state: StateDep) -> Response:
    """For admins."""
    return conditional(request, _shown(await service.get_user(state.db, user_id)))


@router.patch(
    "/users/{user_id}",
    operation_id="changeUser",
    summary="Change a user's role or status",
    responses=changes(schemas.UserAnswer, 404, 412),
)
async def change_user(
    user_id: PathId,
    body: schemas.UserChange,
    caller: AdminCaller,
    state: StateDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Either ends the user's sessions: a suspended user is out within five seconds, a new role needs a new log-in."""
    changed = {name: value for name, value in body.model_dump(exclude_unset=True).items() if value is not None}
    user = await service.change_user(
        state.db,
        state.revocations,
        user_id=user_id,
        changes=changed,
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(user))
