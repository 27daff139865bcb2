"""Locust's part of the events profile: visitors who look, hold, book, now and then cancel, and wait once it is sold out.

What each of them was told becomes a line of the file `told`: a booking with its seats, or one that is cancelled.
"""

import json
import random
import time
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from locust import events, task

from locust_person import Person, plan
from request_names import BOOK_HELD, CANCEL_SEATS, HOLD, JOIN, LOOK_AT_EVENT, LOOK_AT_LINE, REPEAT

#: How many of the visits end with a cancellation, and of the bookings are sent again with the same key.
_CANCELLED, _REPEATED = 0.1, 0.05
_visitors = count()


@events.init.add_listener
def _begin(**_more: Any) -> None:
    if vars(plan):
        Visitor.event = f"/events/{plan.event}"
        Visitor.told = Path(plan.told).open("w", buffering=1)  # noqa: SIM115 - closed when locust ends


class Visitor(Person):
    """Wants one to four seats, again and again."""

    event = ""
    told: Any = None

    def on_start(self) -> None:
        """Nothing booked yet, nothing waited for."""
        self.as_somebody(next(_visitors))
        self._bookings: list[str] = []
        self._entry: str | None = None

    def wait_time(self) -> float:
        """Seconds between two requests of one visitor; `pause` evenly spread around its mean."""
        return float(plan.pause * random.uniform(0.5, 1.5))

    @task
    def visit(self) -> None:
        """Look; then hold and book, or see to one's place in the line."""
        self.ask(LOOK_AT_EVENT, "GET", self.event)
        time.sleep(self.wait_time())
        if self._entry is None:
            self._hold_and_book(random.randint(1, 4))
        else:
            self._see_to_the_line(self._entry)
        if self._bookings and random.random() < _CANCELLED:
            time.sleep(self.wait_time())
            self._cancel()

    def _hold_and_book(self, quantity: int) -> None:
        # Sold out is a right answer.
        wanted = {"eventId": plan.event, "quantity": quantity}
        response = self.ask(HOLD, "POST", "/holds", wanted, right=(201, 409))
        if response is None:
            return
        time.sleep(self.wait_time())
        if response.status_code == 201:
            self._book(response.json()["hold"]["token"])
            return
        # Something was given back meanwhile: 409, and the next visit finds it.
        response = self.ask(JOIN, "POST", "/waitlist", wanted, right=(201, 409))
        if response is not None and response.status_code == 201:
            self._entry = response.json()["entry"]["id"]

    def _see_to_the_line(self, entry_id: str) -> None:
        response = self.ask(LOOK_AT_LINE, "GET", f"/waitlist/{entry_id}")
        if response is None:
            return
        entry = response.json()["entry"]
        if entry["status"] == "offered":
            time.sleep(self.wait_time())
            self._book(entry["holdToken"])
        if entry["status"] != "waiting":
            self._entry = None

    def _book(self, hold_token: str) -> None:
        key, body = str(uuid4()), {"holdToken": hold_token}
        response = self.ask(BOOK_HELD, "POST", "/bookings", body, right=(201,), key=key)
        if response is None:
            return
        booking = response.json()["booking"]
        self._bookings.append(booking["id"])
        self._tell({"booked": booking["id"], "seats": booking["seats"]})
        if random.random() < _REPEATED:
            again = self.ask(REPEAT, "POST", "/bookings", body, right=(201,), key=key)
            if again is not None and again.content != response.content:
                self._tell({"wrong": f"the same key was answered {again.text[:200]} after {response.text[:200]}"})

    def _cancel(self) -> None:
        booking_id = self._bookings.pop(random.randrange(len(self._bookings)))
        if self.ask(CANCEL_SEATS, "POST", f"/bookings/{booking_id}/cancel") is not None:
            self._tell({"cancelled": booking_id})

    def _tell(self, what: dict[str, Any]) -> None:
        self.told.write(json.dumps(what) + "\n")
