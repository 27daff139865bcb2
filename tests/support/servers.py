"""Real server processes on free loopback ports, for tests that kill, stop and race them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx

from holdfast.core.security import AccessTokens
from holdfast.db.database import Database
from support.api import Api

SECRET = "a-secret-for-tests-that-is-long-enough-0123"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """`holdfast serve` as a child of its own process group."""

    def __init__(self, environment: Mapping[str, str], *arguments: str, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
            "HOLDFAST_JWT_SECRET": SECRET,
            "HOLDFAST_BCRYPT_COST": "4",
            "HOLDFAST_LOGIN_LIMIT": "off",
            **environment,
        }
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: float = 30.0) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.cli", "serve", "--port", str(self.port), *self._arguments],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if wait:
            self.wait_until_ready(wait)

    def wait_until_ready(self, seconds: float = 30.0, path: str = "/readyz") -> None:
        """Poll until it answers 200."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(httpx.HTTPError):
                if httpx.get(self.url + path, timeout=2).status_code == 200:
                    return
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not become ready:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the end."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def served(environment: Mapping[str, str], *arguments: str, log: Path) -> Iterator[ServerProcess]:
    """A running server that is gone afterwards, however the test ends."""
    server = ServerProcess(environment, *arguments, log=log)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def api_of(server: ServerProcess, database_url: str) -> AsyncIterator[Api]:
    """A running server's API, with its database beside it."""
    db = Database(database_url, pool_size=4)
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as client:
        yield Api(client, db, AccessTokens(SECRET, minutes=60))
    await db.close()
