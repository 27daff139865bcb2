"""The OpenAPI document: every status declared, one schema for every error, nothing that the framework made up."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from holdfast.web.errors import PROBLEM

_MEANING = {
    400: "The request is invalid; `error.details` says what and why.",
    401: "No valid bearer token.",
    403: "The caller's role, or the owner of the object, does not allow this.",
    404: "There is no such thing.",
    408: "The body did not arrive within 30 seconds.",
    409: "The present state does not allow this; `error.code` says why.",
    410: "It is over.",
    412: "`If-Match` names a version that is not the present one.",
    413: "The body is larger than 1 MiB.",
    422: "The Idempotency-Key was used for another request.",
    429: "Too many requests or attempts; `Retry-After` says when to come back.",
    500: "The server failed.",
    502: "The conference provider failed; nothing was booked.",
    503: "Busy, or the database is out of reach; `Retry-After` says when to come back.",
}
#: The door answers these, ahead of every route: slow and large bodies, limits where they are on, faults, load.
_ANYWHERE = (408, 413, 429, 500, 503)
_EXAMPLE_CODES = {
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "ROOM_NOT_FOUND",
    409: "SLOT_ALREADY_BOOKED",
    502: "CONFERENCE_SERVICE_ERROR",
}


class ErrorMember(BaseModel):
    """What went wrong, for programs: a stable upper-case code, a sentence, and what the rule was."""

    code: str = Field(examples=["SLOT_ALREADY_BOOKED"])
    message: str
    details: dict[str, Any] | None = None


class Problem(BaseModel):
    """Problem details (RFC 9457), with the `error` member of the room contract."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    instance: str
    error: ErrorMember


class PaginationAnswer(BaseModel):
    """Where in a list this page is."""

    page: int
    pageSize: int  # noqa: N815 - the wire's name
    total: int


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` entries for these statuses, and for those that any route may answer."""
    declared: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, *_ANYWHERE}):
        content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
        if status in _EXAMPLE_CODES:
            content["example"] = {
                "type": "about:blank",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": _MEANING[status],
                "instance": "/bookings",
                "error": {"code": _EXAMPLE_CODES[status], "message": _MEANING[status]},
            }
        declared[status] = {"description": _MEANING[status], "content": {PROBLEM: content}}
    return declared


#: What a change may be refused for whatever it is about: invalid, nobody, not allowed, key still running or reused.
_CHANGE = (400, 401, 403, 409, 422)


def reads(model: type[BaseModel] | None, *statuses: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The answers of a GET for callers with a token."""
    return {status: _success(model), **refusals(401, *statuses)}


def reads_one(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a GET that has an ETag."""
    return {304: {"description": "`If-None-Match` names the present version."}, **reads(model, *statuses)}


def changes(model: type[BaseModel] | None, *statuses: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The answers of a change for callers with a token, Idempotency-Key included."""
    return {status: _success(model), **refusals(*_CHANGE, *statuses)}


def opens(model: type[BaseModel] | None, *statuses: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The answers of a POST that anyone may send."""
    return {status: _success(model), **refusals(400, *statuses)}


def _success(model: type[BaseModel] | None) -> dict[str, Any]:
    return {"description": "Done."} if model is None else {"description": "Done.", "model": model}


def install_openapi(app: FastAPI, *, description: str) -> None:
    """Build the document once, at the first need."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=description, routes=app.routes, tags=app.openapi_tags
            )
            _tidy(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _tidy(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= made.pop("$defs")
    schemas["Problem"] = made
    for path in document["paths"].values():
        for operation in path.values():
            invalid = operation["responses"].get("422")
            if invalid is not None and "HTTPValidationError" in str(invalid):
                # The framework's guess: an invalid request is 400 here.
                del operation["responses"]["422"]
            for parameter in operation.get("parameters", ()):
                _never_null(parameter["schema"])


def _never_null(schema: dict[str, Any]) -> None:
    """A header or a part of the address is there or not; it is never null."""
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema |= choices[0]
    elif choices:
        schema["anyOf"] = choices
