"""The service's own document: the committed copy, what every operation must say, and that it is valid OpenAPI 3.1."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.contract import PATHS, PROBLEM, load_contract, resolved, service_document, service_operations

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "docs" / "openapi.json"
OPERATIONS = service_operations()
EACH = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{one[0]} {one[1]}" for one in OPERATIONS])
#: Answered without a look at the database, so they never fail or are busy.
ALWAYS_WELL = {"/_info", "/health", "/livez"}


def test_the_committed_document_is_the_present_one() -> None:
    again = "run `holdfast openapi --output docs/openapi.json` (or `make openapi`), look at the difference, and commit it"
    assert SNAPSHOT.is_file(), again
    assert json.loads(SNAPSHOT.read_text(encoding="utf-8")) == service_document(), again


def test_the_document_is_valid_openapi_3_1() -> None:
    from jsonschema_rs import validator_for
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    assert re.fullmatch(r"3\.1\.\d+", service_document()["openapi"])
    faults = [str(fault) for fault in validator_for(OPENAPI_31).iter_errors(service_document())]
    assert not faults


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere_and_no_schema_is_left_over() -> None:
    used = set(references(service_document()))
    declared = {f"#/components/schemas/{name}" for name in service_document()["components"]["schemas"]}
    assert used == declared


def test_operation_ids_are_unique_and_readable() -> None:
    ids = Counter(operation["operationId"] for _, _, operation in OPERATIONS)
    assert [name for name, count in ids.items() if count > 1] == []
    for name in ids:
        assert re.fullmatch(r"[a-z][a-zA-Z0-9]{2,40}", name), name


def test_the_contracts_operations_are_there() -> None:
    there = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path, _ in OPERATIONS}
    for name, paths in PATHS.items():
        for path in paths:
            assert (load_contract().method(name), re.sub(r"\{\w+\}", "{}", path)) in there


@EACH
def test_every_operation_says_what_it_is(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation.get("description")
    assert operation["tags"]
    assert [status for status in operation["responses"] if status.startswith("2")]


@EACH
def test_every_operation_declares_the_statuses_that_it_may_answer(method: str, path: str, operation: dict[str, Any]) -> None:
    declared = {int(status) for status in operation["responses"]}
    expected: set[int] = set()
    if path not in ALWAYS_WELL:
        expected |= {500, 503}
    if "security" in operation:
        expected.add(401)
    names = {(one["in"], one["name"].lower()) for one in operation.get("parameters", ())}
    if "requestBody" in operation:
        expected |= {400, 413}
    if names or "requestBody" in operation:
        expected.add(400)
    if any(place == "path" for place, _ in names):
        expected.add(404)
    if ("header", "if-match") in names:
        expected.add(412)
    if ("header", "idempotency-key") in names:
        expected |= {409, 422}
    assert expected <= declared, f"not declared: {sorted(expected - declared)}"
    # The only 422 of the service is a reused key.
    assert (422 in declared) == (("header", "idempotency-key") in names)


@EACH
def test_every_error_refers_to_the_problem_schema(method: str, path: str, operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status >= "4":
            assert list(response["content"]) == [PROBLEM], status
            assert response["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}, status
            assert response["description"]


@EACH
def test_changes_can_be_repeated_safely_and_single_objects_have_preconditions(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    """api.md section 0: where tokens and secrets are made, keys are ignored; everything else that changes takes one."""
    names = {one["name"].lower() for one in operation.get("parameters", ()) if one["in"] == "header"}
    secret = (
        path in {"/dummyLogin", "/register", "/login", "/users/me/password"}
        or path.startswith("/auth/")
        or (method, path)
        in {
            ("POST", "/api-keys"),
            ("POST", "/calendar-feeds"),
            ("POST", "/webhooks"),
            ("POST", "/webhooks/{webhook_id}/rotate-secret"),
        }
    )
    reads = method == "GET" or path.endswith("/preview")
    assert ("idempotency-key" in names) == (not reads and not secret)
    if "if-match" in names:
        assert method != "GET"


@pytest.mark.parametrize(("name", "status"), [(name, status) for name in PATHS for status in load_contract().statuses(name)])
def test_what_the_contract_declares_the_service_declares(name: str, status: int) -> None:
    if status == 400 and name in {"myBookings", "listRooms"}:
        return
    for path in PATHS[name]:
        shape = re.sub(r"\{\w+\}", "{}", path)
        (operation,) = (
            one
            for method, there, one in OPERATIONS
            if method == load_contract().method(name) and re.sub(r"\{\w+\}", "{}", there) == shape
        )
        assert str(status) in operation["responses"]


@EACH
def test_every_object_that_is_taken_has_described_and_bounded_fields(method: str, path: str, operation: dict[str, Any]) -> None:
    """Texts and arrays without an end are how a service is filled up."""
    if "requestBody" not in operation:
        return

    def walk(schema: dict[str, Any], where: str) -> None:
        schema = resolved(schema)
        for choice in schema.get("anyOf", ()):
            walk(choice, where)
        for name, field in schema.get("properties", {}).items():
            walk(field, f"{where}.{name}")
        if schema.get("type") == "array":
            assert "maxItems" in schema, where
            walk(schema["items"], f"{where}[]")
        if schema.get("type") == "string":
            bounded = {"maxLength", "enum", "format", "const"} & set(schema) or str(schema.get("pattern", "")).endswith("]$")
            assert bounded or where.endswith(("timeZone", "Time", ".time")), f"{where} has no bound"

    walk(operation["requestBody"]["content"]["application/json"]["schema"], path)
