"""What arrives while a run is under way travels together in the next one: no timer, and alone it goes at once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from holdfast.core.errors import Busy

T = TypeVar("T")
R = TypeVar("R")
#: So many at most, so that a run stays short however many wait.
MOST_AT_ONCE = 64


class Together:
    """Runs by key, one at a time for each, its members in order of arrival. For one process; the database orders processes."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[Any, asyncio.Future[Any]]]] = {}
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._watched: set[asyncio.Future[Any]] = set()

    async def run(self, key: Hashable, member: T, runner: Callable[[list[T]], Awaitable[list[R | Exception]]]) -> R:
        """The member's result out of the run that it travelled in; raises where the runner returned an exception for it.

        A runner that fails is run again with each member alone, as one must not spoil the others' requests; but not where it
        is Busy, which each would be.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((member, future))
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._work(key, runner))
        return await future

    async def _work(self, key: Hashable, runner: Callable[[list[Any]], Awaitable[list[Any]]]) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                waited = [waiting.popleft() for _ in range(min(len(waiting), MOST_AT_ONCE))]
                # Nothing is taken for those who have gone away meanwhile.
                members = [(one, future) for one, future in waited if not future.done()]
                if not members:
                    continue
                for (_, future), result in zip(members, await _results(runner, [one for one, _ in members]), strict=True):
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            del self._waiting[key], self._running[key]
            for _, future in waiting:
                future.cancel()

    def watch(self, future: asyncio.Future[Any]) -> None:
        """Let something run on that nobody waits for any more, and keep it from being collected before its end."""
        self._watched.add(future)
        future.add_done_callback(self._watched.discard)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._running.values(), *self._watched, return_exceptions=True)


async def _results(runner: Callable[[list[Any]], Awaitable[list[Any]]], members: list[Any]) -> list[Any]:
    try:
        return await runner(members)
    except Busy as refusal:
        return [refusal] * len(members)
    except Exception as error:  # noqa: BLE001 - a loop's edge: each member gets what its own run raises
        if len(members) == 1:
            return [error]
        return [result for member in members for result in await _results(runner, [member])]
