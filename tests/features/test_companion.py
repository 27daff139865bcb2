"""The process beside the service: started again where it dies, gone with it, however it goes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from holdfast.core import companion as companion_module
from holdfast.core.companion import Companion
from support.servers import ServerProcess, api_of, free_port, served
from support.sinks import sink

#: Writes its id, and lives until its standard input ends; a stubborn one lives on.
OBEDIENT = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()} '); sys.stdin.read()"
STUBBORN = f"{OBEDIENT}; import time; time.sleep(600)"
#: A parent that does nothing but keep it.
PARENT = """
import sys, time
from holdfast.core.companion import Companion
Companion("test", [sys.executable, "-c", sys.argv[1], sys.argv[2]]).start()
time.sleep(600)
"""
PATIENCE = 15.0


def until(what: object, found: object) -> None:
    assert callable(what)
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, found
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """False for who has ended, though nobody may have asked how yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ids(told: Path) -> list[int]:
    return [int(pid) for pid in told.read_text().split()] if told.exists() else []


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


@pytest.fixture
def kept(told: Path) -> Iterator[Companion]:
    made = Companion("test", [sys.executable, "-c", OBEDIENT, str(told)])
    made.start()
    until(lambda: ids(told), "it was not started")
    yield made
    made.stop()


def test_it_ends_when_it_is_told_to(kept: Companion, told: Path) -> None:
    kept.stop()
    assert not lives(ids(told)[0])
    time.sleep(2 * companion_module.FIRST_PAUSE)
    assert len(ids(told)) == 1


def test_it_is_started_again_where_it_dies(kept: Companion, told: Path) -> None:
    for count in (2, 3):
        os.kill(ids(told)[-1], signal.SIGKILL)
        until(lambda count=count: len(ids(told)) == count, "it was not started again")
    kept.stop()
    assert not any(lives(pid) for pid in ids(told))


def test_one_that_does_not_end_is_killed(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companion_module, "_PATIENCE_SECONDS", 0.2)
    kept = Companion("test", [sys.executable, "-c", STUBBORN, str(told)])
    kept.start()
    until(lambda: ids(told), "it was not started")
    kept.stop()
    assert not lives(ids(told)[0])


def test_one_that_cannot_be_started_is_tried_again(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many processes for a moment: no reason to have none for ever."""
    real, tries = subprocess.Popen, 0

    def refuse_once(*arguments: object, **options: object) -> object:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise BlockingIOError
        return real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(companion_module.subprocess, "Popen", refuse_once)
    monkeypatch.setattr(companion_module, "_HEALTHY_SECONDS", 0.5)
    dead: list[int] = []
    kept = Companion("test", [sys.executable, "-c", OBEDIENT, str(told)], on_early_death=dead.append)
    kept.start()
    until(lambda: ids(told), "it was not started")
    time.sleep(0.6)
    os.kill(ids(told)[0], signal.SIGKILL)
    until(lambda: len(ids(told)) == 2, "it was given up")
    kept.stop()
    assert not any(lives(pid) for pid in ids(told))
    # The one that lived for long enough is not taken for one that died young because the next did not come up.
    assert (tries, dead) == (3, [])


@pytest.mark.parametrize(("code", "most"), [(3, 3), (0, 1)])
def test_one_that_ends_at_once_is_not_started_too_often(told: Path, code: int, most: int) -> None:
    script = f"import sys; open(sys.argv[1], 'a').write('0 '); sys.exit({code})"
    dead: list[int] = []
    dying = Companion("test", [sys.executable, "-c", script, str(told)], on_early_death=dead.append)
    dying.start()
    until(lambda: ids(told), "it was not started")
    time.sleep(2.0)
    dying.stop()
    assert len(ids(told)) <= most
    # What they leave behind can be tidied up.
    assert bool(dead) == (code != 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_who_keeps_it(told: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, OBEDIENT, str(told)])
    until(lambda: ids(told), "it was not started")
    assert lives(ids(told)[0])
    parent.send_signal(how)
    parent.wait(PATIENCE)
    until(lambda: not lives(ids(told)[0]), "it lives on")


# The worker of a service


def workers(server: ServerProcess) -> list[int]:
    """The living workers that the service's process keeps."""
    assert server.process is not None
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == server.process.pid and b"--attached" in command and lives(int(stat.parent.name)):
            found.append(int(stat.parent.name))
    return found


def relayed(server: ServerProcess) -> float:
    """How many messages the workers have passed on: counted by them, told by the service."""
    for line in httpx.get(f"{server.url}/metrics", timeout=10).text.splitlines():
        if line.startswith("holdfast_relay_messages_total "):
            return float(line.split()[1])
    return 0.0


def make_user(server: ServerProcess) -> None:
    assert httpx.post(f"{server.url}/register", json=_somebody(), timeout=10).status_code == 201


def _somebody() -> dict[str, str]:
    return {"email": f"{time.monotonic_ns()}@example.com", "password": "a long password", "role": "user"}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_service_has_one_worker_which_comes_back(own_database: str, tmp_path: Path, processes: str) -> None:
    environment = {"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKERS": processes}
    with served(environment, log=tmp_path / "service.log") as server:
        until(lambda: len(workers(server)) == 1, "there is no worker")
        make_user(server)
        until(lambda: relayed(server) >= 1, "nothing was relayed")
        (before,) = workers(server)
        os.kill(before, signal.SIGKILL)
        made = relayed(server)
        make_user(server)
        until(lambda: relayed(server) > made, "what happened meanwhile was not relayed")
        (after,) = workers(server)
        assert after != before
        assert server.stop() == 0
        until(lambda: not lives(after), "the worker outlived the service")
    assert "Traceback" not in server.log.read_text()


def test_a_worker_does_not_outlive_a_service_that_is_killed(own_database: str, tmp_path: Path) -> None:
    with served({"HOLDFAST_DATABASE_URL": own_database, "TMPDIR": str(tmp_path)}, log=tmp_path / "service.log") as server:
        until(lambda: len(workers(server)) == 1, "there is no worker")
        (worker,) = workers(server)
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not lives(worker), "the worker outlived the service")
    # What it leaves behind is its metrics' folder, which the next service removes; a living one's stays.
    (left,) = tmp_path.glob("holdfast-metrics-*")
    with served({"HOLDFAST_DATABASE_URL": own_database, "TMPDIR": str(tmp_path)}, log=tmp_path / "next.log") as first:
        (own,) = tmp_path.glob("holdfast-metrics-*")
        assert own != left
        with served({"HOLDFAST_DATABASE_URL": own_database, "TMPDIR": str(tmp_path)}, log=tmp_path / "other.log") as other:
            assert own.is_dir()
            assert other.stop() == 0
        assert first.stop() == 0
    assert list(tmp_path.glob("*holdfast-*")) == []


def test_servers_do_not_outlive_who_keeps_them_and_the_worker(own_database: str, tmp_path: Path) -> None:
    """Else they would serve on without a worker, and the next service could not listen."""
    with served({"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKERS": "2"}, log=tmp_path / "service.log") as server:
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(PATIENCE)
        # The next one can take the port as soon as they are gone.
        until(lambda: not _listens(server.port), "the servers outlived their supervisor")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_what_the_worker_was_at_is_given_back_when_the_service_stops(
    own_database: str, tmp_path: Path, ending: signal.Signals
) -> None:
    """Not left to its lease: a deployment must delay no mail, and use up no retry."""

    async def hangs(_delivered: object, _writer: object) -> None:
        await asyncio.sleep(60)

    environment = {"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WEBHOOK_LOOPBACK": "true"}
    with served(environment, log=tmp_path / "service.log") as server:
        async with api_of(server, own_database) as api, sink(hangs) as here:
            boss = await api.admin()
            made = await api.post("/webhooks", boss, json={"url": here.url, "types": ["system.notice"]})
            assert made.status_code == 201, made.text
            assert (await api.post("/notices", boss, json={"message": "Hello"})).status_code == 201
            await here.heard(1)
            assert server.process is not None
            # To all of them, as a terminal and systemd do.
            os.killpg(server.process.pid, ending)
            assert await asyncio.to_thread(server.process.wait, 20) == 0
            jobs = await api.db.fetch("SELECT state, failures FROM jobs")
            assert [tuple(job) for job in jobs] == [("waiting", 0)]
    assert "Traceback" not in server.log.read_text()


def test_what_lies_in_the_working_folder_is_no_module_of_ours(
    own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calendar.py").write_text("raise SystemExit('run by the worker')")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-P", "-m", "holdfast.cli", "serve", "--port", str(free_port())]
    environment = {**os.environ, "HOLDFAST_DATABASE_URL": own_database}
    log = tmp_path / "service.log"
    with log.open("wb") as output:
        service = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: "Holdfast serves at" in log.read_text(), "it did not start")
        time.sleep(2)
    finally:
        service.terminate()
        assert service.wait(20) == 0
    assert "run by the worker" not in log.read_text()


def test_apart_there_is_none(own_database: str, tmp_path: Path) -> None:
    with served({"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKER": "apart"}, log=tmp_path / "service.log") as server:
        time.sleep(1)
        assert workers(server) == []
