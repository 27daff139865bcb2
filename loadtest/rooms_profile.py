"""The rooms profile: slots lists at a constant rate with writers beside them.

Three measurements: the list alone by our raw client and by locust (the difference is locust's own share), then locust with
writers, which the thresholds judge.
"""

import argparse
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from rich.progress import Progress

import picture
import raw_http
from locust_run import Crowd, Sample, figures, figures_of, row_of, run_locust, shown_progress, verdict_lines, wrong_ones
from printing import console, figures_table, write_report
from request_names import BOOK, CANCEL, LIST, LOOK

#: P50, P95 and P99 in ms that the reference implementation in Go publishes for the list alone at 100 requests/s.
GO = (1.29, 1.93, 2.25)
_ROWS = {LIST: "list, with writers", BOOK: "book", CANCEL: "cancel", LOOK: "list, by writers"}


@dataclass(frozen=True)
class Rooms:
    """A service, its rooms, and who may ask."""

    url: str
    rooms: list[str]
    tokens: list[str]


def _days(first: int, number: int) -> list[str]:
    today = datetime.now(UTC).date()
    return [(today + timedelta(days=first + n)).isoformat() for n in range(number)]


def _list_alone_raw(target: Rooms, options: argparse.Namespace, progress: Progress) -> raw_http.Measured | None:
    """By our own client, one process, as little of its own as may be; None where the service is not on plain HTTP here."""
    parts = urlsplit(target.url)
    if parts.scheme != "http" or parts.hostname not in {"127.0.0.1", "localhost"}:
        return None
    port = parts.port or 80
    asked = [
        raw_http.request("GET", f"{parts.path}/rooms/{room}/slots?date={day}", port=port, token=token)
        for (room, day), token in zip(
            ((room, day) for room in target.rooms for day in _days(0, 7)),
            (target.tokens[n % len(target.tokens)] for n in count()),
            strict=False,
        )
    ]
    for message in asked[:: max(1, len(asked) // 50)]:
        raw_http.ask(port, message)
    task = progress.add_task("List alone, raw client", total=int(options.rate * options.alone))
    turn = count()
    return raw_http.constant_rate(
        port,
        lambda _number: asked[next(turn) % len(asked)],
        rate=options.rate,
        seconds=options.alone,
        told=lambda sent: progress.update(task, completed=sent),
    )


def _crowd(target: Rooms, options: argparse.Namespace, *, seconds: int, writers: int) -> Crowd:
    plan = {
        "rooms": target.rooms,
        "days": _days(0, 7),
        "writing_days": _days(7, 21),
        "tokens": target.tokens,
        "rate": options.rate,
        "users": options.users,
        "writers": writers,
        "bookings_per_second": options.bookings,
    }
    people = options.users + writers
    what = "List with writers, locust" if writers else "List alone, locust"
    return Crowd(what, "locustfile.py", plan, people, people, seconds)


def _measure(target: Rooms, options: argparse.Namespace) -> tuple[raw_http.Measured | None, list[Sample], list[Sample]]:
    with tempfile.TemporaryDirectory() as name, shown_progress() as progress:
        folder = Path(name)
        raw, alone = None, []
        if options.alone:
            raw = _list_alone_raw(target, options, progress)
            crowd = _crowd(target, options, seconds=options.alone, writers=0)
            alone = run_locust(target.url, crowd, progress, folder=folder, prefix=None)
        crowd = _crowd(target, options, seconds=options.duration, writers=options.writers)
        both = run_locust(target.url, crowd, progress, folder=folder, prefix=options.output / "locust")
        (options.output / "requests.csv").write_text((folder / "samples.csv").read_text())
    return raw, alone, both


def run(target: Rooms, options: argparse.Namespace) -> bool:
    """Measure, show, write the reports; whether the thresholds held."""
    raw, alone, both = _measure(target, options)
    found = figures_of(both, list(_ROWS))
    raw_figures = figures(raw.latencies, raw.seconds) if raw else None
    alone_figures = figures([one.milliseconds for one in alone], max(one.at for one in alone)) if alone else None
    error_rate = sum(bool(one.outcome) for one in both) / len(both)
    p95 = found[LIST]["p95"] if LIST in found else float("inf")
    reached = found[LIST]["perSecond"] if LIST in found else 0.0
    verdicts = {
        f"P95 of the lists {p95:.1f} ms, at most {options.p95_ms:g}": p95 <= options.p95_ms,
        f"errors {error_rate:.2%}, at most {options.max_error_rate:.2%}": error_rate <= options.max_error_rate,
        f"{reached:.1f} lists per second, at least 90 % of {options.rate:g}": reached >= 0.9 * options.rate,
    }
    if raw is not None and set(raw.statuses) - {200}:
        verdicts[f"the list alone was answered {dict(raw.statuses)}"] = False
    table = figures_table("rooms", "requests", "per second", "P50 ms", "P95 ms", "P99 ms", "errors")
    table.add_row("list alone: Go, published", "", "100", *(f"{value:.2f}" for value in GO))
    for name, shown in (("list alone: raw client", raw_figures), ("list alone: locust", alone_figures)):
        if shown is not None:
            table.add_row(name, *row_of(shown))
    for name, shown in found.items():
        table.add_row(_ROWS.get(name, name), *row_of(shown))
    console.print(table)
    console.print("  The raw client's figures are the service's; locust's own share (gevent, Python) is in all of its figures.")
    passed = verdict_lines(verdicts)
    for text in wrong_ones(both):
        console.print(f"          {text}", markup=False)
    report = {
        "url": options.url or "self-started, reference load",
        "rooms": len(target.rooms),
        "options": {name: str(value) for name, value in vars(options).items() if not name.endswith("token")},
        "goReferencePublished": dict(zip(("p50", "p95", "p99"), GO, strict=True)),
        "listAloneRawClient": raw_figures,
        "listAloneLocust": alone_figures,
        "withWriters": found,
        "errorRate": error_rate,
        "verdicts": verdicts,
        "passed": passed,
    }
    write_report(options.output / "load.json", report)
    lists = picture.Series("lists", [(one.at, one.milliseconds, not one.outcome) for one in both if one.name == LIST])
    others = [(one.at, one.milliseconds, not one.outcome) for one in both if one.name != LIST]
    title = (
        f"Holdfast: {options.rate:g} slots lists per second, {options.writers} writers, {options.duration} s (measured by locust)"
    )
    counted = [lists, picture.Series("looks, bookings, cancellations", others)]
    picture.draw(options.output / "latency.png", title, lists, counted, limit_ms=options.p95_ms)
    console.print(f"  {options.output}: load.json, locust.html, locust_stats.csv, requests.csv, latency.png")
    return passed
