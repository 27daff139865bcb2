"""Errors as answers: problem+json (RFC 9457) with the `error` member that the room contract's clients read."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from holdfast.core import errors, metrics
from holdfast.core.answers import Answer
from holdfast.idempotency import Replay

PROBLEM = "application/problem+json"
log = structlog.get_logger(__name__)

#: The one table of families and statuses.
STATUS_OF_FAMILY: dict[type[errors.Refusal], int] = {
    errors.Invalid: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Stale: 412,
    errors.KeyReused: 422,
    errors.TooMany: 429,
    errors.UpstreamFailed: 502,
    errors.Busy: 503,
}
_CODE_OF_STATUS = {
    400: "INVALID_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "TOO_LARGE",
    500: "INTERNAL_ERROR",
    503: "BUSY",
}
_TEXT_OF_STATUS = {
    400: "The body could not be read: send valid JSON in UTF-8.",
    404: "There is nothing at this address; /docs lists what there is.",
    408: "The body did not arrive within 30 seconds.",
    413: "The body is larger than 1 MiB.",
    500: "The server failed. The fault is logged under the X-Request-ID of this answer.",
    503: "The service is busy: try again in a moment.",
}
#: Pydantic's own words where they would echo the input, or speak of Python.
_WORDS = {
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "is too large",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "model_attributes_type": "must be an object, sent with Content-Type: application/json",
    "dict_type": "must be an object",
    "json_invalid": "is not valid JSON",
}


def status_of(refusal: errors.Refusal) -> int:
    """The HTTP status of a refusal's family."""
    return next(status for family, status in STATUS_OF_FAMILY.items() if isinstance(refusal, family))


def problem(
    status: int,
    code: str,
    message: str,
    *,
    instance: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An error answer with both faces: the problem's members and `error {code, message, details?}`."""
    error: dict[str, Any] = {"code": code, "message": message}
    if details:
        error["details"] = details
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "instance": instance,
        "error": error,
    }
    return Answer(status, orjson.dumps(body), dict(headers or {}), PROBLEM)


def refusal_answer(refusal: errors.Refusal, *, instance: str) -> Answer:
    """The answer to a refusal."""
    status = status_of(refusal)
    headers: dict[str, str] = {}
    if isinstance(refusal, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="holdfast"'
    if isinstance(refusal, (errors.TooMany, errors.Busy)):
        headers["Retry-After"] = str(refusal.retry_after)
    return problem(status, refusal.code, refusal.text, instance=instance, details=refusal.details, headers=headers)


def status_answer(status: int, *, instance: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer where there is nothing but a status to tell: framework errors, 413, 500."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        status, phrase = 500, "Internal Server Error"
    code = _CODE_OF_STATUS.get(status, phrase.upper().replace(" ", "_"))
    metrics.refused(code)
    return problem(status, code, _TEXT_OF_STATUS.get(status, f"{phrase}."), instance=instance, headers=headers)


def instance_of(scope: Mapping[str, Any]) -> str:
    """The path as it was sent, in ASCII."""
    raw: bytes = scope.get("raw_path") or b"/"
    return raw.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")


def send(answer: Answer) -> Response:
    """A Starlette response out of an answer."""
    response = Response(answer.body, answer.status, dict(answer.headers))
    if answer.body:
        response.headers["Content-Type"] = answer.content_type
    return response


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.Refusal)  # noqa: S101 - how it is registered
    metrics.refused(error.code)
    return send(refusal_answer(error, instance=instance_of(request.scope)))


async def _on_replay(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Replay)  # noqa: S101 - how it is registered
    response = send(error.answer)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _words(problem_: Mapping[str, Any]) -> str:
    kind = str(problem_["type"])
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "value_error":
        return str(problem_["msg"]).removeprefix("Value error, ")
    text = str(problem_["msg"])
    return text[:1].lower() + text[1:]


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - how it is registered
    metrics.refused("INVALID_REQUEST")
    fields = []
    for one in error.errors():
        place = [str(part) for part in one["loc"] if not isinstance(part, int) or one["type"] != "json_invalid"]
        fields.append({"field": ".".join(place)[:200], "problem": _words(one)})
    first = fields[0] if fields else {"field": "body", "problem": "is invalid"}
    message = f"The request is invalid: {first['field']} {first['problem']}."
    return send(
        problem(
            400,
            "INVALID_REQUEST",
            message,
            instance=instance_of(request.scope),
            details={"fields": fields[:20]},
        )
    )


def _allowed(request: Request) -> str:
    """Every method that some route has for this path; the framework names only those of the first."""
    methods: set[str] = set()
    for included in request.app.routes:
        # FastAPI keeps an included router as it is; ours have no prefix, so its routes match by themselves.
        router = getattr(included, "original_router", None)
        for route in [included] if router is None else router.routes:
            match, _ = route.matches(request.scope)
            if match is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - how it is registered
    instance = instance_of(request.scope)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        metrics.refused("METHOD_NOT_ALLOWED")
        allowed = _allowed(request)
        text = f"This address knows {allowed}."
        return send(problem(405, "METHOD_NOT_ALLOWED", text, instance=instance, headers={"Allow": allowed}))
    return send(status_answer(error.status_code, instance=instance, headers=error.headers))


def install_error_handlers(app: FastAPI) -> None:
    """Answer every refusal, replay, invalid request and framework error in the one shape."""
    app.add_exception_handler(errors.Refusal, _on_refusal)
    app.add_exception_handler(Replay, _on_replay)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
