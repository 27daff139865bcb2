"""How the service is: for people, load balancers and container engines (api.md section 10)."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from holdfast import __version__, outbox
from holdfast.core.answers import answer
from holdfast.core.errors import Busy
from holdfast.db import migrations
from holdfast.web.errors import send
from holdfast.web.openapi import refusals
from holdfast.web.state import DatabaseDep, StateDep

router = APIRouter(tags=["operations"])


class InfoAnswer(BaseModel):
    """Who answers here."""

    name: str
    version: str
    environment: str
    documentation: str


class HealthAnswer(BaseModel):
    """`ok`."""

    status: str


class ReadyAnswer(BaseModel):
    """`ok`, with what was looked at."""

    status: str
    database: str
    migrations: str
    relayLagSeconds: float = Field(  # noqa: N815 - the wire's name
        description="How long the oldest change has waited to be told. Grows where no worker runs."
    )


class NotReady(Busy):
    """Connected, and not at the head of the migrations."""

    code = "NOT_READY"
    message = "The database is not at this version's migrations: run `holdfast migrate`."


@router.get("/_info", operation_id="info", summary="Name and version", responses={200: {"model": InfoAnswer}})
async def info(state: StateDep) -> Response:
    """Always 200 while the process lives."""
    return send(
        answer(
            {
                "name": "holdfast",
                "version": __version__,
                "environment": state.settings.env.value,
                "documentation": "/docs",
            }
        )
    )


@router.get("/health", operation_id="health", summary="Is the process up?", responses={200: {"model": HealthAnswer}})
@router.get("/livez", operation_id="livez", summary="Is the process up?", responses={200: {"model": HealthAnswer}})
async def health() -> Response:
    """200 while the process answers; it does not look at the database."""
    return send(answer({"status": "ok"}))


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can requests be sent here?",
    responses={200: {"model": ReadyAnswer}, **refusals()},
)
async def readyz(db: DatabaseDep) -> Response:
    """200 where the database answers and its migrations are at head, or ahead of this version; else 503.

    The relay's lag is told, and no reason to send requests elsewhere: bookings do not wait for it.
    """
    standing = migrations.standing(await migrations.current(db))
    # A newer one is served too: in a rolling upgrade the database is migrated first, and the old processes go on meanwhile.
    if standing == "behind":
        raise NotReady
    lag = round(await outbox.lag_seconds(db), 3)
    return send(
        answer(
            {
                "status": "ok",
                "database": "ok",
                "migrations": standing,
                "relayLagSeconds": lag,
            }
        )
    )
