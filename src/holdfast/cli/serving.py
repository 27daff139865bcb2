"""`holdfast serve` and `holdfast worker`."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Annotated, NoReturn

import typer

from holdfast.cli.base import bring_to_head, console, database_url, fail, fill_with_demo_data, run
from holdfast.core import metrics
from holdfast.core.companion import Companion
from holdfast.core.errors import Busy
from holdfast.core.logging import configure_logging
from holdfast.core.settings import Settings, load_settings
from holdfast.db import migrations
from holdfast.db.database import Database


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (HOLDFAST_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (HOLDFAST_PORT); 0 picks a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes (HOLDFAST_WORKERS).")] = None,
    migrate: Annotated[
        bool | None,
        typer.Option("--migrate/--no-migrate", help="Migrate first; the default for the embedded database."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Seed demo data into an empty database (development).")] = False,
) -> None:
    """Serve the API; without HOLDFAST_DATABASE_URL, with a PostgreSQL of its own in HOLDFAST_DATA_DIR."""
    given = {"host": host, "port": port, "workers": workers}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    configure_logging(settings)
    # A polite end, also out of the start: embedded PostgreSQL is stopped, not orphaned.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # It is ignored under nohup.
        signal.signal(signal.SIGHUP, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))
    try:
        listening = _listen(settings)
        with _shared_metrics(settings), database_url(settings) as url:
            if migrate or (migrate is None and settings.database_url is None):
                bring_to_head(url)
            seeded = demo and settings.development and fill_with_demo_data(url)
            if demo and not settings.development:
                console.print(
                    "--demo is left out: its log-ins are well known, and this is production. Next: holdfast create-admin"
                )
            with suppress(Busy):
                # Out of reach it may be for now; who has none of our tables was not migrated.
                if run(url, migrations.current) is None:
                    fail("The database was never migrated. Next: holdfast migrate, or holdfast serve --migrate")
            _serve(settings, url, listening, demo=demo, seeded=seeded)
    except KeyboardInterrupt:
        pass
    console.print("Stopped.")


def worker(attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False) -> None:
    """Run the worker apart from the service (set HOLDFAST_WORKER=apart for that); several may run beside each other.

    `--attached` is how `holdfast serve` starts its own: it lives until its standard input ends, and says nothing by itself.
    """
    settings = load_settings()
    from uvicorn.loops.auto import auto_loop_factory

    from holdfast.core import tracing
    from holdfast.worker import POOL_SIZE

    configure_logging(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if settings.metrics_dir is not None:
            metrics.share(settings.metrics_dir)
        if settings.traces_url is not None:
            tracing.start(settings.traces_url)
        with database_url(settings) as url:
            if not attached:
                if migrations.standing(run(url, migrations.current)) == "behind":
                    fail("The database is not at this version's migrations. Next: holdfast migrate, then holdfast worker")
                console.print("The worker runs: offers, reminders, mails, webhooks. Ctrl-C stops it.")
            # The loop that the service itself runs on.
            work = partial(_work_until_told, settings=settings, attached=attached)
            run(url, work, pool_size=POOL_SIZE, loop_factory=auto_loop_factory())
    except KeyboardInterrupt:
        pass
    finally:
        tracing.stop()
    if not attached:
        console.print("Stopped.")


async def _work_until_told(db: Database, *, settings: Settings, attached: bool) -> None:
    """Work until SIGTERM; attached, also until standard input ends. What is under way is waited for, or given back."""
    from holdfast.worker import Worker

    working = asyncio.create_task(Worker(db, settings).run())
    loop = asyncio.get_running_loop()

    def end() -> None:
        if attached:
            loop.remove_reader(sys.stdin)
        # Once: a second cancel would cut short what the first one waits for.
        if not working.cancelling():
            working.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    if attached:
        # Nothing is ever written to it: readable, it has ended.
        loop.add_reader(sys.stdin, end)
    with suppress(asyncio.CancelledError):
        await working


@contextmanager
def _shared_metrics(settings: Settings) -> Iterator[None]:
    """One folder for all processes of this service, before anything is counted: whichever a scrape reaches tells of them all."""
    with ExitStack() as stack:
        folder = settings.metrics_dir
        if folder is None and (settings.workers > 1 or settings.worker == "inside"):
            folder = stack.enter_context(metrics.folder_of_our_own())
        if folder is not None:
            os.environ["HOLDFAST_METRICS_DIR"] = str(folder)
            if settings.workers == 1 or settings.metrics_dir is not None:
                # Else we serve nothing ourselves; a folder that somebody named is tried at once.
                metrics.share(folder)
        yield


@contextmanager
def _worker_beside(settings: Settings) -> Iterator[None]:
    """The worker in a process of its own: a mail takes milliseconds to write, in which no request should wait."""
    if settings.worker == "apart":
        yield
        return
    # -P: what lies in the working folder is no module of ours.
    command = [sys.executable, "-P", "-m", "holdfast.cli", "worker", "--attached"]
    companion = Companion("worker", command, on_early_death=metrics.forget)
    companion.start()
    try:
        yield
    finally:
        companion.stop()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Linux; accepted sockets inherit it (tcp(7)). Who takes not a byte for two minutes is cut off: else what is left for a
        # reader that never reads keeps its connection for ever.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        fail(
            f"Port {settings.port} of {settings.host} cannot be used ({error.strerror}). "
            f"Is a Holdfast running already? Take another one: make run PORT={settings.port % 60_000 + 1000}"
        )
    listening.set_inheritable(True)
    return listening


def _serve(settings: Settings, url: str, listening: socket.socket, *, demo: bool, seeded: bool) -> None:
    import uvicorn

    host, port = listening.getsockname()[:2]
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - how it is shown

    def ready() -> None:
        _say_where(settings, address, demo=demo, seeded=seeded)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                ready()

    # The other processes read the settings again: from the environment.
    os.environ |= {"HOLDFAST_DATABASE_URL": url, "HOLDFAST_HOST": settings.host, "HOLDFAST_PORT": str(port)}
    config = uvicorn.Config(
        "holdfast.main:make_app",
        factory=True,
        host=settings.host,
        port=port,
        workers=settings.workers,
        # Each of these costs 20 to 34 us a request; our own logs say what matters.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        # A client asks for channels, no more. What is told is short: packing it for each client costs more than it saves.
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        backlog=4096,
    )
    with _worker_beside(settings):
        if settings.workers == 1:
            Server(config).run(sockets=[listening])
            return
        from uvicorn.supervisors import Multiprocess

        ready()
        Multiprocess(config, sockets=[listening]).run()


def _say_where(settings: Settings, address: str, *, demo: bool, seeded: bool) -> None:
    console.print(f"\n[bold]Holdfast serves at {address}[/bold]  (Ctrl-C stops it)")
    console.print(f"  try it in the browser   {address}/docs")
    console.print(f"  read about each route   {address}/redoc")
    if settings.development:
        console.print("  environment             development: /dummyLogin is open, do not expose it")
    if demo and settings.development:
        from holdfast.seed import DEMO_PASSWORD

        console.print(
            f"  demo log-ins            admin@example.com, anna@example.com, ben@example.com; password: {DEMO_PASSWORD}"
        )
        if seeded:
            console.print("  demo data               made just now; it is kept between runs")
        console.print(
            f"\n  curl -s -X POST {address}/login -H 'Content-Type: application/json' "
            f"""-d '{{"email": "anna@example.com", "password": "{DEMO_PASSWORD}"}}'\n"""
        )
