"""Starting, adopting, mending and stopping a cluster's server process. The caller holds the cluster's change lock throughout."""

import atexit
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from holdfast.db.embedded import processes
from holdfast.db.embedded.binaries import ENVIRONMENT, runs
from holdfast.db.embedded.cluster import Cluster, data_argument
from holdfast.db.embedded.errors import EmbeddedPostgresError, disk_full
from holdfast.db.embedded.locks import LockFile, open_private

HOST = "127.0.0.1"

# For a small machine. Errors of statements are the application's to log: here they would hold rejected rows with people's data.
_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}

# Seconds. A start may include the recovery after a crash, a stop the write of all buffers to a slow disk.
_START_LIMIT = 300.0
_STOP_LIMIT = 60.0
_ORPHAN_PATIENCE = 3.0
_SIGNAL_PATIENCE = 10.0
_ANSWER_LIMIT = 2.0
_PAUSE = 0.005

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # length and code, from PostgreSQL's pqcomm.h
_PORT_TRIES = 8
_QUOTED_LINES = 12
_ROOM = 1 << 20  # bytes below which a disk counts as full

_children: dict[int, subprocess.Popen[bytes]] = {}  # kept until reaped


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server's first process and its port on the loopback address, as it writes them to postmaster.pid."""

    pid: int
    port: int
    status: str


def ensure_running(cluster: Cluster, *, settings: Mapping[str, str], port: int | None) -> Postmaster:
    """Adopt the running server, or start one, after a crash as well.

    ``settings`` and ``port`` count only for a server that is started here.
    """
    running = _adopt(cluster)
    if running is not None:
        return running
    with LockFile(cluster.home / "server.lock") as lock:
        _clear_the_way(cluster, lock)
        rotate_log(cluster.log_file)
        for _ in range(_PORT_TRIES if port is None else 1):
            running = _spawn(cluster, lock, settings=settings, port=port or _free_port())
            if running is not None:
                return running
    wanted = "any free port" if port is None else f"port {port}"
    message = f"The embedded PostgreSQL could not listen on {wanted} of {HOST}: another program has it; choose another port."
    raise EmbeddedPostgresError(message)


def stop(cluster: Cluster, pid: int) -> None:
    """End the server in an orderly way, with force if it does not follow. Nothing happens if it has ended already."""
    written = read_pid_file(cluster.directory)
    if written is not None and _is_alive(written.pid, cluster):
        pid = written.pid  # started again by another process since
    steps = ((signal.SIGINT, _STOP_LIMIT), (signal.SIGQUIT, _SIGNAL_PATIENCE), (signal.SIGKILL, _SIGNAL_PATIENCE))
    for number, seconds in steps if cluster.is_there else steps[1:]:  # nothing to save in a deleted directory
        if not _is_alive(pid, cluster):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        _wait_for_end(pid, cluster, seconds)


def read_pid_file(directory: Path) -> Postmaster | None:
    """Read what the server says of itself (PostgreSQL's miscadmin.h lists the lines); None without one that can be understood."""
    try:
        lines = (directory / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        pid = abs(int(lines[0]))
    except (FileNotFoundError, IndexError, ValueError):
        return None
    complete = len(lines) >= 8 and lines[3].strip().isdigit()  # noqa: PLR2004 - status is the eighth line
    return Postmaster(pid, int(lines[3]), lines[7].strip()) if complete else Postmaster(pid, 0, "starting")


def rotate_log(log_file: Path) -> None:
    """Keep the log of this run and of the one before."""
    with suppress(FileNotFoundError):
        log_file.replace(log_file.with_name(log_file.name + ".1"))


def _adopt(cluster: Cluster) -> Postmaster | None:
    """Find the server if it runs, waiting while it starts; None when there is none (any more)."""
    deadline = time.monotonic() + _START_LIMIT
    while True:
        written = read_pid_file(cluster.directory)
        if written is None or not _is_alive(written.pid, cluster):
            return None
        if written.status == "ready" and _answers(written.port):
            return written
        if time.monotonic() >= deadline:
            message = f"The PostgreSQL in {cluster.home} (process {written.pid}, {written.status}) has not answered for minutes: "
            raise EmbeddedPostgresError(message + f"look at {cluster.log_file}, end that process, start again.")
        time.sleep(_PAUSE)


def _answers(port: int) -> bool:
    """Ask for encryption, as any client may before it logs in: a server that is just dying, or stopped, does not answer."""
    with suppress(OSError), socket.socket() as connection:
        connection.settimeout(_ANSWER_LIMIT)
        connection.connect((HOST, port))
        connection.sendall(_SSL_REQUEST)
        return connection.recv(1) in (b"N", b"S")
    return False


def _clear_the_way(cluster: Cluster, lock: LockFile) -> None:
    """After a killed postmaster: wait until its children have ended, then remove what it left. Returns holding ``lock``.

    Its processes hold the lock by inheritance, so it is free only when the last has ended, even one that this process cannot
    see. They notice the loss and end by themselves, but one in the middle of a long statement only after that; nobody can use
    its result, so it is told to quit.
    """
    for number, patience in (
        (0, _ORPHAN_PATIENCE),
        (signal.SIGQUIT, _SIGNAL_PATIENCE),
        (signal.SIGKILL, _SIGNAL_PATIENCE),
    ):
        deadline = time.monotonic() + patience
        orphans = processes.living(cluster)
        if number and not orphans:
            break
        for pid in orphans if number else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while not (lock.acquire() and not processes.living(cluster)):
            if time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE)
        else:
            with suppress(FileNotFoundError):
                (cluster.directory / "postmaster.pid").unlink()
            return
    message = (
        f"{cluster.home} is in use by a PostgreSQL that cannot be reached from here (in another container?): stop it there, or "
        f"choose another folder with HOLDFAST_DATA_DIR."
    )
    raise EmbeddedPostgresError(message)


def _spawn(cluster: Cluster, lock: LockFile, *, settings: Mapping[str, str], port: int) -> Postmaster | None:
    """Start the server and wait until it answers; None when the port was taken meanwhile."""
    reserved = {"cluster_name": cluster.tag, "listen_addresses": HOST, "port": str(port), "unix_socket_directories": ""}
    arguments = ["-D", data_argument(cluster.account, cluster.directory)]
    for name, value in {**_SETTINGS, **settings, **reserved}.items():
        arguments += ["-c", f"{name}={value}"]
    log = open_private(cluster.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        with runs(cluster.account, cluster.binaries):
            process = subprocess.Popen(  # noqa: S603 - the wheel's program, our arguments
                [cluster.binaries.bin_dir / "postgres", *arguments],
                user=cluster.account.user,
                group=cluster.account.group,
                extra_groups=cluster.account.extra_groups,
                cwd=cluster.directory,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fd],
                start_new_session=True,  # the terminal's Ctrl-C is for the program that uses the server
                umask=0o077,
            )
    finally:
        os.close(log)
    _children[process.pid] = process
    try:
        return _await_ready(cluster, process)
    except BaseException:
        stop(cluster, process.pid)
        raise


def _await_ready(cluster: Cluster, process: subprocess.Popen[bytes]) -> Postmaster | None:
    deadline = time.monotonic() + _START_LIMIT
    while process.poll() is None:
        written = read_pid_file(cluster.directory)
        if written is not None and written.pid == process.pid and written.status == "ready":
            return written
        if time.monotonic() >= deadline:
            raise _failure(cluster, f"did not get ready within {_START_LIMIT:.0f} seconds")
        time.sleep(_PAUSE)
    _children.pop(process.pid, None)
    if "Address already in use" in _log_tail(cluster.log_file):
        return None
    raise _failure(cluster, "ended at once")


def _failure(cluster: Cluster, what: str) -> EmbeddedPostgresError:
    tail = _log_tail(cluster.log_file)
    # A full disk often leaves no room for the log either; "shared memory" is another kind of space.
    if shutil.disk_usage(cluster.home).free < _ROOM or ("No space left on device" in tail and "shared memory" not in tail):
        return disk_full(cluster.home)
    return EmbeddedPostgresError(f"The embedded PostgreSQL in {cluster.home} {what}; {cluster.log_file} ends with:\n{tail}")


def _log_tail(log_file: Path) -> str:
    with suppress(OSError):
        return "\n".join(log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-_QUOTED_LINES:])
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: int, cluster: Cluster) -> bool:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    return processes.belongs(pid, cluster)


def _wait_for_end(pid: int, cluster: Cluster, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    child = _children.get(pid)
    # Near its end a process shows nothing any more that proves whose it is, so a child's own end is awaited.
    while time.monotonic() < deadline and (_is_alive(pid, cluster) or (child is not None and child.poll() is None)):
        time.sleep(_PAUSE)


def _forget() -> None:
    """Wait for no server any more: a forked child is not its parent, and a parent may end before it when others share it."""
    for child in _children.values():
        child.returncode = 0
    _children.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(_forget)
