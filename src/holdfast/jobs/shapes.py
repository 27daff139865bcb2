"""What a job, a kind of jobs and a periodic job are, and how a handler says what becomes of its job."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

#: Pauses after the first, second, ... failure: eleven runs over a little more than three days.
DEFAULT_PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 86_400)
)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a piece of work. `failures` counts the earlier runs that failed; `last`: after this one there is no other.

    `trace` is the traceparent of what asked for it.
    """

    id: UUID
    kind: str
    payload: dict[str, Any]
    failures: int
    trace: str | None
    last: bool


class Dead(Exception):
    """Raised by a handler to give up at once: the job is kept for an admin, with this text. No secrets in it."""


class Later(Exception):
    """Raised by a handler whose time has not come: the job runs again after `pause`, and nothing has failed."""

    def __init__(self, pause: timedelta) -> None:
        self.pause = pause
        super().__init__(f"again in {pause}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What is done with the jobs of a name. The handler must bear being run twice for one job.

    `pauses` follow the first, second, ... failure; after the last the job is dead. `lease` is how long a worker that gives no
    sign of life keeps a job (a living one renews it); `deadline` ends a run that hangs. `at_once` bounds how many run side by
    side in one process.
    """

    name: str
    handler: Callable[[Job], Awaitable[None]]
    pauses: tuple[timedelta, ...] = DEFAULT_PAUSES
    lease: timedelta = timedelta(seconds=60)
    deadline: timedelta = timedelta(seconds=120)
    at_once: int = 8


@dataclass(frozen=True, slots=True)
class Periodic:
    """What is done every so often: by one worker of all, at most once in `every`."""

    name: str
    every: timedelta
    handler: Callable[[], Awaitable[None]]
