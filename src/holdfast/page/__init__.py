"""The pages of the browser: `/` with links, `/docs` (Swagger UI), `/redoc`. All files are local, so they work offline."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent


def _file(name: str) -> Response:
    return FileResponse(_FOLDER / name, media_type="text/html; charset=utf-8")


async def _index(_request: Request) -> Response:
    return _file("index.html")


async def _docs(_request: Request) -> Response:
    return _file("docs.html")


async def _redoc(_request: Request) -> Response:
    return _file("redoc.html")


def mount(app: FastAPI) -> None:
    """Add the pages and their files."""
    app.add_route("/", _index, methods=["GET"], include_in_schema=False)
    app.add_route("/docs", _docs, methods=["GET"], include_in_schema=False)
    app.add_route("/redoc", _redoc, methods=["GET"], include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_FOLDER / "static"), name="static")
