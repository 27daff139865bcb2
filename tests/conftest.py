"""Fixtures for all tests: a real PostgreSQL, a migrated database per worker, the application in this process."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from holdfast.core.settings import Settings, load_settings
from holdfast.db.models import Base
from holdfast.main import build_app, build_state
from holdfast.web.state import State
from support.api import Api, Person
from support.databases import cloned_database, migrated_template, test_server
from support.servers import SECRET

_EMPTY = f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)} RESTART IDENTITY CASCADE"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server under test."""
    with test_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a migrated database to clone."""
    with migrated_template(postgres) as name:
        yield name


@pytest.fixture(scope="session")
def database_url(postgres: str, template: str) -> Iterator[str]:
    """This worker's database."""
    with cloned_database(postgres, template) as url:
        yield url


@pytest.fixture
def own_database(postgres: str, template: str) -> Iterator[str]:
    """A database that only this test uses."""
    with cloned_database(postgres, template) as url:
        yield url


def make_settings(url: str, **overrides: object) -> Settings:
    """Settings of a service under test; nothing of the caller's environment."""
    given = {
        "database_url": url,
        "jwt_secret": SECRET,
        "bcrypt_cost": 4,
        "login_limit": "off",
        "pool_size": 16,
        "_env_file": None,
    }
    return load_settings(**{**given, **overrides})


@pytest.fixture(autouse=True, scope="session")
def _environment() -> Iterator[None]:
    """Settings of the machine are none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        import os

        for name in list(os.environ):
            if name.startswith("HOLDFAST_") and not name.startswith("HOLDFAST_TEST_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
async def state(database_url: str) -> AsyncIterator[State]:
    """The application's state on this worker's database."""
    made = build_state(make_settings(database_url))
    yield made
    made.passwords.close()
    await made.db.close()


@pytest.fixture(scope="session")
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, in this process. What the service would let out, the test sees."""
    transport = httpx.ASGITransport(build_app(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as made:
        yield made


@pytest.fixture
async def api(client: httpx.AsyncClient, state: State) -> Api:
    """The application on an empty database. Commits are real: what races and constraints do must be seen."""
    await state.db.fetch(_EMPTY)
    await state.revocations.look()
    return Api(client, state.db, state.access_tokens)


@pytest.fixture
async def admin(api: Api) -> Person:
    return await api.person("admin")


@pytest.fixture
async def user(api: Api) -> Person:
    return await api.person()
