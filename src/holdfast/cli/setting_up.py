"""`holdfast migrate`, `seed`, `create-admin` and `token`: what there must be before there is something to serve."""

import sys
from typing import Annotated

import typer

from holdfast.cli.base import bring_to_head, console, database_url, fail, fill_with_demo_data, run
from holdfast.core import clock
from holdfast.core.settings import load_settings
from holdfast.db import migrations
from holdfast.db.database import Database


def migrate(
    revision: Annotated[str, typer.Option(help="A revision, `head` or `base`.")] = "head",
) -> None:
    """Bring the database to the newest migration, or to another one."""
    settings = load_settings()
    from holdfast.db import migrate as runner

    with database_url(settings) as url:
        before = run(url, migrations.current)
        if revision == "head":
            if migrations.standing(before) == "ahead":
                fail(
                    f"The database is at {before}, ahead of this version, which knows up to {migrations.head()} and works "
                    "with it. To take it back: holdfast migrate --revision ..., with the version that knows the way"
                )
            runner.upgrade(url)
        else:
            runner.downgrade(url, revision)
        after = run(url, migrations.current)
    console.print(f"The database was at {before or 'nothing'} and is at {after or 'nothing'}. Next: holdfast serve")


def seed() -> None:
    """Fill an empty database with demo rooms, people and bookings (development only)."""
    settings = load_settings()
    if not settings.development:
        fail("Demo data come with well-known passwords, so production refuses them: set HOLDFAST_ENV=development.")
    with database_url(settings) as url:
        bring_to_head(url)
        made = fill_with_demo_data(url)
    if made:
        console.print("Demo data are there. Next: make run, then log in as anna@example.com (password: holdfast)")
    else:
        console.print("There are rooms already, so nothing was added. Next: make run")


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
        fail(f"{problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}")
    passwords = Passwords(cost=settings.bcrypt_cost)
    with database_url(settings) as url:
        bring_to_head(url)
        user = run(
            url,
            lambda db: add_user(
                db, passwords, email=asked.email, password=asked.password, role="admin", name=asked.name, by=SYSTEM
            ),
        )
    console.print(f"Admin {user.email} has the id {user.id}. Next: POST /login with this e-mail and password")


def token(
    email: Annotated[str, typer.Option(help="Whose token.")],
) -> None:
    """Print an access token for a user: for scripts and for trying things out. It is as good as a log-in."""
    from holdfast.accounts.rules import email_key
    from holdfast.main import build_state

    settings = load_settings()
    from datetime import timedelta

    from holdfast.accounts import queries, service

    with database_url(settings) as url:
        state = build_state(load_settings(database_url=url))

        async def make(db: Database) -> str | None:
            async with db.transaction() as session:
                found = await queries.find_credentials(session, email_key(email))
            if found is None or found[0].status != "active":
                return None
            tokens = service.TokenMaker(state.access_tokens, state.refresh_tokens, timedelta(days=settings.refresh_token_days))
            return (await service.start_session(db, tokens, user=found[0], network=None, now=clock.now())).token

        made = run(url, make)
    if made is None:
        fail("There is no active user with this e-mail. Next: holdfast seed, or POST /register")
    sys.stdout.write(made + "\n")
