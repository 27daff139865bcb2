"""Wiring: settings in, an ASGI application out. What must happen without anybody asking is the worker's (worker.py)."""

import asyncio
import gc
import multiprocessing
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI

from holdfast import __version__, api, page
from holdfast.adapters.conferencing import ConferenceProvider, make_provider
from holdfast.core import metrics, tracing
from holdfast.core.errors import Busy
from holdfast.core.logging import configure_logging
from holdfast.core.security import AccessTokens, Passwords, RefreshTokens
from holdfast.core.settings import Settings, load_settings
from holdfast.core.together import Together
from holdfast.db.database import Database
from holdfast.streams import Hub
from holdfast.web import open_door
from holdfast.web.errors import install_error_handlers
from holdfast.web.login_limit import LoginLimit
from holdfast.web.metrics import RequestMetrics
from holdfast.web.middleware import sane_request_id
from holdfast.web.openapi import install_openapi
from holdfast.web.revocations import Revocations
from holdfast.web.state import State
from holdfast.web.tracing import RequestSpans

log = structlog.get_logger(__name__)

#: Seconds that streams have for saying good-bye, before the server cuts off whoever is still connected.
_PARTING_SECONDS = 0.1

_DESCRIPTION = """
Meeting rooms, service bays, people's time, event seats: booked without a gap between the check and the insert. Nothing is
ever booked twice, nothing acknowledged is ever lost, and the losers of a race are told at once.

Try it: **POST /dummyLogin** with `{"role": "user"}` (development only), copy the token, press **Authorize** and paste it;
then **GET /rooms**, **GET /rooms/{id}/slots** and **POST /bookings**.

Slot ids are computed from room, start and length: stable for ever, and stored only by a booking. What many want can be held
for a while, waited for, or booked in strict order of arrival; every refusal names its rule and what is possible instead.
"""


def build_state(
    settings: Settings,
    *,
    conferencing: ConferenceProvider | None = None,
    on_connect: Callable[[Any], None] | None = None,
) -> State:
    """What requests work with. `conferencing` replaces the provider that the settings name."""
    if settings.database_url is None:
        msg = "HOLDFAST_DATABASE_URL is not set: start with `holdfast serve`, which brings a database, or set it."
        raise RuntimeError(msg)
    secret = settings.jwt_secret.get_secret_value()
    access_tokens = AccessTokens(secret, minutes=settings.access_token_minutes)
    db = Database(settings.database_url.get_secret_value(), pool_size=settings.pool_size, on_connect=on_connect)
    return State(
        settings=settings,
        db=db,
        access_tokens=access_tokens,
        refresh_tokens=RefreshTokens(secret),
        passwords=Passwords(cost=settings.bcrypt_cost),
        conferencing=conferencing or make_provider(settings),
        revocations=Revocations(db, token_life=access_tokens.life),
        login_limit=LoginLimit(settings.login_limit),
        together=Together(),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.holdfast
    try:
        await state.db.open()
        await state.revocations.look()
    except Busy:
        # Not an end: requests are answered 503 until the database is there.
        log.warning("database.out_of_reach", hint="check HOLDFAST_DATABASE_URL; requests are answered 503 until then")
    hub: Hub = app.state.hub
    loops = [asyncio.create_task(state.revocations.run()), asyncio.create_task(hub.run())]
    _end_with_parent()
    _close_streams_first(hub)
    # What lives until the end need not be looked at by the collector: p99 falls to a half.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop
        await state.together.close()
        await state.conferencing.close()
        state.passwords.close()
        await state.db.close()
        # The last spans; it waits for the collector, some seconds at most.
        await asyncio.to_thread(tracing.stop)


def _end_with_parent() -> None:
    """One of several servers ends with the process that keeps them: without it, nobody would keep a worker, nor free the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def end() -> None:
        loop.remove_reader(sentinel)
        log.warning("supervisor.died")
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(sentinel, end)


def _close_streams_first(hub: Hub) -> None:
    """At SIGTERM and SIGINT part with the streams, before the server waits for its connections to end: they never do.

    The server's own handlers are set by then, and are called after ours. Only the main thread may set any.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def part(caught: int, before: Any) -> None:
        pause = _PARTING_SECONDS if len(hub) else 0.0
        hub.close()
        if callable(before):
            loop.call_later(pause, before, caught, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def close(caught: int, _frame: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(part, caught, before)

        signal.signal(number, close)


def build_app(state: State) -> FastAPI:
    """The application around a state."""
    app = FastAPI(
        title="Holdfast",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        # An unknown address is 404 like any other, not a redirect made out of the Host header.
        redirect_slashes=False,
        lifespan=_lifespan,
        # The framework's own would put paths, queries and the words of errors into spans and logs (core/tracing.py).
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
        openapi_tags=[
            {"name": "accounts", "description": "Users, log-in, tokens."},
            {"name": "rooms", "description": "What there is to book, when it is open, which slots it has."},
            {"name": "hosts", "description": "People who offer their time."},
            {"name": "events", "description": "Seats of events."},
            {"name": "bookings", "description": "Taking and giving back."},
            {"name": "series", "description": "Bookings that repeat."},
            {"name": "holds", "description": "Keeping something for a while before booking it."},
            {"name": "waitlist", "description": "Waiting for what is taken."},
            {"name": "streams", "description": "What happens, while it happens."},
            {"name": "webhooks", "description": "What happens, sent to other systems."},
            {"name": "calendars", "description": "Feeds and files for calendar programs."},
            {"name": "reports", "description": "Looking back: figures, exports, the audit log."},
            {"name": "operations", "description": "How the service is."},
        ],
    )
    app.state.holdfast = state
    listen_url = state.settings.listen_url
    app.state.hub = Hub(
        state.db,
        listen_url=listen_url.get_secret_value() if listen_url is not None else state.db.url,
        is_out=state.revocations.is_out,
    )
    for router in api.ROUTERS:
        app.include_router(router)
    page.mount(app)
    install_error_handlers(app)
    install_openapi(app, description=_DESCRIPTION)
    open_door.install(app, state.settings, state)
    if tracing.enabled():
        app.add_middleware(RequestSpans)
    app.add_middleware(CorrelationIdMiddleware, validator=sane_request_id)
    app.add_middleware(RequestMetrics)
    return app


def make_app() -> FastAPI:
    """An application from the environment's settings: what a server process starts."""
    settings = load_settings()
    configure_logging(settings)
    if settings.metrics_dir is not None:
        metrics.share(settings.metrics_dir)
    if settings.traces_url is not None:
        tracing.start(settings.traces_url)
    return build_app(build_state(settings))
