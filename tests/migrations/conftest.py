"""Databases that were migrated and databases that were made of the models, and a PostgreSQL of another version."""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.db.embedded import start
from holdfast.db.embedded.account import Account, for_folder
from support.databases import cloned_database
from support.servers import free_port

_DEBIAN = Path("/usr/lib/postgresql/15/bin")
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """An empty database."""
    with cloned_database(postgres, None) as url:
        yield url


@pytest.fixture
def another_empty(postgres: str) -> Iterator[str]:
    with cloned_database(postgres, None) as url:
        yield url


@contextmanager
def _debian(folder: Path, runner: Account) -> Iterator[str]:
    """A throw-away cluster of Debian's PostgreSQL 15, under an ordinary user: root may not run it."""
    password, port = secrets.token_hex(16), free_port()
    secret = folder / "password"
    secret.write_text(password)
    if runner.is_another:
        os.chown(secret, runner.uid, runner.gid)
    data = folder / "data"

    def run(*arguments: str | Path) -> None:
        subprocess.run(
            arguments,
            user=runner.user,
            group=runner.group,
            extra_groups=runner.extra_groups,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    run(_DEBIAN / "initdb", "-D", data, "-U", "holdfast", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync")
    options = " ".join(f"-c {name}={value}" for name, value in _QUICK.items())
    log = folder / "log"
    run(
        _DEBIAN / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "30",
        "-o", f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' {options}", "start",
    )  # fmt: skip
    try:
        yield f"postgresql://holdfast:{password}@127.0.0.1:{port}/postgres"
    finally:
        run(_DEBIAN / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="session")
def older_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PostgreSQL 15 where Debian's is installed, else the 16 of the wheel."""
    # Not below pytest's own folder: that is closed to the user who runs the server where the tests are root's.
    with tempfile.TemporaryDirectory(prefix="holdfast-older-") as name:
        folder = Path(name)
        runner = for_folder(folder)
        if runner.is_another:
            os.chown(folder, runner.uid, runner.gid)
        if runner.reaches(_DEBIAN / "initdb") and runner.reaches(folder):
            with _debian(folder, runner) as url:
                yield url
            return
    with start(tmp_path_factory.mktemp("older"), version=16, settings=_QUICK) as server:
        yield server.url
