"""The load test: slots lists at a constant rate with writers beside them, judged by thresholds.

Three measurements: the list alone by our raw client and by locust (the difference is locust's own share), then locust with
writers, which the thresholds judge. Exit code 0 where they hold, 1 where not.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import picture
import processes
import raw_http
import reference_load
from raw_http import percentile

#: P50, P95 and P99 in ms that the reference implementation in Go publishes for the list alone at 100 requests/s.
GO = (1.29, 1.93, 2.25)
LIST, BOOK, CANCEL = "list slots", "book a slot", "cancel it"
_ROWS = {
    LIST: "list, with writers",
    BOOK: "book",
    CANCEL: "cancel",
    "look for a slot to book": "list, by writers",
}
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Target:
    """A service and who may ask what of it."""

    url: str
    rooms: list[str]
    tokens: list[str]


@dataclass(frozen=True)
class Sample:
    """One request: seconds since the first one, its name, milliseconds, and what was wrong (empty: nothing)."""

    at: float
    name: str
    milliseconds: float
    outcome: str


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Slots lists at a constant rate with writers beside them.")
    parser.add_argument("--rate", type=float, default=100, help="slots lists per second")
    parser.add_argument("--duration", type=int, default=30, help="seconds with writers")
    parser.add_argument(
        "--alone", type=int, default=10, help="seconds of each of the two measurements of the list alone; 0: none"
    )
    parser.add_argument("--users", type=int, default=50, help="readers that make the rate together")
    parser.add_argument("--writers", type=int, default=5, help="people who look, book and cancel")
    parser.add_argument("--bookings", type=float, default=5, help="bookings per second that the writers make together")
    parser.add_argument("--p95-ms", type=float, default=200, help="the lists' P95 must not exceed this")
    parser.add_argument("--max-error-rate", type=float, default=0.01, help="of all requests; a 409 of a lost race is no error")
    parser.add_argument("--url", help="a running service; without it one is started, with the reference load")
    parser.add_argument("--token", help="with --url: a user's access token; without it, /dummyLogin is asked for one")
    parser.add_argument("--workers", type=int, default=1, help="server processes of the service that is started")
    parser.add_argument("--output", type=Path, default=Path("reports/load"), help="folder for JSON, CSV, HTML and the picture")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    options = parser.parse_args()
    if options.rate <= 0 or options.duration < 1 or options.users < 1 or options.writers < 0 or options.bookings <= 0:
        parser.error("--rate, --duration, --users and --bookings must be above 0, --writers at least 0")
    return options


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """The named service, or one of our own that is gone afterwards."""
    if options.url:
        yield _running_target(options.url.rstrip("/"), options.token)
        return
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        built = reference_load.ensure(on)
        load = stack.enter_context(reference_load.cloned(on, built, "holdfast_load_run"))
        service = stack.enter_context(processes.holdfast(load.url, workers=options.workers))
        yield Target(service.url, [str(room.id) for room in load.rooms], load.tokens(2_000))


def _running_target(url: str, token: str | None) -> Target:
    try:
        with httpx.Client(base_url=url, timeout=10) as client:
            if token is None:
                answer = client.post("/dummyLogin", json={"role": "user"})
                if answer.status_code != 200:
                    raise SystemExit(f"load-test: {url} has no demo log-in: give a user's token with --token")
                token = str(answer.json()["token"])
            answer = client.get("/rooms", headers={"Authorization": f"Bearer {token}"})
    except httpx.HTTPError as error:
        raise SystemExit(f"load-test: {url} does not answer ({error}): is it running?") from None
    if answer.status_code != 200:
        raise SystemExit(f"load-test: {url}/rooms was answered {answer.status_code}: is the token good, and a user's?")
    rooms = [room["id"] for room in answer.json()["rooms"]]
    if not rooms:
        raise SystemExit(f"load-test: {url} has no rooms: make some first (holdfast seed)")
    return Target(url, rooms, [token])


def _days(first: int, number: int) -> list[str]:
    today = datetime.now(UTC).date()
    return [(today + timedelta(days=first + n)).isoformat() for n in range(number)]


def _list_alone_raw(target: Target, options: argparse.Namespace, progress: Progress) -> raw_http.Measured | None:
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


def _locust(
    target: Target,
    options: argparse.Namespace,
    progress: Progress,
    *,
    seconds: int,
    writers: int,
    folder: Path,
    prefix: Path | None,
) -> list[Sample]:
    """Run locust headless; with `prefix`, leave its CSV files and HTML report there."""
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
    (folder / "plan.json").write_text(json.dumps(plan))
    samples = folder / "samples.csv"
    samples.unlink(missing_ok=True)
    people = options.users + writers
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "WARNING", "--host", target.url]
    command += ["-f", str(Path(__file__).with_name("locustfile.py")), "--users", str(people), "--spawn-rate", str(people)]
    command += ["--run-time", f"{seconds}s", "--stop-timeout", "10", "--exit-code-on-error", "0"]
    command += ["--target", str(folder / "plan.json"), "--samples", str(samples)]
    if prefix is not None:
        command += ["--csv", str(prefix), "--csv-full-history", "--html", str(prefix.with_suffix(".html"))]
    what = "List with writers, locust" if writers else "List alone, locust"
    task = progress.add_task(what, total=seconds)
    with (folder / "locust.log").open("w+") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            _watch(child, samples, seconds, lambda done, told: progress.update(task, completed=done, description=f"{what}{told}"))
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait(15)
        log.seek(0)
        words = log.read()
    found = _samples(samples)
    if child.returncode or not found:
        raise SystemExit(f"load-test: locust failed ({child.returncode}). Its last words:\n{words[-1500:]}")
    return found


def _watch(child: subprocess.Popen[bytes], samples: Path, seconds: int, told: Any) -> None:
    begun: float | None = None
    limit = time.monotonic() + seconds + 60
    while child.poll() is None:
        if time.monotonic() > limit:
            raise SystemExit("load-test: locust did not end in time")
        time.sleep(0.25)
        if begun is None and samples.exists() and samples.stat().st_size > 50:
            begun = time.monotonic()
        if begun is not None:
            told(min(seconds, time.monotonic() - begun), "")
    told(seconds, "")


def _samples(path: Path) -> list[Sample]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [(float(row["at"]), row["name"], float(row["milliseconds"]), row["outcome"]) for row in csv.DictReader(file)]
    # The moment noted is that of the answer; a request belongs to the second in which it was sent.
    rows = [(at - milliseconds / 1000, name, milliseconds, outcome) for at, name, milliseconds, outcome in rows]
    first = min((row[0] for row in rows), default=0.0)
    return sorted((Sample(at - first, name, ms, outcome) for at, name, ms, outcome in rows), key=lambda one: one.at)


def _figures(latencies: Sequence[float], seconds: float) -> dict[str, float]:
    values = list(latencies)
    return {
        "requests": len(values),
        "perSecond": len(values) / seconds if seconds else 0.0,
        **{f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)},
        "max": max(values, default=0.0),
    }


def _table(rows: Sequence[tuple[str, dict[str, float] | None]]) -> Table:
    table = Table("", "requests", "per second", "P50 ms", "P95 ms", "P99 ms", box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("list alone: Go, published", "", "100", *(f"{value:.2f}" for value in GO))
    for name, figures in rows:
        if figures is not None:
            percentiles = (f"{figures[p]:.2f}" for p in ("p50", "p95", "p99"))
            table.add_row(name, f"{figures['requests']:,.0f}", f"{figures['perSecond']:,.1f}", *percentiles)
    return table


def _measure(options: argparse.Namespace) -> tuple[Target, raw_http.Measured | None, list[Sample], list[Sample]]:
    options.output.mkdir(parents=True, exist_ok=True)
    with _target(options) as target, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            raw, alone = None, []
            if options.alone:
                raw = _list_alone_raw(target, options, progress)
                alone = _locust(target, options, progress, seconds=options.alone, writers=0, folder=folder, prefix=None)
            prefix = options.output / "locust"
            both = _locust(
                target, options, progress, seconds=options.duration, writers=options.writers, folder=folder, prefix=prefix
            )
            (options.output / "requests.csv").write_text((folder / "samples.csv").read_text())
    return target, raw, alone, both


def main() -> int:
    """Measure, write the reports, judge."""
    options = _options()
    target, raw, alone, both = _measure(options)
    seconds = max(sample.at for sample in both)
    of_name = {name: [one for one in both if one.name == name] for name in sorted({one.name for one in both})}
    figures = {name: _figures([one.milliseconds for one in found], seconds) for name, found in of_name.items()}
    raw_figures = _figures(raw.latencies, raw.seconds) if raw else None
    alone_figures = _figures([one.milliseconds for one in alone], max(one.at for one in alone)) if alone else None
    wrong = [one for one in both if one.outcome]
    error_rate = len(wrong) / len(both)
    p95 = figures[LIST]["p95"] if LIST in figures else float("inf")
    reached = figures[LIST]["perSecond"] if LIST in figures else 0.0
    verdicts = {
        f"P95 of the lists {p95:.1f} ms, at most {options.p95_ms:g}": p95 <= options.p95_ms,
        f"errors {error_rate:.2%}, at most {options.max_error_rate:.2%}": error_rate <= options.max_error_rate,
        f"{reached:.1f} lists per second, at least 90 % of {options.rate:g}": reached >= 0.9 * options.rate,
    }
    if raw is not None and set(raw.statuses) - {200}:
        verdicts[f"the list alone was answered {dict(raw.statuses)}"] = False
    console.print(
        _table(
            [
                ("list alone: raw client", raw_figures),
                ("list alone: locust", alone_figures),
                *((_ROWS.get(name, name), found) for name, found in figures.items()),
            ]
        )
    )
    console.print("  The raw client's figures are the service's; locust's own share (gevent, Python) is in all of its figures.")
    for text, held in verdicts.items():
        console.print(f"  {'ok    ' if held else 'MISSED'}  {text}")
    for text in sorted({f"{one.name}: {one.outcome}" for one in wrong})[:5]:
        console.print(f"          {text}", markup=False)
    passed = all(verdicts.values())
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "url": options.url or "self-started, reference load",
        "rooms": len(target.rooms),
        "options": {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items() if name != "token"
        },
        "goReferencePublished": dict(zip(("p50", "p95", "p99"), GO, strict=True)),
        "listAloneRawClient": raw_figures,
        "listAloneLocust": alone_figures,
        "withWriters": figures,
        "errors": len(wrong),
        "errorRate": error_rate,
        "verdicts": verdicts,
        "passed": passed,
    }
    (options.output / "load.json").write_text(json.dumps(report, indent=2) + "\n")
    shown = {True: [], False: []}
    for one in both:
        shown[one.name == LIST].append((one.at, one.milliseconds, not one.outcome))
    title = (
        f"Holdfast: {options.rate:g} slots lists per second, {options.writers} writers, {options.duration} s (measured by locust)"
    )
    picture.draw(options.output / "latency.png", title, shown[True], shown[False], limit_ms=options.p95_ms)
    console.print(f"  {options.output}: load.json, locust.html, locust_stats.csv, requests.csv, latency.png")
    if passed:
        console.print("Held. Next: look at latency.png; make bench tells where the time goes; --rate 500 finds the limit.")
        return 0
    console.print("Missed. Next: look at latency.png for when, run again on a quiet machine, then make bench.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
