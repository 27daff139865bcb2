"""Who travels together: in order, alone at once, and nobody pays for another's failure. No database."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holdfast.core.errors import Busy, Conflict
from holdfast.core.together import MOST_AT_ONCE, Together


class Runs:
    """A runner that keeps what it was given, and answers each with ten times as much."""

    def __init__(self, fail: Callable[[list[int]], None] = lambda _members: None) -> None:
        self.seen: list[list[int]] = []
        self._fail = fail

    async def __call__(self, members: list[int]) -> list[int | Exception]:
        self.seen.append(members)
        await asyncio.sleep(0.01)
        self._fail(members)
        return [member * 10 for member in members]


def everybody(
    together: Together, runner: Callable[[list[int]], Awaitable[list[int | Exception]]], count: int
) -> "asyncio.Future[list[int | BaseException]]":
    return asyncio.gather(*(together.run("key", n, runner) for n in range(count)), return_exceptions=True)


async def test_those_who_come_meanwhile_are_the_next_run_in_their_order() -> None:
    runs, together = Runs(), Together()
    first = asyncio.create_task(together.run("key", 7, runs))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert runs.seen == [[7]], "alone, one goes at once"
    assert await everybody(together, runs, 5) == [0, 10, 20, 30, 40]
    assert await first == 70
    assert runs.seen == [[7], [0, 1, 2, 3, 4]]


async def test_a_run_is_never_too_long() -> None:
    runs = Runs()
    assert await everybody(Together(), runs, MOST_AT_ONCE + 1) == [n * 10 for n in range(MOST_AT_ONCE + 1)]
    assert [len(run) for run in runs.seen] == [MOST_AT_ONCE, 1]


async def test_those_who_want_something_else_do_not_wait() -> None:
    runs, together, gate = Runs(), Together(), asyncio.Event()

    async def stuck(members: list[int]) -> list[int | Exception]:
        await gate.wait()
        return list(members)

    held_up = asyncio.create_task(together.run("one", 1, stuck))
    assert await together.run("other", 2, runs) == 20
    assert not held_up.done()
    gate.set()
    assert await held_up == 1


@pytest.mark.parametrize("failure", [ValueError("a defect"), Conflict()], ids=["a defect", "a refusal of the whole run"])
async def test_nobody_pays_for_anothers_failure(failure: Exception) -> None:
    def fail(members: list[int]) -> None:
        if 2 in members:
            raise failure

    runs = Runs(fail)
    assert await everybody(Together(), runs, 4) == [0, 10, failure, 30]
    assert runs.seen == [[0, 1, 2, 3], [0], [1], [2], [3]]


async def test_where_the_database_is_busy_nobody_tries_alone() -> None:
    busy = Busy()

    def fail(_members: list[int]) -> None:
        raise busy

    runs = Runs(fail)
    assert await everybody(Together(), runs, 3) == [busy] * 3
    assert len(runs.seen) == 1


async def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    runs, together = Runs(), Together()
    tasks = [asyncio.create_task(together.run("key", n, runs)) for n in range(3)]
    await asyncio.sleep(0.002)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert (tasks[0].result(), tasks[2].result()) == (0, 20)


async def test_nothing_is_done_for_one_who_has_gone_away_before() -> None:
    runs, together = Runs(), Together()
    tasks = [asyncio.create_task(together.run("key", 0, runs))]
    await asyncio.sleep(0.002)
    tasks += [asyncio.create_task(together.run("key", n, runs)) for n in (1, 2)]
    await asyncio.sleep(0.002)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert runs.seen == [[0], [2]]


async def test_closing_waits_for_what_is_under_way() -> None:
    runs, together = Runs(), Together()
    task = asyncio.create_task(together.run("key", 1, runs))
    watched = asyncio.ensure_future(asyncio.sleep(0.02, "done"))
    together.watch(watched)
    await asyncio.sleep(0)
    await together.close()
    assert watched.done()
    assert await task == 10
