"""The events profile: visitors of one sale, more of them each second, until long after it is sold out.

Each looks, holds one to four seats, books what is held under an Idempotency-Key, now and then cancels, and joins the
waitlist once there is nothing left. At the end: no seat twice, and all counts add up, in what visitors were told, over
the API, and in the database where it is ours.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

import picture
from locust_run import Crowd, Sample, figures, figures_of, row_of, run_locust, shown_progress, verdict_lines, wrong_ones
from organizer import Organizer, contradictions_in_api, contradictions_in_database, organizer, rows_of_seats
from printing import console, figures_table, write_report
from request_names import BOOK_HELD, CANCEL_SEATS, EVENT_REQUESTS, HOLD, JOIN, LOOK_AT_EVENT, LOOK_AT_LINE, REPEAT

#: P95 in ms that a known system in Go publishes for its event load test of 50 virtual users over 80 s: over all requests,
#: about half of which are redirects that touch no seat. Nobody was given a seat twice there either.
GO_P95 = 1.46


@dataclass(frozen=True)
class Visitors:
    """A service, tokens of those who visit, and the database where it is ours."""

    url: str
    tokens: list[str]
    database_url: str | None = None


@contextmanager
def _registered(url: str, number: int) -> Iterator[Visitors]:
    """New accounts on a running service, deleted afterwards with all that they booked."""
    with httpx.Client(base_url=url, timeout=30) as client:
        tokens: list[str] = []
        try:
            for _ in range(number):
                account = {"email": f"visitor-{uuid4()}@load.example.com", "password": str(uuid4())}
                client.post("/register", json={**account, "role": "user"}).raise_for_status()
                tokens.append(client.post("/login", json=account).raise_for_status().json()["token"])
            yield Visitors(url, tokens)
        except httpx.HTTPError as error:
            raise SystemExit(f"load-test: visitors cannot be registered at {url}: {error}") from None
        finally:
            for token in tokens:
                client.delete("/users/me", headers={"Authorization": f"Bearer {token}"})


def _told(lines: str) -> tuple[dict[str, list[str]], list[str]]:
    """The active bookings and their seats, as visitors were told; and what they found wrong."""
    active: dict[str, list[str]] = {}
    cancelled: set[str] = set()
    wrong: list[str] = []
    for one in map(json.loads, lines.splitlines()):
        if "booked" in one:
            active[one["booked"]] = one["seats"]
        elif "cancelled" in one:
            cancelled.add(one["cancelled"])
        else:
            wrong.append(one["wrong"])
    return {booking: seats for booking, seats in active.items() if booking not in cancelled}, wrong


def _contradictions(visitors: Visitors, admin: Organizer, event_id: str, lines: str) -> tuple[list[str], dict[str, Any]]:
    """What does not add up, and how the sale stands."""
    told, wrong = _told(lines)
    wrong += contradictions_in_api(admin, event_id, told)
    event = admin.event(event_id)
    line = [one for one in admin.line(event_id) if one["status"] == "waiting"]
    if [one["position"] for one in line] != list(range(1, len(line) + 1)):
        wrong.append(f"places in line {[one['position'] for one in line]}")
    if any(one["quantity"] <= event["available"] for one in line):
        wrong.append(f"{event['available']} seats are free, and somebody whom that is enough waits")
    if visitors.database_url is not None:
        seats = sum(map(len, told.values()))
        wrong += asyncio.run(contradictions_in_database(visitors.database_url, event_id, bookings=len(told), seats=seats))
    standing = {name: event[name] for name in ("capacity", "booked", "held", "available", "waiting")}
    return wrong, {**standing, "activeBookings": len(told)}


def _measure(
    visitors: Visitors, admin: Organizer, event_id: str, options: argparse.Namespace
) -> tuple[list[Sample], list[str], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name, shown_progress() as progress:
        folder = Path(name)
        plan = {"event": event_id, "tokens": visitors.tokens, "pause": options.pause, "told": str(folder / "told")}
        more, seconds = options.visitors / options.ramp, options.ramp + options.steady
        crowd = Crowd("Visitors of an event, locust", "locust_events.py", plan, options.visitors, more, seconds)
        found = run_locust(visitors.url, crowd, progress, folder=folder, prefix=options.output / "events")
        (options.output / "events_requests.csv").write_text((folder / "samples.csv").read_text())
        lines = (folder / "told").read_text()
    return found, *_contradictions(visitors, admin, event_id, lines)


def _new_event(admin: Organizer, options: argparse.Namespace) -> str:
    return admin.new_event("Load test", seats=rows_of_seats(options.seats, a_row=25, rows=10))


def run_here(visitors: Visitors, options: argparse.Namespace) -> bool:
    """Sell at a service of our own; whether the thresholds held and all adds up."""
    with organizer(visitors.url) as admin:
        return _run(visitors, admin, _new_event(admin, options), options)


def run_at(url: str, options: argparse.Namespace) -> bool:
    """The same at a running service, with visitors and an event that are gone afterwards."""
    with organizer(url, options.admin_token) as admin:
        event_id = _new_event(admin, options)
        try:
            with _registered(url, options.visitors) as visitors:
                return _run(visitors, admin, event_id, options)
        finally:
            admin.ask("DELETE", f"/events/{event_id}", expected=204)


def _run(visitors: Visitors, admin: Organizer, event_id: str, options: argparse.Namespace) -> bool:
    """Measure, show, write the reports."""
    samples, contradictions, standing = _measure(visitors, admin, event_id, options)
    found = figures_of(samples, EVENT_REQUESTS)
    whole = figures([one.milliseconds for one in samples], max(one.at for one in samples))
    whole["errors"] = sum(bool(one.outcome) for one in samples)
    error_rate = whole["errors"] / whole["requests"]
    verdicts = {
        f"P95 of all requests {whole['p95']:.1f} ms, at most {options.p95_ms:g}": whole["p95"] <= options.p95_ms,
        f"errors {error_rate:.2%}, at most {options.max_error_rate:.2%}": error_rate <= options.max_error_rate,
        f"no seat twice, all counts add up ({standing['activeBookings']} bookings)": not contradictions,
    }
    table = figures_table("events", "requests", "per second", "P50 ms", "P95 ms", "P99 ms", "errors")
    table.add_row("all: Go, published (half of it redirects)", "", "", "", f"{GO_P95:.2f}")
    for name, shown in {"all": whole, **found}.items():
        table.add_row(name, *row_of(shown))
    console.print(table)
    console.print(f"  At the end: {', '.join(f'{name} {number}' for name, number in standing.items())}")
    passed = verdict_lines(verdicts)
    for text in wrong_ones(samples) + contradictions[:10]:
        console.print(f"          {text}", markup=False)
    report = {
        "url": options.url or "self-started, reference load",
        "visitors": options.visitors,
        "ramp": options.ramp,
        "steady": options.steady,
        "pause": options.pause,
        "goReferencePublished": {"p95": GO_P95, "note": "about half of its requests are redirects"},
        "all": whole,
        "byOperation": found,
        "atTheEnd": standing,
        "contradictions": contradictions,
        "verdicts": verdicts,
        "passed": passed,
    }
    write_report(options.output / "events.json", report)
    _draw(samples, options)
    console.print(f"  {options.output}: events.json, events.html, events_stats.csv, events_requests.csv, events.png")
    return passed


def _draw(samples: list[Sample], options: argparse.Namespace) -> None:
    def series(name: str, kinds: set[str]) -> picture.Series:
        return picture.Series(name, [(one.at, one.milliseconds, not one.outcome) for one in samples if one.name in kinds])

    counted = [
        series("looks", {LOOK_AT_EVENT, LOOK_AT_LINE}),
        series("holds", {HOLD}),
        series("bookings, cancellations", {BOOK_HELD, REPEAT, CANCEL_SEATS}),
        series("joins", {JOIN}),
    ]
    pace = f"one more visitor every {options.ramp / options.visitors:.1f} s up to {options.visitors}"
    everything = series("all requests", {one.name for one in samples})
    picture.draw(
        options.output / "events.png",
        f"Holdfast: {pace}, {options.seats} seats (measured by locust)",
        everything,
        counted,
        limit_ms=options.p95_ms,
    )
