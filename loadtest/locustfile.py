"""Locust's part of the rooms profile: readers of slots lists at a constant rate, and writers who book and cancel."""

import random
import time
from itertools import count
from typing import Any

from locust import events, task

from locust_person import Person, plan
from request_names import BOOK, CANCEL, LIST, LOOK

_readers, _writers = count(), count()


@events.init.add_listener
def _begin(**_more: Any) -> None:
    if vars(plan):
        Reader.fixed_count, Writer.fixed_count = plan.users, plan.writers


class _Paced(Person):
    """Somebody with an even pace. Locust's own constant_throughput would let all ask at the same instants."""

    abstract = True
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

    def slots(self, days: list[str], name: str) -> list[dict[str, Any]]:
        """The free slots of some room on some day."""
        response = self.ask(name, "GET", f"/rooms/{random.choice(plan.rooms)}/slots?date={random.choice(days)}")
        # Reading JSON takes longer than some answers: only who books looks into it.
        return response.json()["slots"] if response is not None and name == LOOK else []


class Reader(_Paced):
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


class Writer(_Paced):
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
        # A lost race is a right answer.
        response = self.ask(BOOK, "POST", "/bookings", {"slotId": random.choice(free)["id"]}, right=(201, 409))
        if response is not None and response.status_code == 201:
            self.ask(CANCEL, "POST", f"/bookings/{response.json()['booking']['id']}/cancel")
