"""Logs: who and what, in JSON; and never a secret, at any level, whatever fails.

A real server logs all that it, uvicorn and the other libraries would say while every operation is driven with canaries in
all places where secrets travel: bodies, tokens, queries, paths, the settings; with the database in order, broken and gone.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest

from holdfast.core.logging import without_secrets
from support.api import WINDOW, tomorrow
from support.contract import resolved, service_operations
from support.databases import execute
from support.servers import ServerProcess, free_port, served

#: Nobody says this by chance.
CANARY = "xq7canary"
SECRET_NAMES = {"token", "refreshToken", "secret", "ticket", "feedToken"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Tables that a caller is verified with: broken only in a round of their own, else nothing but 500s of theirs would be seen.
ACCOUNTS = ["users", "sessions"]
#: Whoever does this is out afterwards.
ENDING = {("DELETE", "/users/me"), ("POST", "/auth/logout"), ("PUT", "/users/me/password")}

KNOWN: dict[str, Any] = {
    "role": "user",
    "timeZone": "UTC",
    "start": f"{tomorrow()}T01:00:00Z",
    "end": f"{tomorrow()}T02:00:00Z",
    "date": tomorrow(),
    "windows": [WINDOW],
    "createConferenceLink": True,
    "types": [],
    "scopes": ["read", "write"],
    "url": f"https://{CANARY}:{CANARY}@example.com/{CANARY}?token={CANARY}",
}


def example(schema: dict[str, Any], name: str = "") -> Any:
    """A plausible value, with a canary wherever it is a caller's own text."""
    schema = resolved(schema)
    if name in KNOWN:
        return KNOWN[name]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], name)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {field: example(inner, field) for field, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema["items"], name)]
    if kind == "integer":
        return max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return False
    if schema.get("format") == "uuid":
        return str(uuid4())
    return f"{CANARY}{uuid4().hex[:8]}@example.com" if "email" in name.lower() else f"{CANARY} {name}"


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """What an answer gave away that is nobody else's business. Ids are none: a hold's token is one."""
    if isinstance(value, dict):
        for field, inner in value.items():
            yield from secrets_in(inner, field)
    elif isinstance(value, list):
        for inner in value:
            yield from secrets_in(inner, name)
    elif isinstance(value, str):
        if name in SECRET_NAMES and len(value) > 15 and not _UUID.fullmatch(value):
            yield value
        yield from re.findall(r"/calendar/([^/.?]+)", value)


class Driver:
    """Sends everything to a server, and remembers every secret that it was given."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=20)
        self.secrets: set[str] = set()
        self.statuses: list[int] = []

    def send(self, method: str, path: str, token: str | None = None, **request: Any) -> Any:
        """One request; the JSON of its answer, None where it has none. A stream is left after its beginning."""
        headers = {"X-Request-ID": "mine-7", "Cookie": f"session={CANARY}", **request.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with self.client.stream(method, path, headers=headers, **request) as answer:
            self.statuses.append(answer.status_code)
            if "json" not in answer.headers.get("content-type", ""):
                return None
            found = json.loads(answer.read())
        self.secrets |= set(secrets_in(found))
        return found

    def person(self, role: str) -> str:
        """A token of somebody new."""
        email, password = f"{CANARY}{uuid4().hex}@example.com", f"{CANARY} password"
        self.send("POST", "/register", json={"email": email, "password": password, "role": role})
        answer = self.send("POST", "/login", json={"email": email, "password": password})
        token: str = answer["token"]
        return token

    def everything(self, people: list[str], *strangers: str | None) -> None:
        """Every operation as each of `people` (tokens), and of those whose token is none."""
        query = f"token={CANARY}&ticket={CANARY}&feedToken={CANARY}"
        for method, path, operation in service_operations():
            callers = [self.person(role) for role in ("admin", "user")] if (method, path) in ENDING and strangers else people
            for token in (*callers, *strangers):
                request: dict[str, Any] = {}
                if "requestBody" in operation:
                    content = operation["requestBody"]["content"]
                    request["json"] = example(content["application/json"]["schema"])
                where = path
                while "{" in where:
                    before, _, rest = where.partition("{")
                    name, _, after = rest.partition("}")
                    where = before + (CANARY if "token" in name and "hold" not in path else str(uuid4())) + after
                self.send(method, f"{where}?{query}", token, headers={"Idempotency-Key": f"{uuid4()}"}, **request)

    def things(self) -> None:
        """What has a secret of its own, made for real."""
        admin, user = self.person("admin"), self.person("user")
        self.send("POST", "/api-keys", user, json={"name": "mine"})
        self.send("POST", "/webhooks", admin, json={"url": f"https://example.com/{CANARY}?token={CANARY}", "types": []})
        self.send("POST", "/calendar-feeds", user, json={})
        self.send("POST", "/auth/ticket", user)
        room = self.send("POST", "/rooms", admin, json={"name": CANARY})["room"]
        self.send("PUT", f"/rooms/{room['id']}/schedule", admin, json=WINDOW)
        slots = self.send("GET", f"/rooms/{room['id']}/slots?date={tomorrow()}", user)["slots"]
        for slot, link in zip(slots, (False, True), strict=False):
            body = {"slotId": slot["id"], "title": CANARY, "notes": CANARY, "createConferenceLink": link}
            self.send("POST", "/bookings", user, json=body)
        for secret in self.secrets.copy():
            for path in (f"/calendar/{secret}.ics", f"/calendar/{secret}/freebusy.ics", f"/stream?ticket={secret}"):
                self.send("GET", path)

    def nonsense(self) -> None:
        """What uvicorn itself has to answer."""
        address = ("127.0.0.1", self.server.port)
        upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        upgrade += f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {CANARY}\r\n\r\n"
        for text in (
            f"{CANARY} {CANARY}\r\n\r\n",
            f"GET /ws?ticket={CANARY} HTTP/1.1\r\n{upgrade}",
            f"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{CANARY}",
        ):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(text.encode())
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)


def tables(url: str) -> list[str]:
    from holdfast.db.models import Base

    return [table.name for table in Base.metadata.sorted_tables]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_is_ever_logged(form: str, own_database: str, tmp_path: Path) -> None:
    role, parts = f"role_{uuid4().hex[:12]}", urlsplit(own_database)
    execute(own_database, f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{CANARY}'")
    own = urlunsplit(parts._replace(netloc=f"{role}:{CANARY}@{parts.hostname}:{parts.port}"))
    log, closed = tmp_path / "service.log", free_port()
    settings = {
        "HOLDFAST_DATABASE_URL": own,
        "HOLDFAST_LOG_LEVEL": "debug",
        "HOLDFAST_LOG_FORMAT": form,
        "HOLDFAST_JWT_SECRET": f"{CANARY}-that-is-long-enough-for-any-check-0123",
        "HOLDFAST_SMTP_URL": f"smtp://{CANARY}:{CANARY}@127.0.0.1:{closed}",
        "HOLDFAST_CONFERENCE_PROVIDER": "http",
        "HOLDFAST_CONFERENCE_URL": f"http://127.0.0.1:{closed}",
        "HOLDFAST_CONFERENCE_SECRET": CANARY,
        "HOLDFAST_LISTEN_URL": own,
        "HOLDFAST_TRACES_URL": f"http://127.0.0.1:{closed}",
    }
    try:
        with served(settings, log=log) as server:
            driver = Driver(server)
            driver.things()
            people = [driver.person(role) for role in ("admin", "user")]
            driver.everything(people, CANARY, f"hf_{CANARY}", None)
            driver.nonsense()
            assert 500 not in driver.statuses
            people = [driver.person(role) for role in ("admin", "user")]
            broken = [name for name in tables(own) if name not in ACCOUNTS]
            for names in (broken, ACCOUNTS):
                execute(own_database, *(f'ALTER TABLE "{name}" RENAME TO "{name}_gone"' for name in names))
                driver.everything(people)
                execute(own_database, *(f'ALTER TABLE "{name}_gone" RENAME TO "{name}"' for name in names))
            assert driver.statuses.count(500) > 50
            assert driver.client.get("/readyz").status_code == 200
            # The database lets nobody in any more.
            execute(
                own_database,
                f"ALTER ROLE {role} PASSWORD 'another'",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
            )
            driver.send("GET", "/rooms", people[0])
            driver.client.close()
            server.stop()
        logged = log.read_text()
        assert len(driver.secrets) > 10, "the answers gave no secrets to look for"
        found = [line[:2000] for line in logged.splitlines() if CANARY in line or any(one in line for one in driver.secrets)]
        assert not found, "\n".join(found[:3])
        assert logged.count("request.failed") > 50
        assert "mine-7" in logged
        if form == "json":
            entries = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
            failed = [entry for entry in entries if entry["event"] == "request.failed"]
            assert {entry["request_id"] for entry in failed} == {"mine-7"}
            assert [entry for entry in failed if _UUID.fullmatch(entry.get("user_id", ""))]
            assert {"level", "logger", "timestamp", "method", "route", "exception", "trace_id"} <= failed[0].keys()
    finally:
        execute(own_database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


SPEAKING = """
import logging, sys
from holdfast.core.logging import configure_logging
from holdfast.core.settings import load_settings
import structlog, httpx
configure_logging(load_settings(_env_file=None, log_level="debug", log_format=sys.argv[1]))
names = ["sqlalchemy.engine", "sqlalchemy.pool", "httpx", "httpcore.http11", "aiosmtplib", "asyncpg", "urllib3", "websockets",
         "uvicorn", "uvicorn.error", "uvicorn.asgi", "asyncio", "opentelemetry"]
for name in names:
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.debug("said of %s", name)
    logger.info("said of %s", name)
    logger.warning("warned of %s, Authorization: Bearer xq7canary", name)
structlog.get_logger("holdfast.x").debug("ours", token="xq7canary", url="smtp://a:xq7canary@b")
try:
    raise ValueError("postgresql://user:xq7canary@host/name")
except ValueError:
    structlog.get_logger("holdfast.x").exception("broken")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_libraries_only_warn_and_the_second_net_holds(form: str) -> None:
    ran = subprocess.run([sys.executable, "-c", SPEAKING, form], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == ""
    assert "said of" not in ran.stderr
    assert ran.stderr.count("warned of") == 13
    assert "ours" in ran.stderr
    assert "broken" in ran.stderr
    assert CANARY not in ran.stderr


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Authorization: Bearer {CANARY}", "Authorization: Bearer [removed]"),
        (f"authorization='Basic {CANARY}'", "authorization='[removed]'"),
        (f"a key hf_{CANARY}, a secret whsec_{CANARY}+/=", "a key [removed], a secret [removed]"),
        (f"eyJhbGciOiJIUzI1NiJ9.eyJ4IjoxfQ.{CANARY}", "[removed]"),
        (f"postgresql://user:{CANARY}@h:1/d smtp://u:a@{CANARY}@h", "postgresql://[removed]@h:1/d smtp://[removed]@h"),
        (f"GET /stream?ticket={CANARY}&channels=me", "GET /stream?ticket=[removed]&channels=me"),
        (
            f"/calendar/{CANARY}.ics and /calendar/{CANARY}/freebusy.ics",
            "/calendar/[removed].ics and /calendar/[removed]/freebusy.ics",
        ),
        (f'{{"password": "{CANARY} x", "name": "Ann"}}', '{"password": "[removed]", "name": "Ann"}'),
        (rf"{{\"newPassword\": \"{CANARY} x\", \"a\": 1}}", r"{\"newPassword\": \"[removed]\", \"a\": 1}"),
        (f"{{'refreshToken': '{CANARY}', 'x': 1}}", "{'refreshToken': '[removed]', 'x': 1}"),
        (f"token={CANARY} reason=x", "token=[removed] reason=x"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, left: str) -> None:
    assert without_secrets(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T19:00:00Z [warning  ] worker.round_failed [holdfast.worker] reason=BUSY",
        '{"event": "token.reused", "code": "TOKEN_REUSED", "user_id": "01a1ff94-7289-73b3-ab4c-33dd0e05b5cb"}',
        "see https://sqlalche.me/e/21/f405 and http://127.0.0.1:8080/docs, mail a@example.com",
        "SELECT token_hash FROM sessions WHERE secret = $1",
        "password_reset.asked tickets=3",
    ],
)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("part", ["a.", "eyJa.", "a+", "token=", '"token":"a', "bearer ", "a://", "/calendar/"])
def test_looking_for_secrets_takes_no_longer_than_the_text_is_long(part: str) -> None:
    """Tens of milliseconds; a minute where each place is searched to the end of the text."""
    text, begun = part * (200_000 // len(part)), perf_counter()
    without_secrets(text)
    assert perf_counter() - begun < 2
