"""Services that the load tests start and end themselves, and what CPU they take."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reference_load import SECRET

#: The `holdfast` command, wherever it is installed.
COMMAND = [sys.executable, "-c", "from holdfast.cli import main; main()"]
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A server that answers at `url`."""

    url: str
    port: int
    pid: int


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(arguments: list[str], environment: Mapping[str, str], port: int, ready: str) -> Iterator[Process]:
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(arguments, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 30
            while not _answers(url + ready):
                if child.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    words = log.read().decode(errors="replace").strip().splitlines()[-8:]
                    raise SystemExit("The service did not start. Its last words:\n" + "\n".join(words))
                time.sleep(0.05)
            yield Process(url, port, child.pid)
        finally:
            child.terminate()
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _service_environment(database_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
        "HOLDFAST_DATABASE_URL": database_url,
        "HOLDFAST_JWT_SECRET": SECRET,
        "HOLDFAST_ACCESS_TOKEN_MINUTES": "1440",
    }


@contextmanager
def holdfast(database_url: str, *, workers: int = 1, apart: bool = False) -> Iterator[Process]:
    """`holdfast serve` on a free port of the loopback address, with that database; ended when the block is.

    `apart`: the worker is none of its business (`worker`): the relay, mails and webhooks are what follows an answer, not part of
    it, and would be another load beside the one that is measured.
    """
    port = _free_port()
    arguments = [*COMMAND, "serve", "--port", str(port), "--workers", str(workers)]
    environment = {**_service_environment(database_url), "HOLDFAST_WORKER": "apart" if apart else "inside"}
    with _running(arguments, environment, port, "/readyz") as process:
        yield process


@contextmanager
def worker(database_url: str) -> Iterator[None]:
    """`holdfast worker` on that database, beside services with HOLDFAST_WORKER=apart; ended when the block is."""
    process = subprocess.Popen(
        [*COMMAND, "worker"], env=_service_environment(database_url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def naive_seats(database_url: str, *, by_hand: bool) -> Iterator[Process]:
    """The service, but each buyer of seats locks the event in a transaction of their own (`naive_seats.py`)."""
    port = _free_port()
    arguments = [sys.executable, str(Path(__file__).with_name("naive_seats.py")), str(port), *(["by-hand"] if by_hand else [])]
    with _running(arguments, {**_service_environment(database_url), "HOLDFAST_WORKER": "apart"}, port, "/readyz") as process:
        yield process


@contextmanager
def raw_asgi(body_length: int) -> Iterator[Process]:
    """The same uvicorn, answering with a fixed body: the limit of what is written in Python behind it."""
    port = _free_port()
    arguments = [sys.executable, str(Path(__file__).with_name("raw_asgi.py")), str(port), str(body_length)]
    with _running(arguments, os.environ, port, "/") as process:
        yield process


class CpuMeter:
    """What CPU the trees of some processes take from now on."""

    def __init__(self, *roots: int | None) -> None:
        self._before = [(root, cpu_seconds(root)) for root in roots]

    def per(self, count: int) -> list[float | None]:
        """Microseconds for each of `count` pieces of work, by process; None where it is not known."""
        return [
            None if after is None or before is None else (after - before) / count * 1e6
            for before, after in ((before, cpu_seconds(root)) for root, before in self._before)
        ]


def cpu_seconds(root: int | None) -> float | None:
    """User and system time so far of a process, its living descendants and those that ended; None where /proc is missing.

    The kernel counts in hundredths of a second: measure over a second or more.
    """
    if root is None or not (_PROC / str(root) / "stat").exists():
        return None
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # After the command's name, which may hold blanks: state is field 3, ppid 4, utime to cstime 14 to 17 (proc(5)).
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        ticks[pid] = sum(map(int, fields[11:15]))
        children.setdefault(int(fields[1]), []).append(pid)
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += ticks.get(pid, 0)
        todo += children.get(pid, [])
    return total / _TICKS
