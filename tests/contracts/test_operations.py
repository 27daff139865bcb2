"""What stands in `ops/` and `docs/operations.md`: it parses, says what it must, and names nothing that is not there.

Where nginx, promtool, Caddy or systemd are on the machine, they are asked themselves; nginx is started besides.
"""

import asyncio
import configparser
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from holdfast.cli import app as command_line
from holdfast.core.settings import Settings
from holdfast.db.database import SERVER_SETTINGS
from holdfast.web.metrics import read_metrics
from holdfast.web.middleware import MAX_BODY
from holdfast.web.state import State
from support.servers import free_port

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
NGINX = OPS / "nginx" / "holdfast.conf"
DASHBOARD = OPS / "grafana" / "dashboards" / "holdfast.json"
PAGE = ROOT / "docs" / "operations.md"


def program(name: str) -> str:
    """The path of a checker, looked for where Debian keeps servers too; the test is skipped without it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    return found


def run(*command: str | Path) -> None:
    """Run a checker; what it says is the failure."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def queries() -> list[str]:
    """Every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    (group,) = yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


# --- what is watched --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(OPS.rglob("*.yml")), ids=lambda path: path.relative_to(OPS).as_posix())
def test_a_yaml_file_parses(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


async def test_dashboard_and_alerts_name_only_what_the_service_exposes(state: State) -> None:
    shown = bytes((await read_metrics(state.db)).body).decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", shown, re.MULTILINE))
    exposed = {
        name + suffix
        for name, kind in kinds.items()
        for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    asked = [*queries(), *(rule["expr"] for rule in rules())]
    named = set(re.findall(r"\bholdfast_\w+", " ".join(asked)))
    assert len(named) > 10
    assert named <= exposed, named - exposed
    whole = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bholdfast_\w+", " ".join(queries()))}
    assert set(kinds) <= whole, f"the dashboard does not show {set(kinds) - whole}"


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) > 10
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_every_alert_has_a_test() -> None:
    cases = yaml.safe_load((OPS / "prometheus" / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules()}


def test_prometheus_accepts_its_configuration_and_the_alerts_behave() -> None:
    promtool = program("promtool")
    run(promtool, "check", "config", OPS / "prometheus" / "prometheus.yml")
    run(promtool, "test", "rules", OPS / "prometheus" / "alerts.test.yml")


def test_prometheus_accepts_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool = program("promtool")
    plain = [query.replace("$__rate_interval", "1m").replace("$__range", "1h") for query in queries()]
    assert not any("$" in query for query in plain)
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(plain)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), encoding="utf-8")
    run(promtool, "check", "rules", path)


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (source,) = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]


def test_nginx_sends_no_request_twice_whose_key_is_ignored() -> None:
    table = NGINX.read_text(encoding="utf-8").partition("$holdfast_repeatable {")[2].partition("}")[0]
    keys_ignored = re.search(r'"~:(/\([^"]+)" "";', table)
    assert keys_ignored is not None
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            # A preview changes nothing.
            if method != "post" or path.endswith("/preview"):
                continue
            names = {one.get("name") for one in operation.get("parameters", [])}
            asked = path.replace("{", "").replace("}", "")
            ignored = re.search(keys_ignored[1], asked) is not None
            assert ignored == ("idempotency-key" not in names), path


def test_compose_starts_both_on_loopback_with_the_files_that_are_there() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services = {name: one for name, one in compose["services"].items() if one.get("profiles") == ["monitoring"]}
    assert set(services) == {"prometheus", "grafana"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        ours = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert ours
        assert all((ROOT / path).exists() for path in ours)


# --- the door ---------------------------------------------------------------------------------------------------------


def blocks(name: str) -> dict[str, str]:
    """The bodies of the proxy's locations, by what follows the word (nothing nested but an `if`)."""
    return dict(
        re.findall(rf"^    {name} ([^{{]+) {{\n(.*?)^    }}$", NGINX.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )


def test_the_proxy_buffers_no_stream_and_lets_streams_and_sockets_live() -> None:
    locations = blocks("location")
    assert "proxy_buffering off;" in locations["= /stream"]
    for path in ("= /stream", "= /ws"):
        assert "proxy_read_timeout 1h;" in locations[path]
    assert "proxy_read_timeout 30s;" in NGINX.read_text(encoding="utf-8")
    assert "proxy_read_timeout" not in locations["/"]


def test_no_location_sets_headers_of_its_own_for_holdfast() -> None:
    # One proxy_set_header in a location would drop all of the server's: what a client says of its address would pass.
    assert [path for path, body in blocks("location").items() if "proxy_set_header" in body] == []
    text = NGINX.read_text(encoding="utf-8")
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "$proxy_add_x_forwarded_for" not in text


def test_the_proxys_body_limit_is_the_services() -> None:
    assert MAX_BODY == 1 << 20
    assert "client_max_body_size 1m;" in NGINX.read_text(encoding="utf-8")
    assert "max_size 1MiB" in (OPS / "caddy" / "Caddyfile").read_text(encoding="utf-8")


def test_the_proxys_log_has_no_query_strings() -> None:
    (logged,) = re.findall(r"log_format holdfast (.*?);", NGINX.read_text(encoding="utf-8"), re.DOTALL)
    assert not set(re.findall(r"\$\w+", logged)) & {"$request", "$request_uri", "$args", "$query_string", "$http_referer"}


def nginx_files(folder: Path, *, port: int, backends: tuple[int, int]) -> Path:
    """The example, with a certificate and free ports, in a configuration of its own."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    run(program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)  # fmt: skip
    text = NGINX.read_text(encoding="utf-8")
    for old, new in {
        r"listen \[::\]:\d+.*;": "",
        r"listen 443 ": f"listen 127.0.0.1:{port} ",
        r"listen 80;": f"listen 127.0.0.1:{free_port()};",
        r"/etc/ssl/booking\.example/fullchain\.pem": str(certificate),
        r"/etc/ssl/booking\.example/privkey\.pem": str(key),
        r"/var/log/nginx/holdfast\.log": str(folder / "access.log"),
        r"server 127\.0\.0\.1:8081 max_fails=1": f"server 127.0.0.1:{backends[0]} max_fails=0",
        r"server 127\.0\.0\.1:8082 max_fails=1": f"server 127.0.0.1:{backends[1]} max_fails=0",
        r"server_name booking\.example": "server_name localhost",
    }.items():
        text, times = re.subn(old, new, text)
        assert times, old
    (folder / "holdfast.conf").write_text(text, encoding="utf-8")
    whole = folder / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    whole.write_text(
        f"{'user root; ' if os.geteuid() == 0 else ''}worker_processes 1; daemon off; pid {folder / 'nginx.pid'};\n"
        f"error_log {folder / 'error.log'} notice;\nevents {{ worker_connections 128; }}\n"
        f"http {{ {temporary}\ninclude {folder / 'holdfast.conf'}; }}\n",
        encoding="utf-8",
    )
    return whole


@asynccontextmanager
async def behind_nginx(folder: Path, backends: tuple[int, int]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the example, started in front of two ports."""
    nginx, port = program("nginx"), free_port()
    configuration = nginx_files(folder, port=port, backends=backends)
    run(nginx, "-t", "-e", folder / "error.log", "-c", configuration)
    process = await asyncio.create_subprocess_exec(nginx, "-e", folder / "error.log", "-c", configuration)
    try:
        trusting = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        transport = httpx.AsyncHTTPTransport(verify=trusting, retries=0)
        async with httpx.AsyncClient(transport=transport, base_url=f"https://localhost:{port}", timeout=20) as client:
            async with asyncio.timeout(10):
                while True:
                    try:
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.01)  # no signal tells when nginx listens
            yield client
    finally:
        process.terminate()
        await process.wait()


class Backend:
    """A service of two lines, on a free port: answers with the heads it was sent, or dies with the request in its hands."""

    def __init__(self) -> None:
        self.dies = False
        self.asked = 0
        self.go_on = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked += 1
        if not self.dies:
            if head.startswith("GET /stream"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
                await writer.drain()
                await self.go_on.wait()
                writer.write(b"data: two\n\n")
            else:
                body = head.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()


@asynccontextmanager
async def backends() -> AsyncIterator[tuple[Backend, Backend, tuple[int, int]]]:
    """Two of them, and their ports."""
    first, second = Backend(), Backend()
    async with (
        await asyncio.start_server(first, "127.0.0.1", 0) as one,
        await asyncio.start_server(second, "127.0.0.1", 0) as two,
    ):
        yield first, second, (one.sockets[0].getsockname()[1], two.sockets[0].getsockname()[1])


async def test_behind_nginx_a_stream_arrives_while_it_is_written(tmp_path: Path) -> None:
    async with (
        backends() as (first, second, ports),
        behind_nginx(tmp_path, ports) as client,
        asyncio.timeout(10),
        client.stream("GET", "/stream?ticket=secret") as answer,
    ):
        parts = answer.aiter_text()
        assert await anext(parts) == "data: one\n\n"
        first.go_on.set()
        second.go_on.set()
        assert await anext(parts) == "data: two\n\n"
    logged = (tmp_path / "access.log").read_text(encoding="utf-8")
    assert "/stream" in logged
    assert "secret" not in logged


async def test_behind_nginx_the_address_is_the_peers_whatever_the_client_says(tmp_path: Path) -> None:
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http", "Forwarded": "for=6.6.6.6", "Upgrade": "h2c"}
    async with backends() as (_, _, ports), behind_nginx(tmp_path, ports) as client:
        head = (await client.get("/rooms", headers=lies)).text
    assert "X-Forwarded-For: 127.0.0.1\r\n" in head
    assert "X-Forwarded-Proto: https\r\n" in head
    assert "6.6.6.6" not in head
    assert "h2c" not in head


async def test_behind_nginx_a_post_with_a_key_survives_a_dying_process_and_one_without_is_never_sent_twice(
    tmp_path: Path,
) -> None:
    async with backends() as (first, second, ports), behind_nginx(tmp_path, ports) as client:
        first.dies = True
        for _ in range(6):
            answer = await client.post("/bookings", headers={"Idempotency-Key": "one"})
            assert answer.status_code == 200
            assert answer.headers["Strict-Transport-Security"]
        assert first.asked > 0, "the dying one was never asked: nothing is shown"
        second.dies = True
        asked = first.asked + second.asked
        for path, headers in (("/bookings", {}), ("/api-keys", {"Idempotency-Key": "two"}), ("/bookings", {})):
            answer = await client.post(path, headers=headers)
            assert answer.status_code == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Retry-After"] == "1"
            assert answer.json()["error"]["code"] == "BUSY"
            asked += 1
            assert first.asked + second.asked == asked


async def test_behind_nginx_a_body_that_is_too_large_gets_the_services_answer(tmp_path: Path) -> None:
    async with backends() as (first, second, ports), behind_nginx(tmp_path, ports) as client:
        for headers in ({}, {"Idempotency-Key": "one"}):
            answer = await client.post("/bookings", content=b" " * (MAX_BODY + 1), headers=headers)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "TOO_LARGE"
        assert first.asked + second.asked == 0


async def test_behind_nginx_strangers_see_neither_metrics_nor_jobs(tmp_path: Path) -> None:
    text = NGINX.read_text(encoding="utf-8")
    allowed = re.findall(r"allow ([^;]+);", text)
    assert allowed == ["127.0.0.1", "::1"]
    assert "deny all;" in text
    if sys.platform != "linux":
        pytest.skip("only Linux has all of 127.0.0.0/8 by itself")
    async with backends() as (first, second, ports), behind_nginx(tmp_path, ports) as client:
        assert (await client.get("/metrics")).status_code == 200
        asked = first.asked + second.asked
        # The same machine by another of its loopback addresses is a stranger.
        context = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
        stranger = httpx.AsyncHTTPTransport(verify=context, local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=stranger, base_url=client.base_url) as other:
            for path in ("/metrics", "/jobs/metrics", "/jobs", "/%6detrics"):
                answer = await other.get(path)
                assert answer.status_code == 404
                assert answer.json()["error"]["code"] == "NOT_FOUND"
        assert first.asked + second.asked == asked


def test_caddy_accepts_its_file() -> None:
    path = OPS / "caddy" / "Caddyfile"
    text = path.read_text(encoding="utf-8")
    assert all(word in text for word in ("/metrics", "/jobs", "respond @outside 404", "header_up -Forwarded"))
    run(program("caddy"), "validate", "--adapter", "caddyfile", "--config", path)


# --- the database's pooler, the units, the page -----------------------------------------------------------------------


def test_pgbouncer_sets_what_it_drops() -> None:
    config = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",), delimiters=("=",))
    config.read_string((OPS / "pgbouncer" / "pgbouncer.ini").read_text(encoding="utf-8"))
    pooler = config["pgbouncer"]
    assert pooler["pool_mode"] == "transaction"
    assert int(pooler["max_prepared_statements"]) > 0
    ignored = {name.strip() for name in pooler["ignore_startup_parameters"].split(",")}
    # PgBouncer itself keeps the time zone of each client.
    assert ignored == set(SERVER_SETTINGS) - {"timezone"}
    (query,) = re.findall(r"connect_query='(.*)'$", config["databases"]["holdfast"])
    set_there = {name: value.strip("'") for name, value in re.findall(r"SET (\w+) = ([^;]+)", query.replace("''", "'"))}
    assert set_there == {name: SERVER_SETTINGS[name] for name in ignored}


@pytest.mark.parametrize("name", ["holdfast@.service", "holdfast-worker.service"])
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    text = (OPS / "systemd" / name).read_text(encoding="utf-8")
    assert "\nUser=holdfast\n" in text
    # Verified is what the programme is, too: here it is another one.
    copy = tmp_path / name.replace("@", "@8081")
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False, timeout=60)
    about_ours = [line for line in done.stderr.splitlines() if name.partition("@")[0].partition(".")[0] in line]
    assert about_ours == []


def test_the_page_names_only_settings_commands_and_files_that_there_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    settings = {f"HOLDFAST_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"\bHOLDFAST_[A-Z_]+\b", page))
    assert named
    assert named <= settings, named - settings
    commands = {command.name or command.callback.__name__ for command in command_line.registered_commands if command.callback}
    asked = set(re.findall(r"\bbin/holdfast ([a-z-]+)|`holdfast ([a-z-]+)", page))
    assert asked
    assert {one or other for one, other in asked} <= commands
    for path in re.findall(r"\]\((?!http|#)([^)#]+)", page):
        assert (PAGE.parent / path).exists(), path
    for path in re.findall(r"`(ops/[\w@./-]+)`", page):
        assert (ROOT / path).exists(), path
