"""L1, the limit: a raw ASGI function under the uvicorn that Holdfast runs under, with a fixed body.

python raw_asgi.py PORT LENGTH
"""

import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Sender = Callable[[dict[str, Any]], Awaitable[None]]


def make_app(length: int) -> Callable[..., Awaitable[None]]:
    """An application that answers every request with the same `length` bytes."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(length).encode())],
    }
    body = {"type": "http.response.body", "body": b" " * length}

    async def app(scope: dict[str, Any], _receive: object, send: Sender) -> None:
        if scope["type"] == "http":
            await send(start)
            await send(body)

    return app


def serve(app: Callable[..., Awaitable[None]], port: int, *, lifespan: str = "off") -> None:
    """Run an application on loopback under uvicorn with what the service runs under."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan=lifespan,  # type: ignore[arg-type]  # on or off
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=75,
        backlog=4096,
    )


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    serve(make_app(int(sys.argv[2])), int(sys.argv[1]))
