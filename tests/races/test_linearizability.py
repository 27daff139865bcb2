"""Concurrent histories over HTTP, recorded and checked: some order of the requests explains every answer; controls are found."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from holdfast.db import locks
from holdfast.verification import (
    Kind,
    Plan,
    Report,
    VerificationError,
    check,
    record,
    run_verification,
    verify_file,
)
from support.races import Arena, apart
from support.servers import ServerProcess, served
from support.small_service import FAULTS, SmallService

#: The gate's size. `holdfast verify --seconds 3600` is the long form.
PLAN = Plan(clients=20, operations=2000)
QUICK = Plan(clients=20, operations=1500, hold_for=timedelta(seconds=0.1))


@pytest.fixture
def server(own_database: str, tmp_path: Path) -> Iterator[ServerProcess]:
    with served({"HOLDFAST_DATABASE_URL": own_database}, log=tmp_path / "service.log") as running:
        yield running


@pytest.fixture
async def eye(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


async def _verified(server: ServerProcess, plan: Plan, *, save: Path | None = None) -> Report:
    told: list[tuple[str, float, float]] = []
    # A thread: the command runs a loop of its own, and the test is in the midst of one.
    report = await asyncio.to_thread(run_verification, server.url, plan, save=save, told=lambda *now: told.append(now))
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["preparing", "recording", "checking"]
    assert all(0 <= done <= total for _, done, total in told)
    return report


async def test_two_thousand_concurrent_operations_are_linearizable(
    server: ServerProcess, eye: asyncpg.Connection, tmp_path: Path
) -> None:
    report = await _verified(server, PLAN, save=tmp_path / "history.jsonl")
    assert report.verdict.linearizable, report.describe()
    answers = report.history.answers()
    assert report.verdict.operations >= 2000
    assert report.verdict.unknown == 0, report.describe()
    assert set(answers) <= {
        "read 200",
        "book 201",
        "book 409 SLOT_ALREADY_BOOKED",
        "cancel 200",
        "reschedule 200",
        "reschedule 409 SLOT_ALREADY_BOOKED",
        "hold 201",
        "hold 409 SLOT_ALREADY_BOOKED",
        "confirm 201",
        "confirm 410 HOLD_EXPIRED",
        "release 204",
        "release 410 HOLD_EXPIRED",
    }, report.describe()
    # It is a race only where many lose, and worth one only where many win.
    assert min(answers["book 201"], answers["book 409 SLOT_ALREADY_BOOKED"], answers["cancel 200"]) > 50, report.describe()
    assert min(answers["hold 201"], answers["confirm 201"]) > 10, report.describe()
    assert answers["release 204"] > 0, report.describe()
    again = await asyncio.to_thread(verify_file, tmp_path / "history.jsonl")
    assert again == report
    # It has taken away what it made.
    assert await eye.fetchval("SELECT count(*) FROM resources WHERE archived_at IS NULL") == 0


_SWALLOW = """
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF random() < 0.3 THEN RETURN NULL; END IF; RETURN coalesce(NEW, OLD); END $$"""


@pytest.mark.parametrize("event", ["INSERT", "DELETE"])
async def test_control_claims_that_are_not_written_or_not_deleted_now_and_then_are_found(
    server: ServerProcess, eye: asyncpg.Connection, event: str
) -> None:
    """Three in ten: the real service, over real HTTP, on a database that forgets a claim, or a claim's end."""
    await eye.execute(_SWALLOW)
    await eye.execute(f"CREATE TRIGGER swallow BEFORE {event} ON claims FOR EACH ROW EXECUTE FUNCTION swallow()")
    report = await _verified(server, Plan(clients=20, operations=500, holds=False, slots=3))
    assert report.verdict.anomalies, report.describe()
    assert "No order explains" in report.describe()


async def test_control_without_lock_and_constraint_the_race_itself_is_found(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look alone is no guard: two who look at once both book."""

    async def nothing(*_arguments: object, **_named: object) -> None:
        return

    for way in ("resources", "resources_by"):
        monkeypatch.setattr(locks, way, nothing)
    await arena.eye.execute("ALTER TABLE claims DROP CONSTRAINT claims_never_overlap")
    # Between the look and the claim a machine may be slow: then it does not depend on luck whether two meet there.
    await arena.eye.execute(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'"
    )
    await arena.eye.execute("CREATE TRIGGER dawdle BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION dawdle()")
    transport = arena.api.client._transport
    plan = Plan(clients=20, operations=600, holds=False, rooms=1, slots=3)
    async with apart(arena):
        history = await record("http://holdfast.test", plan, transport=transport)
    verdict = check(history)
    assert verdict.anomalies, verdict.describe()
    assert {anomaly.culprit.kind for anomaly in verdict.anomalies} <= {Kind.BOOK, Kind.RESCHEDULE, Kind.READ}


# --- the recorder and the checker, on a service in memory --------------------------------------------------------------


async def test_a_service_that_keeps_its_word_is_linearizable_whatever_answers_are_lost() -> None:
    for lost in (0.0, 0.05):
        service = SmallService(hold_for=0.1, lost_answers=lost)
        history = await record("http://small.test", QUICK, transport=service.transport)
        verdict = check(history)
        assert verdict.linearizable, verdict.describe()
        assert (verdict.unknown > 10) is (lost > 0)


@pytest.mark.parametrize("fault", FAULTS)
async def test_control_each_planted_fault_is_found(fault: str) -> None:
    # Most show at once; some only where two meet at the end of a hold, which is chance.
    for plan in (QUICK, *(replace(QUICK, operations=None, seconds=seconds) for seconds in (1, 2, 4))):
        history = await record("http://small.test", plan, transport=SmallService(hold_for=0.1, fault=fault).transport)
        if check(history).anomalies:
            return
    pytest.fail(f"nobody noticed that it {fault}")


async def test_a_service_without_a_demo_log_in_is_not_verified_and_says_why() -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(404))
    with pytest.raises(VerificationError, match="HOLDFAST_ENV=development"):
        await record("http://small.test", QUICK, transport=transport)


async def test_a_service_that_is_not_there_is_not_verified_and_says_so() -> None:
    with pytest.raises(VerificationError, match="is it running"):
        await record("http://127.0.0.1:9", QUICK)
