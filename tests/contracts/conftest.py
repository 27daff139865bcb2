"""Faults are what these tests look for, so tracebacks are kept short; and of an answer without an end they see the beginning."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.main import build_app
from holdfast.web.state import State


@pytest.fixture(autouse=True, scope="session")
def _plain_tracebacks() -> Iterator[None]:
    """One of the usual ones costs seconds to print."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    yield
    structlog.reset_defaults()


class Beginnings:
    """The application to a client that goes away from an event stream as soon as it begins, and hears out all else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Once the answer is over for the client, `receive` says that it has gone."""
        gone = False

        async def heard(message: Message) -> None:
            nonlocal gone
            if gone:
                return
            await send(message)
            headers = dict(message.get("headers", ()))
            if message["type"] == "http.response.start" and headers.get(b"content-type", b"").startswith(b"text/event-stream"):
                gone = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive, heard)


@pytest.fixture(scope="session")
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in this process. What the service would let out, the test sees."""
    transport = httpx.ASGITransport(Beginnings(build_app(state)))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as made:
        yield made
