"""Further services on a test's database, with other settings than the shared one, and clients at any address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from conftest import make_settings
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.servers import free_port


class Door:
    """A service, and how to come to it."""

    def __init__(self, app: FastAPI, state: State) -> None:
        self.app = app
        self.state = state

    async def send(self, method: str, path: str, *, address: str = "192.0.2.1", **request: Any) -> httpx.Response:
        """One request from an address."""
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
            return await client.request(method, path, **request)

    async def get(self, path: str, **request: Any) -> httpx.Response:
        return await self.send("GET", path, **request)

    async def post(self, path: str, **request: Any) -> httpx.Response:
        return await self.send("POST", path, **request)


@asynccontextmanager
async def door(shared: State, **settings: object) -> AsyncIterator[Door]:
    """A service with these settings on the shared one's database."""
    state = build_state(make_settings(shared.db.url, **{"pool_size": 4, **settings}))
    try:
        yield Door(build_app(state), state)
    finally:
        state.passwords.close()
        await state.db.close()


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[int]:
    """The port of a real server in this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.005)
        yield port
    finally:
        server.should_exit = True
        await serving
