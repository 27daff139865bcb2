"""Locust's part of the load test: readers of slots lists at a constant rate, and writers who book and cancel.

Started by run.py, which says in a file (--target) whom to ask, as whom, and how often; each request becomes a line of --samples.
FastHttpUser, as the ordinary client costs several times more CPU than what it measures.
"""

import csv
import json
import random
import time
from itertools import count
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

#: Names of the requests in every report.
LIST, BOOK, CANCEL, LOOK = "list slots", "book a slot", "cancel it", "look for a slot to book"
_PATIENCE = 10.0


class Plan:
    """What run.py wants; filled when locust starts."""

    rooms: list[str]
    days: list[str]
    writing_days: list[str]
    tokens: list[str]
    rate: float
    users: int
    writers: int
    bookings_per_second: float


plan = Plan()
_readers, _writers = count(), count()


@events.init_command_line_parser.add_listener
def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--target", required=True, help="what to ask for: a file that run.py writes")
    parser.add_argument("--samples", required=True, help="a file for each request's moment, name, milliseconds and outcome")


@events.init.add_listener
def _begin(environment: Environment, **_more: Any) -> None:
    options = environment.parsed_options
    if options is None or options.target is None:
        return
    for name, value in json.loads(Path(options.target).read_text()).items():
        setattr(plan, name, value)
    Reader.fixed_count, Writer.fixed_count = plan.users, plan.writers
    # Flushed line by line, so that run.py sees that it goes.
    samples = Path(options.samples).open("w", newline="", buffering=1)  # noqa: SIM115 - closed when locust quits
    rows = csv.writer(samples)
    rows.writerow(("at", "name", "milliseconds", "outcome"))

    def note(name: str, response_time: float, exception: object, **_other: Any) -> None:
        rows.writerow((f"{time.time():.3f}", name, f"{response_time:.3f}", "" if exception is None else str(exception)[:200]))

    def end(**_other: Any) -> None:
        samples.close()

    environment.events.request.add_listener(note)
    environment.events.quit.add_listener(end)


class _Person(FastHttpUser):
    """Somebody with a token and an even pace. Locust's own constant_throughput would let all ask at the same instants."""

    abstract = True
    connection_timeout = _PATIENCE
    network_timeout = _PATIENCE
    _period = 1.0
    _due = 0.0

    def pace(self, per_second: float, number: int, of: int) -> None:
        """Be one of `of` people who together make that many tasks a second, and wait for one's first turn."""
        self._period = of / per_second
        self._due = time.monotonic() + number % of / per_second
        time.sleep(number % of / per_second)

    def wait_time(self) -> float:
        """Seconds to the next turn; who is late catches up."""
        self._due += self._period
        return max(0.0, self._due - time.monotonic())

    def as_somebody(self, number: int) -> None:
        """Take a token of one's own, as far as there are enough."""
        self.headers = {"Authorization": f"Bearer {plan.tokens[number % len(plan.tokens)]}"}

    def slots(self, days: list[str], name: str) -> list[dict[str, Any]]:
        """The free slots of some room on some day."""
        room, day = random.choice(plan.rooms), random.choice(days)
        with self.client.get(f"/rooms/{room}/slots?date={day}", headers=self.headers, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return []
            response.success()
        # Reading JSON takes longer than some answers: only who books looks into it.
        return response.json()["slots"] if name == LOOK else []


class Reader(_Person):
    """Reads slots lists, at a constant rate whatever the answers do."""

    def on_start(self) -> None:
        """Begin out of step with the others."""
        number = next(_readers)
        self.as_somebody(number)
        self.pace(plan.rate, number, plan.users)

    @task
    def read(self) -> None:
        """One list."""
        self.slots(plan.days, LIST)


class Writer(_Person):
    """Looks for a free slot, books it, cancels the booking."""

    def on_start(self) -> None:
        """As readers."""
        number = next(_writers)
        self.as_somebody(plan.users + number)
        self.pace(plan.bookings_per_second, number, plan.writers)

    @task
    def write(self) -> None:
        """One booking and its end."""
        free = self.slots(plan.writing_days, LOOK)
        if not free:
            return
        body = {"slotId": random.choice(free)["id"]}
        with self.client.post("/bookings", json=body, headers=self.headers, name=BOOK, catch_response=True) as response:
            if response.status_code == 409:
                # A lost race is a right answer.
                response.success()
                return
            if response.status_code != 201:
                response.failure(f"status {response.status_code}")
                return
            response.success()
        booking = response.json()["booking"]["id"]
        with self.client.post(f"/bookings/{booking}/cancel", headers=self.headers, name=CANCEL, catch_response=True) as response:
            if response.status_code == 200:
                response.success()
            else:
                response.failure(f"status {response.status_code}")
