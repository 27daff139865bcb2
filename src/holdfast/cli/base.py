"""What commands have in common: words, ends, and the database that they work on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from rich.console import Console

from holdfast.core import clock
from holdfast.core.settings import Settings
from holdfast.db import migrations
from holdfast.db.database import Database
from holdfast.db.embedded import start as start_embedded

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)

_DATABASE = "holdfast"


def fail(message: str) -> NoReturn:
    """End with one sentence on standard error, and exit code 1."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"holdfast: {message}", markup=False)
    raise SystemExit(1)


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """The configured database, or a share in the embedded one, made where there is none."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(
            f"The data folder {folder} cannot be made ({error.strerror}): "
            "set HOLDFAST_DATA_DIR to a folder that you may write to."
        )
    with start_embedded(folder / "postgres") as server:
        yield server.ensure_database(_DATABASE)


def run(
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


def bring_to_head(url: str) -> bool:
    """Bring the database to head; False where it was there."""
    if migrations.standing(run(url, migrations.current)) != "behind":
        return False
    from holdfast.db import migrate

    migrate.upgrade(url)
    return True


def fill_with_demo_data(url: str) -> bool:
    """Demo rooms, people and bookings; False where there are rooms already."""
    from holdfast.seed import seed as fill

    with console.status("Making demo data") as status:

        def told(what: str) -> None:
            status.update(f"Making demo data: {what}")

        return run(url, lambda db: fill(db, now=clock.now(), told=told))
