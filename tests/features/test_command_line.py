"""The command line as a newcomer meets it: what works, and the one clear sentence where it does not."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from conftest import make_settings
from holdfast.core.settings import SettingsError
from holdfast.db import migrations
from holdfast.db.embedded import start
from support.databases import cloned_database
from support.servers import ServerProcess, served


def run(url: str | None, *arguments: str, timeout: float = 60, **settings: str) -> subprocess.CompletedProcess[str]:
    """`holdfast ...` in a process of its own, with nothing of the caller's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    environment |= {f"HOLDFAST_{name.upper()}": value for name, value in settings.items()}
    if url is not None:
        environment["HOLDFAST_DATABASE_URL"] = url
    return subprocess.run(
        [sys.executable, "-m", "holdfast.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_help_names_every_command() -> None:
    said = run(None, "--help").stdout
    for command in ("serve", "migrate", "seed", "create-admin", "token", "doctor", "openapi"):
        assert command in said


def test_migrate_goes_down_and_up_and_says_where_it_is(own_database: str) -> None:
    down = run(own_database, "migrate", "--revision", "base")
    assert (down.returncode, "is at nothing" in down.stdout) == (0, True)
    up = run(own_database, "migrate")
    assert up.returncode == 0
    assert f"is at {migrations.head()}" in up.stdout
    assert "Next:" in up.stdout


def test_the_seed_fills_an_empty_database_once(own_database: str) -> None:
    first = run(own_database, "seed")
    assert (first.returncode, "Demo data are there" in first.stdout) == (0, True), first.stderr
    second = run(own_database, "seed")
    assert (second.returncode, "nothing was added" in second.stdout) == (0, True)
    refused = run(own_database, "seed", env="production", jwt_secret="Zq7nT2vKx9LwPf4RbYc8MhUe3DsGjA6o")
    assert (refused.returncode, "production refuses" in refused.stderr) == (1, True)


def test_an_admin_is_made_and_a_token_printed(own_database: str) -> None:
    made = run(own_database, "create-admin", "--email", "root@example.com", "--password", "pw", bcrypt_cost="4")
    assert (made.returncode, "root@example.com" in made.stdout) == (0, True), made.stderr
    again = run(own_database, "create-admin", "--email", "ROOT@example.com", "--password", "pw", bcrypt_cost="4")
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    bad = run(own_database, "create-admin", "--email", "no-address", "--password", "pw")
    assert (bad.returncode, bad.stderr.strip()) == (1, "holdfast: email: must be an e-mail address")
    token = run(own_database, "token", "--email", "root@example.com")
    assert token.stdout.count(".") == 2
    assert run(own_database, "token", "--email", "nobody@example.com").returncode == 1


def test_the_doctor_finds_a_healthy_patient_healthy(tmp_path: Path) -> None:
    with start(tmp_path / "postgres") as server:
        url = server.ensure_database("patient")
        before = run(url, "doctor")
        assert (before.returncode, "run `holdfast migrate`" in before.stdout) == (1, True)
        run(url, "migrate")
        healthy = run(url, "doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "FAIL" not in healthy.stdout
    for what in ("fsync is on", "synchronous_commit is on", "migrations are at head", "clocks agree"):
        assert what in healthy.stdout


def test_the_doctor_sees_what_would_lose_bookings(tmp_path: Path) -> None:
    with start(tmp_path / "postgres", settings={"fsync": "off", "synchronous_commit": "off"}) as server:
        url = server.ensure_database("patient")
        run(url, "migrate")
        ill = run(url, "doctor")
    assert ill.returncode == 1
    assert ill.stdout.count("a crash loses acknowledged bookings") == 2
    assert "set fsync = on" in ill.stdout


def test_bad_settings_are_named_and_never_shown() -> None:
    bad = run(
        "mysql://user:hidden@host/db",
        "doctor",
        port="70000",
        workers="0",
        login_limit="ten",
        jwt_secret="hidden-too",
        rate_limit="0/minute",
        mail_from="nobody",
        smtp_url="smtp://:99999",
        trusted_proxies="here",
        cors_origins="*",
        public_url="booking.example",
        traces_url="ftp://x",
    )
    assert bad.returncode == 1
    assert "hidden" not in bad.stderr
    for name in (
        "DATABASE_URL",
        "PORT",
        "WORKERS",
        "LOGIN_LIMIT",
        "RATE_LIMIT",
        "MAIL_FROM",
        "SMTP_URL",
        "TRUSTED_PROXIES",
        "CORS_ORIGINS",
        "PUBLIC_URL",
        "TRACES_URL",
    ):
        assert f"HOLDFAST_{name}: " in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_worker_ahead_of_the_migrations_says_so(postgres: str) -> None:
    with cloned_database(postgres, None) as url:
        refused = run(url, "worker")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "holdfast migrate" in refused.stderr


def test_a_service_on_a_database_that_was_never_migrated_says_so(postgres: str) -> None:
    with cloned_database(postgres, None) as url:
        refused = run(url, "serve", "--port", "0")
    said = "holdfast: The database was never migrated. Next: holdfast migrate, or holdfast serve --migrate\n"
    assert (refused.returncode, refused.stderr) == (1, said)


def test_a_database_that_is_ahead_is_worked_with(own_database: str, tmp_path: Path) -> None:
    """In a rolling upgrade, and after going back by one version: the worker too, and nobody is told to migrate."""

    async def go_ahead() -> None:
        connection = await asyncpg.connect(own_database)
        await connection.execute("UPDATE alembic_version SET version_num = '2099_01_01_0001'")
        await connection.close()

    asyncio.run(go_ahead())
    refused = run(own_database, "migrate")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "ahead of this version" in refused.stderr
    assert "ahead of this version" in run(own_database, "doctor").stdout
    environment = {**os.environ, "HOLDFAST_DATABASE_URL": own_database}
    command = [sys.executable, "-m", "holdfast.cli", "worker"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert "The worker runs" in worker.stdout.readline()
    worker.terminate()
    assert worker.wait(20) == 0
    worker.stdout.close()
    with served({"HOLDFAST_DATABASE_URL": own_database}, log=tmp_path / "service.log") as server:
        assert httpx.get(f"{server.url}/readyz", timeout=10).json()["migrations"] == "ahead"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://holdfast:hid/den@db/holdfast", "%2F"),
        ("postgresql://holdfast:hid?den@db/holdfast", "%3F"),
        ("postgresql://holdfast:hid#den@db/holdfast", "%23"),
        ("postgresql://holdfast:123/den@db/holdfast", "%2F"),
        ("postgresql://holdfast:hidden@db:hidden/holdfast", "port"),
    ],
)
def test_a_password_that_would_be_read_in_pieces_is_not_shown(url: str, said: str) -> None:
    refused = run(url, "doctor")
    assert (refused.returncode, said in refused.stderr, "Traceback" in refused.stderr) == (1, True, False)
    assert "hid" not in refused.stderr
    assert "den" not in refused.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:b%2Fc@[::1]:5432/d",
        "postgres://a@h/d?sslmode=require",
        "postgresql:///d",
        "postgresql://h/d?user=a@b",
        "postgresql://h:5432,i/d",
    ],
)
def test_what_an_address_may_look_like(url: str) -> None:
    assert make_settings(url).database_url is not None


def test_what_is_empty_is_as_good_as_not_given_but_for_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HOLDFAST_DATABASE_URL=postgresql://a@production/d\nHOLDFAST_POOL_SIZE=5\n")
    shown = "from holdfast.core.settings import load_settings; s = load_settings(); print(s.database_url, s.pool_size)"
    environment = {**os.environ, "HOLDFAST_DATABASE_URL": "", "HOLDFAST_POOL_SIZE": ""}
    command = [sys.executable, "-c", shown]
    # Given, and empty: what the file says does not come back by it.
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "None 16\n"
    environment["HOLDFAST_ENV"] = ""
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "HOLDFAST_ENV: " in ran.stderr


@pytest.mark.parametrize("limit", ["5/minute;2/second", "5/minute,2/second", "much", "-1/minute"])
def test_a_limit_is_one(limit: str) -> None:
    with pytest.raises(SettingsError, match="RATE_LIMIT"):
        make_settings("postgresql://a@h/d", rate_limit=limit)


def test_production_refuses_known_short_and_missing_secrets() -> None:
    for secret in ({}, {"jwt_secret": "short"}, {"jwt_secret": "x" * 64}, {"jwt_secret": "please-changeme-" * 4}):
        refused = run(None, "doctor", env="production", **secret)
        assert refused.returncode == 1
        assert "HOLDFAST_JWT_SECRET" in refused.stderr
        assert "secrets.token_urlsafe" in refused.stderr


def test_a_database_that_is_not_there_is_one_sentence() -> None:
    refused = run("postgresql://nobody@127.0.0.1:1/none", "doctor")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "out of reach" in refused.stderr


def test_an_unknown_provider_is_one_sentence(own_database: str) -> None:
    refused = run(own_database, "serve", "--port", "0", conference_provider="pigeon")
    assert (refused.returncode, "http, jitsi, mock" in refused.stderr) == (1, True), refused.stderr


def test_a_port_in_use_is_one_sentence_with_a_way_out(own_database: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run(own_database, "serve", "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port}" in refused.stderr
    assert "make run PORT=" in refused.stderr


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = run(None, "serve", "--port", "0", data_dir=str(tmp_path / "file" / "data"))
    assert (refused.returncode, "HOLDFAST_DATA_DIR" in refused.stderr) == (1, True), refused.stderr


def test_serve_brings_a_database_of_its_own_and_takes_it_down_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = ServerProcess({"HOLDFAST_DATA_DIR": str(data)}, "--demo", log=tmp_path / "serve.log")
    server.start()
    try:
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "ok"
        answer = httpx.post(f"{server.url}/login", json={"email": "anna@example.com", "password": "holdfast"})
        rooms = httpx.get(f"{server.url}/rooms", headers={"Authorization": f"Bearer {answer.json()['token']}"})
        assert {room["kind"] for room in rooms.json()["rooms"]} == {"room", "booth", "bay", "desk"}
        # Another command shares the database meanwhile.
        assert "nothing was added" in run(None, "seed", data_dir=str(data)).stdout
        assert server.stop() == 0
    finally:
        server.kill()
    said = server.log.read_text()
    assert f"Holdfast serves at {server.url}" in said
    assert said.rstrip().endswith("Stopped.")
    assert not (data / "postgres" / "cluster" / "postmaster.pid").exists()


def test_two_workers_serve_one_port(own_database: str, tmp_path: Path) -> None:
    environment = {"HOLDFAST_DATABASE_URL": own_database, "HOLDFAST_WORKERS": "2"}
    with served(environment, log=tmp_path / "serve.log") as server:
        for _ in range(20):
            assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert server.stop() == 0


def test_the_openapi_document_needs_no_database(tmp_path: Path) -> None:
    made = run(None, "openapi", "--output", str(tmp_path / "openapi.json"))
    assert made.returncode == 0
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"].startswith("3.1")
