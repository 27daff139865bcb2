"""The data of one server on disk: its folder, who owns it, how it is made, and its password.

The folder that the caller names holds ``cluster`` (PostgreSQL's own data directory), ``password``, ``server.log`` with the log
of the run before, and three lock files: ``change.lock`` (starting and stopping take turns), ``shares.lock`` (one shared lock
for each user of the server) and ``server.lock`` (held by the server's own processes, by inheritance).
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from holdfast.db.embedded.account import Account
from holdfast.db.embedded.binaries import ENVIRONMENT, Binaries, runs
from holdfast.db.embedded.errors import EmbeddedPostgresError, EmbeddedUnavailable, disk_full
from holdfast.db.embedded.locks import open_private

USER = "holdfast"
_BUILTIN_LOCALE_SINCE = 17
_HERE = "/proc/self/cwd"


@dataclass(frozen=True, slots=True)
class Cluster:
    """An initialized data directory and all that is needed to run a server on it."""

    home: Path
    account: Account
    binaries: Binaries
    device: int
    inode: int

    @property
    def directory(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "cluster"

    @property
    def log_file(self) -> Path:
        """The log of the present run; that of the run before ends in ``.1``."""
        return self.home / "server.log"

    @property
    def tag(self) -> str:
        """The server's ``cluster_name``, shown in the command line of each of its processes: how we know them."""
        return f"holdfast-{self.device:x}-{self.inode:x}"

    @property
    def is_there(self) -> bool:
        """False when the directory was deleted, or another one stands in its place."""
        try:
            status = self.directory.stat()
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    @property
    def password(self) -> str:
        """The database user's password."""
        try:
            fd = open_private(self.home / "password", os.O_RDONLY)
        except FileNotFoundError:
            message = f"{self.home / 'password'} is missing: bring it back, or remove {self.home} to begin with empty data."
            raise EmbeddedPostgresError(message) from None
        with os.fdopen(fd, encoding="utf-8") as file:
            return file.read().strip()


def claim(home: Path) -> None:
    """Make the folder if it is missing, and refuse one that belongs to another user (root may work in anybody's)."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    me = os.geteuid()
    for path in (home, home / "cluster", home / "password"):
        try:
            owner = path.lstat().st_uid
        except FileNotFoundError:
            continue
        if me not in (0, owner):
            message = (
                f"{path} belongs to another user (uid {owner}; was Holdfast started as root before?): start as that user, stop "
                f"that server and run `sudo chown -R {me} {home}`, or choose another folder with HOLDFAST_DATA_DIR."
            )
            raise EmbeddedPostgresError(message)


def check_version(home: Path, version: int) -> None:
    """Refuse data written by another major version: PostgreSQL cannot read it."""
    try:
        made_by = (home / "cluster" / "PG_VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    if made_by != str(version):
        message = (
            f"{home} was made by PostgreSQL {made_by} and cannot be read by {version}: start it with {made_by} and move the data "
            f"with pg_dump, or choose another folder with HOLDFAST_DATA_DIR."
        )
        raise EmbeddedPostgresError(message)


def prepare(home: Path, account: Account, binaries: Binaries, *, durable: bool) -> Cluster:
    """Open the cluster in ``home``, made if there is none. The caller holds the change lock.

    ``durable`` false skips the flush to disk, for throw-away servers.
    """
    directory = home / "cluster"
    if not directory.exists():
        _initialize(home, account, binaries, durable=durable)
    status = directory.stat()
    return Cluster(home, account, binaries, status.st_dev, status.st_ino)


def data_argument(account: Account, directory: Path) -> str:
    """Choose what to give ``-D`` to a program that runs as ``account`` with ``directory`` as its working directory.

    The user who runs the server for root may be unable to walk to the directory (a checkout in root's home is closed to him),
    but a process may always use the directory it stands in, by that name.
    """
    return _HERE if account.is_another and sys.platform == "linux" and Path(_HERE).exists() else str(directory)


def _initialize(home: Path, account: Account, binaries: Binaries, *, durable: bool) -> None:
    """Make a cluster aside and rename it: what a crash leaves behind is never taken for data."""
    staging = home / "cluster.new"
    shutil.rmtree(staging, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    _write_password(home, password)
    staging.mkdir(mode=0o700)
    try:
        if account.is_another:
            os.chown(staging, account.uid, account.gid, follow_symlinks=False)
        _run_initdb(staging, account, binaries, password, durable=durable)
        staging.rename(home / "cluster")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if durable:
        folder = os.open(home, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_password(home: Path, password: str) -> None:
    fd = open_private(home / "password", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(password + "\n")
        file.flush()
        os.fsync(fd)


def _run_initdb(staging: Path, account: Account, binaries: Binaries, password: str, *, durable: bool) -> None:
    locale = ["--locale=C"]
    if binaries.version >= _BUILTIN_LOCALE_SINCE:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    arguments = [
        f"--pgdata={data_argument(account, staging)}",
        f"--username={USER}",
        "--pwfile=/dev/stdin",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        *locale,
        "--data-checksums",
        "--no-instructions",
    ]
    if not durable:
        arguments.append("--no-sync")
    # initdb opens the password's file by name, as its user: so it is a file without a name, and that user's.
    with tempfile.TemporaryFile(dir=staging.parent) as pwfile:
        if account.is_another:
            os.fchown(pwfile.fileno(), account.uid, account.gid)
        pwfile.write(password.encode())
        pwfile.flush()
        pwfile.seek(0)
        with runs(account, binaries):
            done = subprocess.run(  # noqa: S603 - the wheel's program, our arguments
                [binaries.bin_dir / "initdb", *arguments],
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
                cwd=staging,
                env=ENVIRONMENT,
                stdin=pwfile,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                check=False,
            )
    if done.returncode:
        raise _initdb_failure(staging.parent, account, done.stdout.decode(errors="replace"))


def _initdb_failure(home: Path, account: Account, output: str) -> EmbeddedPostgresError:
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return disk_full(home)
    if "error while loading shared libraries" in output or "GLIBC_" in output:
        return EmbeddedUnavailable(f"PostgreSQL's programs do not run on this system ({output.strip().splitlines()[-1]})")
    if "could not look up effective user ID" in output:
        return EmbeddedUnavailable(f"User {account.uid} has no name on this system, which PostgreSQL wants to make a database")
    last = "\n".join(output.strip().splitlines()[-5:])
    return EmbeddedPostgresError(
        f"PostgreSQL could not make a database in {home}; choose another folder with HOLDFAST_DATA_DIR, or set "
        f"HOLDFAST_DATABASE_URL. Its last words:\n{last}"
    )
