"""What the wiring hands to every request: built once in `main`, read by dependencies."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from holdfast.adapters.conferencing import ConferenceProvider
from holdfast.core.security import AccessTokens, Passwords, RefreshTokens
from holdfast.core.settings import Settings
from holdfast.core.together import Together
from holdfast.db.database import Database
from holdfast.web.login_limit import LoginLimit
from holdfast.web.revocations import Revocations


@dataclass(frozen=True, slots=True)
class State:
    """One process's settings and connections."""

    settings: Settings
    db: Database
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    passwords: Passwords
    conferencing: ConferenceProvider
    revocations: Revocations
    login_limit: LoginLimit
    together: Together


async def _state(request: Request) -> State:
    state: State = request.app.state.holdfast
    return state


async def _db(request: Request) -> Database:
    db: Database = request.app.state.holdfast.db
    return db


StateDep = Annotated[State, Depends(_state)]
DatabaseDep = Annotated[Database, Depends(_db)]
