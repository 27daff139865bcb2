"""The load test: the rooms profile, then the events profile, judged by thresholds. Exit code 0 where they hold, 1 where not.

Without --url against a service of its own, with the reference load; python loadtest/run.py --help
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

import events_profile
import processes
import reference_load
import rooms_profile
from events_profile import Visitors
from printing import console
from rooms_profile import Rooms

ROOMS, EVENTS, BOTH = "rooms", "events", "all"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Slots lists with writers beside them, then the sale of an event.")
    parser.add_argument("--profile", choices=(ROOMS, EVENTS, BOTH), help=f"default: {BOTH}; with --url: {ROOMS}")
    parser.add_argument("--p95-ms", type=float, default=200, help="P95 of the lists, or of the event's requests, at most")
    parser.add_argument("--max-error-rate", type=float, default=0.01, help="of all requests; a 409 of a lost race is no error")
    parser.add_argument("--url", help="a running service; without it one is started, with the reference load")
    parser.add_argument("--token", help="with --url: a user's access token; without it, /dummyLogin is asked for one")
    parser.add_argument("--admin-token", help=f"with --url, for {EVENTS}: an admin's; without it, /dummyLogin is asked for one")
    parser.add_argument("--workers", type=int, default=1, help="server processes of the service that is started")
    parser.add_argument("--output", type=Path, default=Path("reports/load"), help="folder for JSON, CSV, HTML and the pictures")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    rooms = parser.add_argument_group("rooms profile")
    rooms.add_argument("--rate", type=float, default=100, help="slots lists per second")
    rooms.add_argument("--duration", type=int, default=30, help="seconds with writers")
    rooms.add_argument("--alone", type=int, default=10, help="seconds of each of the two measurements of the list alone; 0: none")
    rooms.add_argument("--users", type=int, default=50, help="readers that make the rate together")
    rooms.add_argument("--writers", type=int, default=5, help="people who look, book and cancel")
    rooms.add_argument("--bookings", type=float, default=5, help="bookings per second that the writers make together")
    events = parser.add_argument_group("events profile")
    events.add_argument("--visitors", type=int, default=50, help="people at the end of the ramp")
    events.add_argument("--ramp", type=int, default=80, help="seconds until all of them are there")
    events.add_argument("--steady", type=int, default=20, help="seconds that they stay then")
    events.add_argument("--seats", type=int, default=1_000, help="of the event; sold out before the ramp ends")
    events.add_argument("--pause", type=float, default=0.8, help="seconds between two requests of a visitor, on average")
    options = parser.parse_args()
    if options.rate <= 0 or options.duration < 1 or options.users < 1 or options.writers < 0 or options.bookings <= 0:
        parser.error("--rate, --duration, --users and --bookings must be above 0, --writers at least 0")
    if options.visitors < 1 or options.ramp < 1 or options.steady < 0 or options.seats < 1 or options.pause < 0:
        parser.error("--visitors, --ramp and --seats must be above 0, --steady and --pause at least 0")
    options.profile = options.profile or (ROOMS if options.url else BOTH)
    return options


def _own_service(options: argparse.Namespace, stack: ExitStack) -> tuple[Rooms, Visitors]:
    """A service with the reference load, gone when the stack is closed."""
    on = stack.enter_context(reference_load.server(options.data_dir))
    built = reference_load.ensure(on)
    load = stack.enter_context(reference_load.cloned(on, built, "holdfast_load_run"))
    service = stack.enter_context(processes.holdfast(load.url, workers=options.workers))
    rooms = Rooms(service.url, [str(room.id) for room in load.rooms], load.tokens(2_000))
    return rooms, Visitors(service.url, load.tokens(options.visitors), database_url=load.url)


def _running_rooms(url: str, token: str | None) -> Rooms:
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
    return Rooms(url, rooms, [token])


def _profiles(options: argparse.Namespace, stack: ExitStack) -> dict[str, Callable[[], bool]]:
    """What is to be run, each with its verdict."""
    if options.url:
        url = options.url.rstrip("/")
        profiles = {
            ROOMS: lambda: rooms_profile.run(_running_rooms(url, options.token), options),
            EVENTS: lambda: events_profile.run_at(url, options),
        }
    else:
        rooms, visitors = _own_service(options, stack)
        profiles = {ROOMS: lambda: rooms_profile.run(rooms, options), EVENTS: lambda: events_profile.run_here(visitors, options)}
    return {name: run for name, run in profiles.items() if options.profile in {name, BOTH}}


def main() -> int:
    """Measure, write the reports, judge."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        held = {name: run() for name, run in _profiles(options, stack).items()}
    if all(held.values()):
        console.print("Held. Next: look at the pictures; make bench tells where the time goes; --rate 500 finds the limit.")
        return 0
    missed = " and ".join(name for name, passed in held.items() if not passed)
    console.print(f"Missed: {missed}. Next: look at the picture for when, run again on a quiet machine, then make bench.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
