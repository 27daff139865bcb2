"""`holdfast doctor` and `holdfast verify`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from holdfast.cli.base import console, database_url, fail, run
from holdfast.core import clock
from holdfast.core.settings import load_settings


def doctor(
    data: Annotated[
        bool, typer.Option("--data", help="Look besides at all that is stored, whether it can be true. Repairs nothing.")
    ] = False,
) -> None:
    """Check settings, database, durability, migrations and clock; say what to do. Exit code 1 where something is wrong."""
    from holdfast.doctor import examine

    settings = load_settings()
    with database_url(settings) as url:
        findings = run(url, lambda db: examine(db, settings, now=clock.now))
        wrong = 0
        for finding in findings:
            mark = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}[finding.level]
            console.print(f"{mark}  {finding.what}")
            if finding.advice:
                console.print(f"      -> {finding.advice}", markup=False)
            wrong += finding.level == "fail"
        if wrong:
            fail(f"{wrong} of {len(findings)} checks failed; what to do stands above.")
        if data:
            _look_at_data(url)
    console.print("Everything that must hold holds. Next: holdfast serve")


def _look_at_data(url: str) -> None:
    """Only after the other checks: tables of another migration would fail for another reason."""
    from holdfast.inspection import INVARIANTS, report

    console.print("Looking at all that is stored, in one snapshot; large tables take a while.")
    broken = run(url, lambda db: report(db, console))
    if broken:
        fail(f"{broken} of {len(INVARIANTS)} invariants are broken; which, and of what, stands above. Nothing was changed.")


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
            fail(str(error))
        except OSError as error:
            fail(f"The history cannot be written to {save} ({error.strerror}): name another file with --save.")
    console.print(report.describe(), markup=False)
    if not report.verdict.linearizable:
        kept = save or history
        fail("The answers contradict each other: see above" + (f", and {kept}." if kept else "; --save keeps the history."))
    console.print("Some order of the requests explains every answer: nothing was booked twice, no refusal was untrue.")
