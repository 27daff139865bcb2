"""The command line: `holdfast serve`, `worker`, `migrate`, `seed`, `create-admin`, `token`, `doctor`, `verify`, `openapi`."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console

from holdfast.adapters.conferencing import ProviderUnknown
from holdfast.core import clock, metrics
from holdfast.core.companion import Companion
from holdfast.core.errors import Busy, Refusal
from holdfast.core.logging import configure_logging
from holdfast.core.settings import Settings, SettingsError, load_settings
from holdfast.db import migrations
from holdfast.db.database import Database
from holdfast.db.embedded import EmbeddedPostgresError
from holdfast.db.embedded import start as start_embedded

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)
app = typer.Typer(
    name="holdfast",
    help="A booking service in which nothing is ever booked twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_DATABASE = "holdfast"


def main() -> None:
    """The entry point: every expected failure is one sentence on standard error and exit code 1."""
    try:
        app()
    except (SettingsError, EmbeddedPostgresError, ProviderUnknown) as error:
        _fail(str(error))
    except Busy:
        _fail("The database is out of reach or busy: check HOLDFAST_DATABASE_URL and that PostgreSQL runs, then try again.")
    except Refusal as refusal:
        _fail(refusal.text)


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"holdfast: {message}", markup=False)
    raise SystemExit(1)


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or a share in the embedded one, made where there is none."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(
            f"The data folder {folder} cannot be made ({error.strerror}): "
            "set HOLDFAST_DATA_DIR to a folder that you may write to."
        )
    with start_embedded(folder / "postgres") as server:
        yield server.ensure_database(_DATABASE)


def _run(
    url: str,
    work: Callable[[Database], Awaitable[T]],
    *,
    pool_size: int = 2,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run one piece of work on a database of its own."""

    async def opened() -> T:
        db = Database(url, pool_size=pool_size)
        try:
            return await work(db)
        finally:
            await db.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(opened())


def _migrate(url: str) -> bool:
    """Bring the database to head; False where it was there."""
    if migrations.standing(_run(url, migrations.current)) != "behind":
        return False
    from holdfast.db import migrate

    migrate.upgrade(url)
    return True


@app.command()
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
        with _shared_metrics(settings), _database_url(settings) as url:
            if migrate or (migrate is None and settings.database_url is None):
                _migrate(url)
            seeded = demo and settings.development and _seed(url)
            if demo and not settings.development:
                console.print(
                    "--demo is left out: its log-ins are well known, and this is production. Next: holdfast create-admin"
                )
            with suppress(Busy):
                # Out of reach it may be for now; who has none of our tables was not migrated.
                if _run(url, migrations.current) is None:
                    _fail("The database was never migrated. Next: holdfast migrate, or holdfast serve --migrate")
            _serve(settings, url, listening, demo=demo, seeded=seeded)
    except KeyboardInterrupt:
        pass
    console.print("Stopped.")


@app.command()
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
        with _database_url(settings) as url:
            if not attached:
                if migrations.standing(_run(url, migrations.current)) == "behind":
                    _fail("The database is not at this version's migrations. Next: holdfast migrate, then holdfast worker")
                console.print("The worker runs: offers, reminders, mails, webhooks. Ctrl-C stops it.")
            # The loop that the service itself runs on.
            work = partial(_work_until_told, settings=settings, attached=attached)
            _run(url, work, pool_size=POOL_SIZE, loop_factory=auto_loop_factory())
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
    companion = Companion("worker", [sys.executable, "-P", "-m", "holdfast.cli", "worker", "--attached"])
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
        _fail(
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


@app.command()
def migrate(
    revision: Annotated[str, typer.Option(help="A revision, `head` or `base`.")] = "head",
) -> None:
    """Bring the database to the newest migration, or to another one."""
    settings = load_settings()
    from holdfast.db import migrate as runner

    with _database_url(settings) as url:
        before = _run(url, migrations.current)
        if revision == "head":
            if migrations.standing(before) == "ahead":
                _fail(
                    f"The database is at {before}, ahead of this version, which knows up to {migrations.head()} and works "
                    "with it. To take it back: holdfast migrate --revision ..., with the version that knows the way"
                )
            runner.upgrade(url)
        else:
            runner.downgrade(url, revision)
        after = _run(url, migrations.current)
    console.print(f"The database was at {before or 'nothing'} and is at {after or 'nothing'}. Next: holdfast serve")


def _seed(url: str) -> bool:
    from holdfast.seed import seed as fill

    with console.status("Making demo data") as status:

        def told(what: str) -> None:
            status.update(f"Making demo data: {what}")

        return _run(url, lambda db: fill(db, now=clock.now(), told=told))


@app.command()
def seed() -> None:
    """Fill an empty database with demo rooms, people and bookings (development only)."""
    settings = load_settings()
    if not settings.development:
        _fail("Demo data come with well-known passwords, so production refuses them: set HOLDFAST_ENV=development.")
    with _database_url(settings) as url:
        _migrate(url)
        made = _seed(url)
    if made:
        console.print("Demo data are there. Next: make run, then log in as anna@example.com (password: holdfast)")
    else:
        console.print("There are rooms already, so nothing was added. Next: make run")


@app.command("create-admin")
def create_admin(
    email: Annotated[str, typer.Option(prompt="E-mail", help="The admin's e-mail.")],
    password: Annotated[
        str, typer.Option(prompt="Password", hide_input=True, confirmation_prompt=True, help="Asked for when left out.")
    ],
    name: Annotated[str | None, typer.Option(help="The admin's name.")] = None,
) -> None:
    """Make an admin: the only way in production."""
    from pydantic import TypeAdapter, ValidationError

    from holdfast.accounts.schemas import Registration
    from holdfast.accounts.service import add_user
    from holdfast.core.callers import SYSTEM
    from holdfast.core.security import Passwords

    settings = load_settings()
    try:
        asked = TypeAdapter(Registration).validate_python({"email": email, "password": password, "role": "admin", "name": name})
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        _fail(f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}")
    passwords = Passwords(cost=settings.bcrypt_cost)
    with _database_url(settings) as url:
        _migrate(url)
        user = _run(
            url,
            lambda db: add_user(
                db, passwords, email=asked.email, password=asked.password, role="admin", name=asked.name, by=SYSTEM
            ),
        )
    console.print(f"Admin {user.email} has the id {user.id}. Next: POST /login with this e-mail and password")


@app.command()
def token(
    email: Annotated[str, typer.Option(help="Whose token.")],
) -> None:
    """Print an access token for a user: for scripts and for trying things out. It is as good as a log-in."""
    from holdfast.accounts.rules import email_key
    from holdfast.main import build_state

    settings = load_settings()
    from datetime import timedelta

    from holdfast.accounts import queries, service

    with _database_url(settings) as url:
        state = build_state(load_settings(database_url=url))

        async def make(db: Database) -> str | None:
            async with db.transaction() as session:
                found = await queries.find_credentials(session, email_key(email))
            if found is None or found[0].status != "active":
                return None
            tokens = service.TokenMaker(state.access_tokens, state.refresh_tokens, timedelta(days=settings.refresh_token_days))
            return (await service.start_session(db, tokens, user=found[0], network=None, now=clock.now())).token

        made = _run(url, make)
    if made is None:
        _fail("There is no active user with this e-mail. Next: holdfast seed, or POST /register")
    sys.stdout.write(made + "\n")


@app.command()
def doctor(
    data: Annotated[
        bool, typer.Option("--data", help="Look besides at all that is stored, whether it can be true. Repairs nothing.")
    ] = False,
) -> None:
    """Check settings, database, durability, migrations and clock; say what to do. Exit code 1 where something is wrong."""
    from holdfast.doctor import examine

    settings = load_settings()
    with _database_url(settings) as url:
        findings = _run(url, lambda db: examine(db, settings, now=clock.now))
        wrong = 0
        for finding in findings:
            mark = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}[finding.level]
            console.print(f"{mark}  {finding.what}")
            if finding.advice:
                console.print(f"      -> {finding.advice}", markup=False)
            wrong += finding.level == "fail"
        if wrong:
            _fail(f"{wrong} of {len(findings)} checks failed; what to do stands above.")
        if data:
            _look_at_data(url)
    console.print("Everything that must hold holds. Next: holdfast serve")


def _look_at_data(url: str) -> None:
    """Only after the other checks: tables of another migration would fail for another reason."""
    from holdfast.inspection import INVARIANTS, report

    console.print("Looking at all that is stored, in one snapshot; large tables take a while.")
    broken = _run(url, lambda db: report(db, console))
    if broken:
        _fail(f"{broken} of {len(INVARIANTS)} invariants are broken; which, and of what, stands above. Nothing was changed.")


@app.command()
def verify(
    url: Annotated[str, typer.Option(help="A running service in development, on a database that may be written to.")] = (
        "http://127.0.0.1:8080"
    ),
    history: Annotated[Path | None, typer.Option(help="Judge a history that was saved, instead of recording one.")] = None,
    clients: Annotated[int, typer.Option(min=1, max=500, help="How many ask at the same time.")] = 20,
    operations: Annotated[int | None, typer.Option(min=1, help="End after so many; 2000 where no seconds are named.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after so long.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the history there, as JSON lines.")] = None,
    holds: Annotated[bool, typer.Option("--holds/--no-holds", help="Place, confirm and release holds too.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the rooms, users and bookings it made.")] = False,
    seed: Annotated[int, typer.Option(help="Another one: other requests.")] = 1,
) -> None:
    """Check that nothing is booked twice: concurrent clients, all answers recorded, an order sought that explains them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from holdfast.verification import HistoryError, Plan, VerificationError, run_verification, verify_file

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Preparing", total=None)

        def told(what: str, done: float, total: float) -> None:
            progress.update(task, description=what.capitalize(), completed=int(done), total=int(total))

        try:
            if history is not None:
                report = verify_file(history, told=told)
            else:
                if operations is None and seconds is None:
                    operations = 2000
                plan = Plan(clients=clients, operations=operations, seconds=seconds, holds=holds, seed=seed, keep=keep)
                report = run_verification(url, plan, save=save, told=told)
        except (VerificationError, HistoryError) as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"The history cannot be written to {save} ({error.strerror}): name another file with --save.")
    console.print(report.describe(), markup=False)
    if not report.verdict.linearizable:
        kept = save or history
        _fail("The answers contradict each other: see above" + (f", and {kept}." if kept else "; --save keeps the history."))
    console.print("Some order of the requests explains every answer: nothing was booked twice, no refusal was untrue.")


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="A file; standard output without it.")] = None,
) -> None:
    """Write the OpenAPI document."""
    from holdfast.main import build_app, build_state

    # Describing the routes needs no database, so none is opened.
    settings = load_settings(database_url="postgresql://nobody@127.0.0.1/none")
    document = json.dumps(build_app(build_state(settings)).openapi(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(document)
        return
    output.write_text(document)
    console.print(f"{output} is written.")


if __name__ == "__main__":
    main()
