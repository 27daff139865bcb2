"""The command line: `holdfast serve`, `worker`, `migrate`, `seed`, `create-admin`, `token`, `doctor`, `verify`, `openapi`."""

import typer

from holdfast.adapters.conferencing import ProviderUnknown
from holdfast.cli.base import fail
from holdfast.cli.checking import doctor, verify
from holdfast.cli.describing import openapi
from holdfast.cli.serving import serve, worker
from holdfast.cli.setting_up import create_admin, migrate, seed, token
from holdfast.core.errors import Busy, Refusal
from holdfast.core.settings import SettingsError
from holdfast.db.embedded import EmbeddedPostgresError

app = typer.Typer(
    name="holdfast",
    help="A booking service in which nothing is ever booked twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order in which `--help` shows them.
for command in (serve, worker, migrate, seed, create_admin, token, doctor, verify, openapi):
    app.command(command.__name__.replace("_", "-"))(command)


def main() -> None:
    """The entry point: every expected failure is one sentence on standard error and exit code 1."""
    try:
        app()
    except (SettingsError, EmbeddedPostgresError, ProviderUnknown) as error:
        fail(str(error))
    except Busy:
        fail("The database is out of reach or busy: check HOLDFAST_DATABASE_URL and that PostgreSQL runs, then try again.")
    except Refusal as refusal:
        fail(refusal.text)
