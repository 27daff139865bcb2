"""Poison in every field, parameter and header that the service's document names: never a 500, never an echo, and life goes on.

What is sent where is derived from the OpenAPI document, so a new field is covered as soon as it exists.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from support.api import WINDOW, Api, Person, tomorrow
from support.contract import check_problem, resolved, service_operations
from support.servers import served

#: Nobody says this by chance: where an error answer holds it, refused input was echoed.
MARK = "xq7canary"
_DEEP = 3_000


class Raw(str):
    """JSON text that is put into the body as it stands."""

    __slots__ = ()


TEXTS = {
    "NUL": f"{MARK}\x00",
    "lone high surrogate": f"{MARK}\ud800",
    "lone low surrogate": f"\udfff{MARK}",
    "swapped surrogates": f"\udc00\ud800{MARK}",
    "controls": f"{MARK}\x01\x08\x1b[31m\x7f\x85",
    "line ends": f"{MARK}\r\nSet-Cookie: x=1\r\n\r\n\u2028\u2029",
    "bidi": f"\u202e{MARK}\u2066\u2069\u200f",
    "right to left": f"\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 {MARK}",
    "emoji": f"\U0001f469\U0001f3fd\u200d\U0001f4bb\U0001f3f4\U000e0067\U000e0062\U000e007f{MARK}",
    "combining": f"{MARK}{chr(0x301) * 500}",
    "noncharacters": f"\ufffe\uffff\U0010ffff{MARK}",
    "byte order mark": f"\ufeff{MARK}",
    "zero width": "\u200b\u200c\u200d\u2060",
    "empty": "",
    "blanks": " \t\u00a0\u3000 ",
    "SQL": f"{MARK}'; DROP TABLE users; --",
    "LIKE": f"%_\\%{MARK}\\",
    "format": f"%s%n%x{{0}}{{0.__class__}}${{jndi:ldap://x}}{{{{7*7}}}}{MARK}",
    "markup": f"<script>alert('{MARK}')</script>&amp;]]>",
    "path": f"../../../../etc/passwd%00{MARK}",
    "numeric": "1e309",
    "not a number": "NaN",
    "null in words": "null",
    "huge": f"{MARK}{'A' * 200_000}",
    "many wide characters": f"{MARK}{chr(0x1F600) * 40_000}",
}
OTHERS = {
    "NaN": Raw("NaN"),
    "Infinity": Raw("Infinity"),
    "-Infinity": Raw("-Infinity"),
    "beyond a double": Raw("1e400"),
    "beyond 64 bits": Raw(str(2**64)),
    "below 64 bits": Raw(str(-(2**63) - 1)),
    "a thousand digits": Raw("9" * 1000),
    "five thousand digits": Raw("9" * 5000),
    "a long fraction": Raw("0." + "1" * 1000),
    "minus zero": Raw("-0"),
    "deep arrays": Raw("[" * _DEEP + "]" * _DEEP),
    "deep objects": Raw('{"a":' * _DEEP + "1" + "}" * _DEEP),
    "very deep arrays": Raw("[" * 200_000 + "]" * 200_000),
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "fraction": 1.5,
    "an array": [MARK],
    "many items": [MARK] * 5_000,
    "an object": {MARK: MARK},
    "a prototype": {"__proto__": {"x": MARK}, "constructor": MARK},
    "bad escape": Raw(f'"{MARK}\\x"'),
    "bad UTF-8": Raw('"\udcff\udcfe"'),  # these become the raw bytes FF FE
    "overlong UTF-8": Raw('"\udcc0\udc80"'),
    "encoded surrogate": Raw('"\udced\udca0\udc80"'),
    "unescaped control": Raw('"\x01"'),
}
BODY_POISON: dict[str, Any] = TEXTS | OTHERS
#: As bytes, since that is what arrives.
WIRE = {
    **{name: text.encode("utf-8", "surrogatepass") for name, text in TEXTS.items() if len(text) < 10_000},
    "bad UTF-8": b"\xff\xfe\xc0\x80" + MARK.encode(),
    "long": MARK.encode() + b"A" * 5_000,
    "beyond 64 bits": str(2**64).encode(),
    "five thousand digits": b"9" * 5_000,
}


def encoded(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{encoded(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(encoded(one) for one in value) + "]"
    return json.dumps(value)


def body_bytes(value: Any) -> bytes:
    """JSON, as forgiving as needed: raw parts, and low surrogates that stand for raw bytes."""
    return encoded(value).encode("utf-8", "surrogateescape")


Place = tuple[str | int, ...]


def places(schema: dict[str, Any], at: Place = ()) -> Iterator[Place]:
    """Every field of a body, objects and arrays entered."""
    schema = resolved(schema)
    for choice in schema.get("anyOf", ()):
        yield from places(choice, at)
    if at:
        yield at
    for name, field in schema.get("properties", {}).items():
        yield from places(field, (*at, name))
    if "items" in schema:
        yield from places(schema["items"], (*at, 0))
    if schema.get("additionalProperties") is True:
        # The caller's own fields, of any name and any kind.
        yield (*at, "own")


def example(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """A plausible value: known by its name, else by its schema. Every optional field is there."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], known)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: known[name] if name in known else example(field, known) for name, field in fields.items()}
    if kind == "array":
        return [example(schema["items"], known)]
    if kind == "integer":
        return max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return False
    return "x"


def planted(value: Any, place: Place, poison: Any) -> Any:
    """A copy with the poison at that place."""
    if not place:
        return poison
    head, *rest = place
    if isinstance(head, int):
        return [planted(value[0] if isinstance(value, list) and value else {}, tuple(rest), poison)]
    inside = value if isinstance(value, dict) else {}
    return {**inside, head: planted(inside.get(head), tuple(rest), poison)}


KNOWN: dict[str, Any] = {
    "email": "somebody@example.com",
    "url": "https://hooks.example.com/holdfast",
    "types": ["booking.created"],
    "scopes": ["read"],
    "expiresAt": "2999-01-01T00:00:00Z",
    "timeZone": "UTC",
    "daysOfWeek": [1],
    "startTime": "09:00",
    "endTime": "17:00",
    "start": f"{tomorrow()}T01:00:00Z",
    "end": f"{tomorrow()}T02:00:00Z",
    "date": tomorrow(),
    "time": "09:00",
    "capacity": 4,
    "slotMinutes": 30,
    "windows": [WINDOW],
    "slotId": str(uuid4()),
    "slotIds": [str(uuid4())],
    "roomId": str(uuid4()),
    "eventId": str(uuid4()),
    "holdToken": str(uuid4()),
    "seats": ["1"],
    "quantity": 2,
    "count": 3,
    "sections": [{"name": "Stalls", "rows": [{"name": "A", "seats": 2}]}],
    "labels": ["1"],
    "slots": [{"start": f"{tomorrow()}T03:00:00Z", "end": f"{tomorrow()}T04:00:00Z"}],
    "salesStart": f"{tomorrow()}T00:00:00Z",
    "salesEnd": f"{tomorrow()}T00:30:00Z",
}
#: Fields of which a request takes one group or another: the base has none of them but the one that is poisoned.
GROUPS = [{"slotId"}, {"slotIds"}, {"roomId", "start", "end"}, {"roomId", "date", "time"}, {"windows"}]
GROUPS += [{"daysOfWeek", "startTime", "endTime"}, {"start", "end"}, {"slots"}]
GROUPS += [{"eventId", "seats"}, {"eventId", "quantity"}, {"holdToken"}, {"seats"}, {"sections"}, {"count"}]
ALTERNATIVES = set().union(*GROUPS)


def bases(schema: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
    """Bodies that are valid but for the poison: with each group of alternatives that the field belongs to."""
    whole = example(schema, KNOWN)
    names = set(whole)
    fitting = [group for group in GROUPS if group <= names and (field in group or field not in ALTERNATIVES)]
    for group in fitting or [set()]:
        yield {name: value for name, value in whole.items() if name not in ALTERNATIVES or name in group}


OPERATIONS = service_operations()
WITH_BODY = [(method, path, operation) for method, path, operation in OPERATIONS if "requestBody" in operation]


def body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    schema = resolved(content)
    return resolved(schema["anyOf"][0]) if "anyOf" in schema else schema


def filled(path: str, **values: str) -> str:
    """The path with these values for its parameters, and unknown ids for the others."""
    while "{" in path:
        before, _, rest = path.partition("{")
        parameter, _, after = rest.partition("}")
        path = before + values.get(parameter, str(uuid4())) + after
    return path


def check(response: httpx.Response, what: str, *never: int) -> None:
    """No 500; every refusal is a problem with a code, and does not hold what was sent (its own address apart)."""
    assert response.status_code < 500, f"{what}: {response.status_code} {response.text[:300]}"
    assert response.status_code not in (never or (415, 422, 431)), f"{what}: {response.status_code}"
    if response.status_code >= 400:
        check_problem(response)
        said = {name: value for name, value in response.json().items() if name != "instance"}
        if said["error"]["code"] == "SEATS_NOT_FOUND":
            del said["error"]["details"]  # which labels are missing must be said (api.md section 4)
        assert MARK not in json.dumps(said), f"{what} was echoed: {response.text[:300]}"
        assert len(response.content) < 20_000, f"{what}: an answer of {len(response.content)} bytes"
        assert MARK not in str(response.headers), f"{what} was echoed in a header"


def role_for(method: str, path: str) -> list[str]:
    """Bookings, holds and places in line are users', a host is one too; all else is open to an admin."""
    if path.startswith("/users/{user_id}"):
        return ["admin"]
    if path.startswith("/bookings"):
        return ["user", "admin"] if method in {"GET", "DELETE"} else ["user"]
    if path.startswith(("/holds", "/waitlist", "/hosts", "/slots", "/booking-requests", "/series")) or (method, path) == (
        "POST",
        "/events/{event_id}/waitlist",
    ):
        return ["user"]
    if path in {"/stream", "/calendar-feeds", "/api-keys"}:
        return ["user"]
    return ["admin"]


async def caller(api: Api, method: str, path: str) -> tuple[Person, dict[str, str]]:
    """Somebody whom the operation lets in, and ids of what it is about: else poison would end at the first 404."""
    who, admin, ids = await api.person(role_for(method, path)[-1]), await api.admin(), {}
    if "{room_id}" in path or "{booking_id}" in path:
        room = await api.room(admin)
        ids["room_id"] = room["id"]
        if "{booking_id}" in path:
            owner = who if role_for(method, path)[-1] == "user" else await api.person()
            ids["booking_id"] = (await api.booked(owner, (await api.slots(owner, room))[0]))["id"]
    if "{host_id}" in path or path.startswith("/slots"):
        made = await api.post("/hosts", who, json={"displayName": "Ada"})
        ids["host_id"] = made.json()["host"]["id"]
    if "{event_id}" in path:
        made = await api.post("/events", admin, json={"name": "Concert", "start": f"{tomorrow()}T18:00:00Z"})
        ids["event_id"] = made.json()["event"]["id"]
        added = await api.post(f"/events/{ids['event_id']}/seats", admin, json={"count": 3})
        assert added.status_code == 201, added.text
    if "{webhook_id}" in path:
        # Disabled, so that its hundred deliveries are not waited for in any order.
        hook = await api.post("/webhooks", admin, json={"url": KNOWN["url"], "enabled": False})
        ids["webhook_id"] = hook.json()["webhook"]["id"]
        sent = await api.post(f"/webhooks/{ids['webhook_id']}/test", admin)
        ids["delivery_id"] = sent.json()["delivery"]["id"]
    if "{key_id}" in path:
        ids["key_id"] = (await api.post("/api-keys", who, json={"name": "Key"})).json()["apiKey"]["id"]
    if "{feed_id}" in path or "{feed_token}" in path:
        feed = (await api.post("/calendar-feeds", who, json={})).json()
        ids |= {"feed_id": feed["feed"]["id"], "feed_token": feed["url"].rpartition("/")[2].removesuffix(".ics")}
    if "{user_id}" in path:
        ids["user_id"] = str((await api.person()).id)
    return who, ids


#: What a caller can do once only, or some times: each request has a caller of its own.
ONCE = {"/auth/logout", "/hosts", "/api-keys", "/calendar-feeds"}


async def still_alive(api: Api, who: Person) -> None:
    """The next request works; somebody who ended the own account or session is asked as a new one."""
    response = await api.get("/rooms", who, params={"page": 1, "pageSize": 1})
    if response.status_code == 401:
        response = await api.get("/rooms", await api.person(), params={"page": 1, "pageSize": 1})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY, ids=[f"{one[0]} {one[1]}" for one in WITH_BODY])
async def test_poison_in_a_body_is_taken_or_refused(method: str, path: str, operation: dict[str, Any], api: Api) -> None:
    schema = body_schema(operation)
    (who, ids), sent = await caller(api, method, path), 0
    path = filled(path, **ids)
    for place in dict.fromkeys(places(schema)):
        for base in bases(schema, str(place[0])):
            for name, poison in BODY_POISON.items():
                if path in ONCE:
                    who = await api.person()
                content = body_bytes(planted(base, place, poison))
                headers = {"Content-Type": "application/json"}
                response = await api.send(method, path, who, content=content, headers=headers)
                check(response, f"{method} {path} {place} {name}")
                sent += 1
        await still_alive(api, who)
    assert sent >= len(BODY_POISON)


WHOLE = {
    **{name: body_bytes(poison) for name, poison in BODY_POISON.items()},
    "a repeated field": b'{"name": "one", "name": "two", "role": "user", "role": "root", "slotId": "x", "slotId": "y"}',
    "ten thousand fields": body_bytes({f"f{n}": MARK for n in range(10_000)}),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-32": '{"name": "x"}'.encode("utf-32"),
    "a NUL at the end": b"{}\x00",
    "gzip": b"\x1f\x8b\x08\x00",
    "a comment": b"{/* x */}",
    "a NUL in a name": b'{"na\\u0000me": "x"}',
    "a surrogate in a name": b'{"\\ud800": "x"}',
}


@pytest.mark.parametrize(("method", "path"), [(one[0], one[1]) for one in WITH_BODY])
async def test_a_body_that_is_poison_altogether_is_refused(method: str, path: str, api: Api) -> None:
    who, ids = await caller(api, method, path)
    for name, content in WHOLE.items():
        if path in ONCE:
            who = await api.person()
        for content_type in ("application/json", "application/json; charset=utf-16", "application/vnd.api+json"):
            response = await api.send(method, filled(path, **ids), who, content=content, headers={"Content-Type": content_type})
            check(response, f"{method} {path} {name}")
    await still_alive(api, who)


def parameters(where: str) -> list[tuple[str, str, str]]:
    return [
        (method, path, one["name"])
        for method, path, operation in OPERATIONS
        for one in operation.get("parameters", ())
        if one["in"] == where
    ]


@pytest.mark.parametrize(("method", "path", "name"), parameters("path"))
async def test_poison_in_a_path_is_refused(method: str, path: str, name: str, api: Api) -> None:
    who, ids = await caller(api, method, path)
    for kind, poison in WIRE.items():
        response = await api.send(method, filled(path, **{**ids, name: quote(poison, safe="")}), who)
        check(response, f"{method} {path} {name} {kind}")
        assert response.status_code in {400, 404, 405}, f"{kind}: {response.status_code}"
    await still_alive(api, who)


@pytest.mark.parametrize(("method", "path", "name"), parameters("query"))
async def test_poison_in_a_query_is_taken_or_refused(method: str, path: str, name: str, api: Api) -> None:
    who, ids = await caller(api, method, path)
    path = filled(path, **ids)
    for kind, poison in WIRE.items():
        for query in (
            f"{name}={quote(poison, safe='')}",
            f"{name}={quote(poison, safe='')}&{name}=1",
            f"{name}[]={quote(poison)}",
        ):
            response = await api.send(method, f"{path}?{query}", who)
            check(response, f"{method} {path} {name} {kind}")
    for partner in ("date", "from", "to", "page", "pageSize", "cursor"):
        response = await api.send(method, f"{path}?{partner}=x&{name}={MARK}", who)
        check(response, f"{method} {path} {partner} and {name}")
    await still_alive(api, who)


HEADERS = ["Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID", "Authorization"]
#: Nothing here reads these; whatever does one day must be as hard.
UNREAD = [
    "Accept",
    "Prefer",
    "Origin",
    "Cookie",
    "Range",
    "Accept-Encoding",
    "Content-Encoding",
    "X-Forwarded-For",
    "Forwarded",
    "Host",
    "User-Agent",
]


@pytest.mark.parametrize("header", HEADERS + UNREAD)
async def test_poison_in_a_header_is_taken_or_refused(header: str, api: Api, admin: Person, user: Person) -> None:
    room = await api.room(admin)
    booking = await api.booked(user, (await api.slots(user, room))[0])
    for kind, poison in WIRE.items():
        spellings = (poison, b"Bearer " + poison, b'"' + poison + b'"', b'W/"' + poison + b'", *')
        for value in spellings if header in HEADERS else spellings[:1]:
            for method, path, who, body in [
                ("POST", "/rooms", admin, {"name": "x"}),
                ("PATCH", f"/bookings/{booking['id']}", user, {"title": "x"}),
                ("GET", f"/rooms/{room['id']}", user, None),
                ("DELETE", f"/rooms/{uuid4()}", admin, None),
            ]:
                headers = [(header.encode(), value)]
                if header != "Authorization":
                    headers.append((b"Authorization", f"Bearer {who.token}".encode()))
                if header == "Host":
                    headers = [(b"authorization", f"Bearer {who.token}".encode()), (b"host", value)]
                response = await api.client.request(method, path, headers=headers, json=body)
                if header == "X-Request-ID" and response.headers["x-request-id"].encode() == value:
                    del response.headers["x-request-id"]  # a sane one is given back, as promised
                # 422 is right where one key comes with different requests, and nowhere else.
                check(response, f"{method} {header} {kind}", *((415, 431) if header == "Idempotency-Key" else ()))
    await still_alive(api, user)


async def test_poison_in_what_opens_a_stream_is_refused(api: Api, user: Person) -> None:
    """A ticket is looked at only where there is no header; and where to resume from is said in a header of its own."""
    for kind, poison in WIRE.items():
        response = await api.get(f"/stream?ticket={quote(poison, safe='')}")
        check(response, f"ticket {kind}")
        assert response.status_code in {400, 401}, kind
        headers = [(b"Last-Event-ID", poison), (b"Authorization", f"Bearer {user.token}".encode())]
        response = await api.client.get("/stream", headers=headers)
        check(response, f"Last-Event-ID {kind}")
        assert response.status_code == (410 if poison else 200), kind
        for value in (b"Bearer hf_" + poison, b"bearer bearer hf_" + poison):
            response = await api.client.get("/stream", headers=[(b"Authorization", value)])
            check(response, f"key {kind}")
            assert response.status_code == 401, kind
    await still_alive(api, user)


async def test_a_text_that_can_be_stored_comes_back_as_it_was(api: Api, admin: Person) -> None:
    """The control: else everything might be refused."""
    taken = 0
    for name, text in TEXTS.items():
        made = await api.post("/rooms", admin, content=body_bytes({"name": "x", "description": text}))
        if made.status_code != 201:
            made = await api.send(
                "POST",
                "/rooms",
                admin,
                content=body_bytes({"name": "x", "description": text}),
                headers={"Content-Type": "application/json"},
            )
        if made.status_code == 201:
            taken += 1
            assert made.json()["room"]["description"] == text, name
        else:
            assert made.status_code == 400
            assert name in {
                "NUL",
                "lone high surrogate",
                "lone low surrogate",
                "swapped surrogates",
                "huge",
                "many wide characters",
            }
    assert taken == len(TEXTS) - 6


async def test_poison_in_an_events_own_fields_comes_back_as_it_was_or_is_refused(api: Api, admin: Person) -> None:
    """`metadata` is kept as it is, names too: what cannot be kept so is refused, and never changed."""
    taken = 0
    for name, poison in {**BODY_POISON, **{f"{name} as a name": {text: 1} for name, text in TEXTS.items()}}.items():
        for metadata in ({"own": poison}, {"own": [{"deeper": poison}]}):
            content = body_bytes({"name": "x", "start": f"{tomorrow()}T18:00:00Z", "metadata": metadata})
            made = await api.post("/events", admin, content=content, headers={"Content-Type": "application/json"})
            check(made, f"metadata {name}")
            assert made.status_code in {201, 400}, made.text[:300]
            if made.status_code == 201:
                taken += 1
                event = made.json()["event"]
                read = await api.get(f"/events/{event['id']}", admin)
                assert event["metadata"] == read.json()["event"]["metadata"] == json.loads(content)["metadata"], name
    assert taken > len(TEXTS)
    await still_alive(api, admin)


async def test_a_cursor_that_was_bent_is_refused(api: Api, admin: Person) -> None:
    slots = await api.slots(admin, await api.room(admin))
    for slot in slots[:3]:
        await api.booked(await api.person(), slot)
    first = (await api.get("/bookings", admin, params={"cursor": "", "pageSize": 1})).json()
    cursor = first["nextCursor"]
    for bent in [
        cursor[::-1],
        cursor[1:],
        cursor[:-1],
        cursor + "x",
        cursor.replace(">", "<"),
        "<" + cursor[1:],
        ">",
        "<",
        ">~",
        ">i:1~i:2",
        ">x:~",
        ">s:~s:",
        ">dt:2026-01-01 00:00:00~uuid:x",
        ">" + "~".join(["i:1"] * 100),
        MARK,
        ">dt:9999-99-99~" + MARK,
    ]:
        response = await api.get("/bookings", admin, params={"cursor": bent})
        check(response, bent)
        assert response.status_code in {200, 400}
    await still_alive(api, admin)


@pytest.fixture(scope="module")
def server(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server process on a database of its own."""
    from support.databases import cloned_database

    log: Path = tmp_path_factory.mktemp("server") / "log"
    with cloned_database(postgres, template) as url, served({"HOLDFAST_DATABASE_URL": url}, log=log) as running:
        yield running.url


def test_poison_leaves_the_connection_of_a_real_server_alive(server: str) -> None:
    """One keep-alive connection for all of it: what was refused must have been read to its end."""
    ports: set[int] = set()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    with httpx.Client(base_url=server, limits=limits, timeout=30) as client:

        def send(method: str, path: str, **request: Any) -> httpx.Response:
            response = client.request(method, path, **request)
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])
            return response

        token = send("POST", "/dummyLogin", json={"role": "admin"}).json()["token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for name, poison in BODY_POISON.items():
            for content in (body_bytes({"name": poison}), body_bytes({"name": "x", "capacity": poison}), body_bytes(poison)):
                check(send("POST", "/rooms", content=content, headers=headers), name)
                check(send("POST", "/register", content=content, headers=headers), name)
            assert send("GET", "/health").status_code == 200
        for name, poison in WIRE.items():
            for path in ("/rooms/{}", "/rooms?q={}", "/rooms?minCapacity={}", "/bookings?cursor={}", "/{}"):
                check(send("GET", path.format(quote(poison, safe="")), headers=headers), name)
            assert send("GET", "/health").status_code == 200
        assert send("GET", "/rooms?pageSize=1&page=1", headers=headers).status_code == 200
    assert len(ports) == 1, "a refusal cost the connection"


def test_raw_bytes_in_the_headers_of_a_real_server_are_no_500(server: str) -> None:
    """Bytes that clients' libraries refuse to send; the HTTP parser may refuse them itself, by 400."""
    host, port = httpx.URL(server).host, httpx.URL(server).port
    assert port is not None
    for name in (b"Idempotency-Key", b"If-Match", b"X-Request-ID", b"Authorization"):
        for poison in (b"\xff\xfe\xc0\x80", b"\x01\x02", b"\x7f", b"a" * 20_000, "\U0001f600".encode(), b"\x00", b"a\tb", b""):
            with socket.create_connection((host, port), timeout=10) as connection:
                connection.sendall(
                    b"DELETE /rooms/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + name + b": " + poison + b"\r\n\r\n"
                )
                answer = b""
                while chunk := connection.recv(65_536):
                    answer += chunk
            status = int(answer.split(b" ", 2)[1])
            assert 400 <= status < 500, (name, poison[:10], answer[:200])
    assert httpx.get(f"{server}/health").status_code == 200
