"""A process's share in the server of one data directory, and how the last one out stops it."""

import atexit
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from holdfast.db.embedded import account, binaries, cluster, postmaster
from holdfast.db.embedded.binaries import ENVIRONMENT
from holdfast.db.embedded.cluster import USER, Cluster
from holdfast.db.embedded.errors import EmbeddedPostgresError, plain_sentences
from holdfast.db.embedded.locks import LockFile
from holdfast.db.embedded.postmaster import HOST, Postmaster

_TURN_LIMIT = 400.0  # seconds to wait for others who start or stop the server: longer than the longest of that
_LONGEST_NAME = 63  # bytes; PostgreSQL would cut the rest off
_CREATE = """
SELECT format('CREATE DATABASE %I TEMPLATE template0', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
"""


class EmbeddedServer:
    """A running server and this process's share in it; made by ``start``.

    ``url`` and ``pid`` are those of the moment of the start: after a crash of the server another ``start`` mends it, and the
    port may differ.
    """

    def __init__(self, of: Cluster, password: str, running: Postmaster, share: LockFile) -> None:
        self.data_dir = of.home
        self.pid = running.pid
        self.port = running.port
        self.version = of.binaries.version
        self.bin_dir = of.binaries.bin_dir
        self.log_file = of.log_file
        self._password = password
        self._cluster = of
        self._share = share
        self._stopping = threading.Lock()
        self.url = self.database_url("postgres")

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.data_dir)!r}, version={self.version}, pid={self.pid}, port={self.port})"

    def database_url(self, name: str) -> str:
        """Word the address of a database, whether it exists or not; holds the password."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{quote(name, safe='')}"

    def ensure_database(self, name: str) -> str:
        """Create a database (UTF-8, C collation) unless it exists; its address. Safe when several do so at once."""
        if not name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
            message = f"{name!r} cannot be a database's name: use 1 to {_LONGEST_NAME} bytes without NUL."
            raise EmbeddedPostgresError(message)
        options = f"-XqAt -v ON_ERROR_STOP=1 -f - -h {HOST} -p {self.port} -U {USER} -d postgres"
        done = subprocess.run(  # noqa: S603 - the wheel's program; the name travels as a quoted variable
            [self.bin_dir / "psql", *options.split(), "-v", f"name={name}"],
            env={**ENVIRONMENT, "PGPASSWORD": self._password, "PGSSLMODE": "disable", "PGCLIENTENCODING": "UTF8"},
            input=_CREATE.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        reason = done.stderr.decode(errors="replace").strip()
        if done.returncode and "already exists" not in reason:
            message = f"The database {name!r} could not be created; start the server again if it has ended. psql says: {reason}"
            raise EmbeddedPostgresError(message)
        return self.database_url(name)

    def stop(self) -> None:
        """Give up this process's share; the last one out stops the server. Does nothing the second time."""
        with self._stopping:
            atexit.unregister(self.stop)
            if not self._share.is_open:
                return
            with plain_sentences(self.data_dir):
                self._leave()

    def _leave(self) -> None:
        try:
            turn = take_turn(self._cluster.home)
        except FileNotFoundError:  # the folder was deleted under the server: nobody can find it any more
            self._share.close()
            postmaster.stop(self._cluster, self.pid)
            return
        with turn, self._share as share:
            deleted = not share.is_current
            if share.acquire() or deleted:
                postmaster.stop(self._cluster, self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start(data_dir: Path, *, version: int, settings: Mapping[str, str] | None, port: int | None) -> EmbeddedServer:
    """See the package's ``start``."""
    home = data_dir.expanduser().resolve()
    with plain_sentences(home):
        found = binaries.find(version)
        cluster.claim(home)
        with take_turn(home):
            runner = account.for_folder(home)
            cluster.check_version(home, version)
            wanted = dict(settings or {})
            durable = wanted.get("fsync", "on").lower() not in ("off", "false", "no", "0")
            ready = cluster.prepare(home, runner, binaries.readable_by(runner, found), durable=durable)
            password = ready.password
            share = LockFile(home / "shares.lock")
            try:
                running = postmaster.ensure_running(ready, settings=wanted, port=port)
                share.acquire(shared=True)  # cannot fail: it is locked exclusively only in somebody else's turn
                server = EmbeddedServer(ready, password, running, share)
            except BaseException:
                share.close()
                raise
    atexit.register(server.stop)  # the net below, for a program that ends without it
    return server


def take_turn(home: Path) -> LockFile:
    """Wait until nobody else starts or stops this server; the returned lock holds the others off until it is closed.

    Raises FileNotFoundError when the folder is gone.
    """
    while True:
        turn = LockFile(home / "change.lock")
        try:
            taken = turn.acquire(seconds=_TURN_LIMIT)
            current = turn.is_current
        except BaseException:
            turn.close()
            raise
        if taken and current:
            return turn
        turn.close()
        if not taken:
            message = f"Another process has been starting or stopping {home} for minutes: end it and try again."
            raise EmbeddedPostgresError(message)
