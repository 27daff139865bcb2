"""The room contract and the service's own document, as things to check answers against."""

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from holdfast.core.settings import load_settings
from holdfast.main import build_app, build_state
from support.servers import SECRET

CONTRACT_FILE = Path(__file__).parents[1] / "contracts" / "rooms-contract.openapi.json"
JSON, PROBLEM = "application/json", "application/problem+json"

#: Each operation of the contract: its contract path, then the paths that api.md gives it besides.
PATHS = {
    "register": ["/register"],
    "login": ["/login"],
    "dummyLogin": ["/dummyLogin"],
    "listRooms": ["/rooms/list", "/rooms"],
    "createRoom": ["/rooms/create", "/rooms"],
    "createSchedule": ["/rooms/{roomId}/schedule/create"],
    "listSlots": ["/rooms/{roomId}/slots/list", "/rooms/{roomId}/slots"],
    "createBooking": ["/bookings/create", "/bookings"],
    "listBookings": ["/bookings/list", "/bookings"],
    "myBookings": ["/bookings/my"],
    "cancelBooking": ["/bookings/{bookingId}/cancel"],
}

# The library's own checks need packages for most formats and pass silently without them, so these are written out.
formats = FormatChecker(formats=())
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@formats.checks("uuid")
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or _UUID.fullmatch(value) is not None


@formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    return not isinstance(value, str) or (
        _INSTANT.fullmatch(value) is not None and datetime.fromisoformat(value).tzinfo is not None
    )


@formats.checks("email")
def _is_email(value: object) -> bool:
    return not isinstance(value, str) or _EMAIL.fullmatch(value) is not None


@formats.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme and urlsplit(value).netloc)


def _translated(node: Any) -> Any:
    """OpenAPI 3.0's dialect as JSON Schema 2020-12: `nullable` is a type of its own there."""
    if isinstance(node, list):
        return [_translated(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {name: _translated(value) for name, value in node.items() if name != "nullable"}
    if node.get("nullable"):
        made["type"] = [made["type"], "null"]
    return made


class Contract:
    """The contract file: its operations, and a validator for each answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = _translated(document["components"])
        self.operations = {
            operation["operationId"]: (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        self.codes: list[str] = document["components"]["schemas"]["ErrorResponse"]["properties"]["error"]["properties"]["code"][
            "enum"
        ]

    def method(self, operation: str) -> str:
        """GET or POST."""
        return self.operations[operation][0]

    def statuses(self, operation: str) -> set[int]:
        """Every status that the contract declares for it."""
        return {int(status) for status in self.operations[operation][2]["responses"]}

    def schema(self, operation: str, status: int, content_type: str) -> dict[str, Any]:
        """The answer's schema as JSON Schema. The wrapper is always present, which the file says in words."""
        found = self.operations[operation][2]["responses"][str(status)]["content"][content_type]["schema"]
        schema: dict[str, Any] = {**_translated(found), "components": self._components}
        if status < 300 and "properties" in schema:
            schema["required"] = sorted(schema["properties"])
        return schema

    def check(self, operation: str, response: httpx.Response) -> dict[str, Any]:
        """Validate an answer's status, content type and body; returns the body."""
        status = response.status_code
        assert status in self.statuses(operation), f"{operation} does not know {status}: {response.text}"
        content_type = response.headers["content-type"]
        assert content_type == (JSON if status < 400 else PROBLEM), content_type
        body: dict[str, Any] = response.json()
        validator = Draft202012Validator(self.schema(operation, status, content_type), format_checker=formats)
        faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(body)]
        assert not faults, f"{operation} {status}: {faults}"
        if status >= 400:
            check_problem(response)
        return body


def check_problem(response: httpx.Response) -> str:
    """The form of an error answer, both faces of it (RFC 9457, and the contract's `error`); returns the code."""
    assert response.headers["content-type"] == PROBLEM, (response.status_code, response.headers, response.text[:500])
    body = response.json()
    assert {"type", "title", "status", "detail", "instance", "error"} <= set(body), body
    assert body["status"] == response.status_code
    assert body["error"]["message"] == body["detail"]
    code: str = body["error"]["code"]
    assert re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", code), code
    if response.status_code == 401:
        assert response.headers["www-authenticate"].startswith("Bearer"), response.headers
    if response.status_code in {429, 503}:
        assert int(response.headers["retry-after"]) >= 1, response.headers
    return code


@cache
def load_contract() -> Contract:
    """The contract, read once."""
    return Contract(json.loads(CONTRACT_FILE.read_text(encoding="utf-8")))


@cache
def service_document() -> dict[str, Any]:
    """The service's own OpenAPI document, made without any database."""
    state = build_state(
        load_settings(database_url="postgresql://nobody@127.0.0.1/nowhere", jwt_secret=SECRET, bcrypt_cost=4, _env_file=None)
    )
    try:
        made: dict[str, Any] = json.loads(json.dumps(build_app(state).openapi()))
    finally:
        state.passwords.close()
    return made


def service_operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of everything in the service's document."""
    return [
        (method.upper(), path, operation)
        for path, methods in service_document()["paths"].items()
        for method, operation in methods.items()
    ]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the service's document, its own reference followed."""
    while "$ref" in schema:
        found: Any = service_document()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema
