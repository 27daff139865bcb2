"""Schemathesis, all its phases and checks: no 500, no undocumented status, content type or shape, and the schema is true.

`make test` runs the bounded form; HOLDFAST_FUZZ_CASES (examples per operation and caller) makes it longer.
"""

import itertools
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
import schemathesis.engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from schemathesis.schemas import BaseSchema

from holdfast.core.ids import new_id
from holdfast.core.security import AccessTokens
from holdfast.core.settings import load_settings
from holdfast.main import build_app, build_state
from support.contract import service_document
from support.databases import execute
from support.servers import SECRET

#: Examples per operation and caller in the fuzzing phase; the coverage phase adds its own.
CASES = int(os.environ.get("HOLDFAST_FUZZ_CASES", "8"))
#: Always the same cases in the bounded form; others each time in the longer one, which prints its seed with a failure.
SEED = secrets.randbits(32) if "HOLDFAST_FUZZ_CASES" in os.environ else 20261120
AT_LEAST = 500  # for each of two callers
#: These end the caller's own account or session, so each call of theirs has a caller of its own.
ENDING = {"deleteMe", "logout"}
#: The document in two parts, as one run of all of it would take longer than a test may: by the paths that a part leaves out.
_OUTWARD = "analytics|api-keys|audit|auth|bookings\\.csv|calendar|changes|jobs|notices|users|webhooks"
PARTS = {"what is booked": f"^/({_OUTWARD})", "who may, and what happens next": f"^/(?!{_OUTWARD})"}
#: Left out: a good answer has no end, and what has none cannot be compared with a schema. test_poison.py asks for its beginning.
ENDLESS = "/stream"

#: Valid by the schema, and still refused with 400 for what no schema says: the check is off for these, with its reason.
SEMANTIC = {
    "the time may be past, outside of the schedule, or end before it begins": [
        "POST /bookings",
        "POST /bookings/create",
        "POST /users/{user_id}/bookings",
        "POST /bookings/{booking_id}/reschedule",
        "POST /rooms/{room_id}/closures",
        "POST /hosts/{host_id}/closures",
        "POST /holds",
        "POST /slots",
        "POST /events",
        "PATCH /events/{event_id}",
    ],
    "a window may end before it begins, be shorter than a slot, or overlap another": [
        "POST /rooms/{room_id}/schedule/create",
        "PUT /rooms/{room_id}/schedule",
        "PUT /hosts/{host_id}/schedule",
    ],
    "either date, or both from and to, at most 31 days apart: OpenAPI cannot relate parameters": [
        "GET /rooms/{room_id}/slots",
        "GET /rooms/{room_id}/slots/list",
        "GET /hosts/{host_id}/slots",
    ],
    "the rule is RFC 5545's grammar, and its times are as those of a booking": [
        "POST /bookings/series",
        "POST /bookings/series/preview",
        "POST /series/{series_id}/reschedule",
    ],
    "from must be before to": ["GET /availability", "GET /analytics/bookings", "GET /analytics/bookings.csv"],
    "a cursor is opaque, and only one that was given out is taken": [
        "GET /bookings",
        "GET /bookings/list",
        "GET /audit",
        "GET /changes",
    ],
    "only a token that was mailed is good": ["PUT /auth/password-reset"],
    "an end in the past is none": ["POST /api-keys"],
    "webhooks go to public addresses by https, and know the types of messages": [
        "POST /webhooks",
        "PATCH /webhooks/{webhook_id}",
    ],
    "a taken e-mail is 400 by the room contract": ["POST /register"],
    "which names are time zones, the time zone data say": [
        "POST /rooms",
        "POST /rooms/create",
        "PATCH /rooms/{room_id}",
        "POST /hosts",
        "PATCH /hosts/{host_id}",
    ],
    "a slot can be had once: a quantity with it makes no sense": ["POST /waitlist"],
    "all rows of all sections together are at most 20,000 seats": ["POST /events/{event_id}/seats"],
}
#: 412: `If-Match` of another version. 422: a key that comes with another request. Both are answers to valid requests.
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "429", "5xx"]
#: 413: twenty thousand seats fit into a body, and what has more items than that may well not. 5xx is another check's.
REJECTED = ["400", "401", "403", "404", "405", "409", "412", "413", "422", "5xx"]


def config() -> SchemathesisConfig:
    """All checks, but for the exceptions above."""
    checked = {"enabled": False}
    operations: list[dict[str, Any]] = [
        {"include-name": name, "checks": {"positive_data_acceptance": checked}} for names in SEMANTIC.values() for name in names
    ]
    # What was just made has no schedule: 404 SCHEDULE_NOT_FOUND does not mean that the room or the host is missing.
    operations += [
        {"include-name": name, "checks": {"ensure_resource_availability": checked}}
        for name in ("GET /rooms/{room_id}/schedule", "GET /hosts/{host_id}/schedule")
    ]
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "generation": {"max-examples": CASES},
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ACCEPTED},
                "negative_data_rejection": {"expected-statuses": REJECTED},
            },
            "output": {"sanitization": {"enabled": False}},
            "operations": operations,
        }
    )


class People:
    """Users with sessions, made beforehand: the application lives in another thread's event loop."""

    def __init__(self, url: str, role: str, count: int) -> None:
        now, tokens = datetime.now(UTC), AccessTokens(SECRET, minutes=60)
        self._tokens: list[str] = []
        users, sessions = [], []
        for _ in range(count):
            user, session = new_id(), new_id()
            users.append(f"('{user}', '{user}@example.com', '{user}@example.com', '{role}')")
            sessions.append(f"('{session}', '{user}', now(), now() + interval '1 day')")
            self._tokens.append(tokens.sign(user_id=user, role=role, session_id=session, now=now - timedelta(seconds=1)))
        execute(
            url,
            f"INSERT INTO users (id, email, email_key, role) VALUES {','.join(users)}",
            f"INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES {','.join(sessions)}",
        )
        self._spare: Iterator[str] = itertools.cycle(self._tokens[1:])

    def token(self, operation: str | None) -> str:
        return next(self._spare) if operation in ENDING else self._tokens[0]


@dataclass
class Outcome:
    """What a run did."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    by_operation: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def make_schema(url: str, people: People, left_out: str) -> BaseSchema:
    # The worker would call what webhooks are made here, by addresses that are not ours to call.
    settings = load_settings(
        database_url=url, jwt_secret=SECRET, bcrypt_cost=4, login_limit="off", worker="apart", _env_file=None
    )
    schema = (
        schemathesis.openapi.from_dict(service_document(), config=config()).exclude(path=ENDLESS).exclude(path_regex=left_out)
    )
    schema.app = build_app(build_state(settings))

    @schema.auth(refresh_interval=None)
    class Bearer:
        def get(self, case: Any, _context: Any) -> str:
            return people.token(case.operation.definition.raw.get("operationId"))

        def set(self, case: Any, data: str, _context: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}

    return schema


def run(schema: BaseSchema) -> Outcome:
    outcome = Outcome()
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            outcome.failures[f"error {event.label}"] = str(event.info)
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            outcome.sent += len(recorder.interactions)
            for case_id, checks in recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        label = f"{recorder.cases[case_id].value.operation.label}: {check.name}"
                        answer = recorder.interactions[case_id].response
                        told = answer.content.decode("utf-8", "replace")[:500] if answer is not None else "no answer"
                        outcome.failures.setdefault(
                            label, f"{check.failure_info.failure.message}\n{check.failure_info.code_sample[:1500]}\n{told}"
                        )
            for interaction in recorder.interactions.values():
                if interaction.response is not None:
                    outcome.statuses[interaction.response.status_code] += 1
            outcome.by_operation[event.label or ""] += len(recorder.interactions)
    return outcome


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("role", ["admin", "user"])
def test_the_service_does_what_its_document_says(role: str, part: str, own_database: str) -> None:
    outcome = run(make_schema(own_database, People(own_database, role, 500), PARTS[part]))
    if outcome.failures:
        pytest.fail(
            f"seed {SEED}\n\n" + "\n\n".join(f"{name}\n{what}" for name, what in sorted(outcome.failures.items())), pytrace=False
        )
    assert outcome.sent >= AT_LEAST
    assert set(outcome.statuses) >= {200, 201, 400, 404}
