"""What both of locust's parts share: the plan, a line for each request, and somebody with a token and patience.

Started by locust_run.py, which says in a file (--target) whom to ask, as whom, and how often; each request becomes a line
of --samples. FastHttpUser, as the ordinary client costs several times more CPU than what it measures.
"""

import csv
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from locust import FastHttpUser, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

_PATIENCE = 10.0
#: What the profile wants; filled when locust starts.
plan = SimpleNamespace()


@events.init_command_line_parser.add_listener
def _arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--target", required=True, help="what to ask for: a file that the profile writes")
    parser.add_argument("--samples", required=True, help="a file for each request's moment, name, milliseconds and outcome")


@events.init.add_listener
def _begin(environment: Environment, **_more: Any) -> None:
    options = environment.parsed_options
    if options is None or options.target is None:
        return
    vars(plan).update(json.loads(Path(options.target).read_text()))
    # Flushed line by line, so that it is seen from outside that it goes.
    samples = Path(options.samples).open("w", newline="", buffering=1)  # noqa: SIM115 - closed when locust quits
    rows = csv.writer(samples)
    rows.writerow(("at", "name", "milliseconds", "outcome"))

    def note(name: str, response_time: float, exception: object, **_other: Any) -> None:
        rows.writerow((f"{time.time():.3f}", name, f"{response_time:.3f}", "" if exception is None else str(exception)[:200]))

    def end(**_other: Any) -> None:
        samples.close()

    environment.events.request.add_listener(note)
    environment.events.quit.add_listener(end)


class Person(FastHttpUser):
    """Somebody with a token of one's own, as far as there are enough."""

    abstract = True
    connection_timeout = _PATIENCE
    network_timeout = _PATIENCE

    def as_somebody(self, number: int) -> None:
        """Take the token of this number."""
        self.headers = {"Authorization": f"Bearer {plan.tokens[number % len(plan.tokens)]}"}

    def ask(
        self, name: str, method: str, path: str, body: Any = None, *, right: tuple[int, ...] = (200,), key: str | None = None
    ) -> Any:
        """The answer to a request, its status among the `right` ones; None where it is not, which is noted as an error."""
        headers = self.headers if key is None else {**self.headers, "Idempotency-Key": key}
        with self.client.request(method, path, json=body, headers=headers, name=name, catch_response=True) as response:
            if response.status_code not in right:
                response.failure(f"status {response.status_code}")
                return None
            response.success()
        return response
