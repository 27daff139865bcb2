"""Crash tests start servers of their own: a durable PostgreSQL, and real processes of the service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.crashes import Postgres, durable_postgres
from support.servers import ServerProcess


@pytest.fixture
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with durable_postgres(tmp_path_factory.mktemp("durable")) as server:
        yield server


@pytest.fixture
def service(durable: Postgres, tmp_path: Path) -> Iterator[ServerProcess]:
    """A service on the durable server; not started."""
    server = ServerProcess({"HOLDFAST_DATABASE_URL": durable.url}, log=tmp_path / "service.log")
    try:
        yield server
    finally:
        server.kill()
