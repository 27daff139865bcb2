"""How the load tests show where they are and what they found."""

import json
import os
import platform
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    # Into a file or a pipe: as wide as the tables are.
    console.width = 120


def figures_table(first: str, *others: str, title: str | None = None) -> Table:
    """A table whose first column holds names and all others figures."""
    table = Table(first, *others, box=SIMPLE, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def in_rounds(turns: Sequence[tuple[str, Callable[[], T]]], rounds: int) -> dict[str, list[T]]:
    """Every turn once in each round, in random order, so that a machine's moods hit all alike; the results by name."""
    found: dict[str, list[T]] = {name: [] for name, _ in turns}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} runs"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=rounds * len(turns))
        for number in range(1, rounds + 1):
            for name, turn in random.sample(turns, len(turns)):
                progress.update(task, description=f"Round {number}: {name}")
                found[name].append(turn())
                progress.advance(task)
    return found


def write_report(path: Path, report: dict[str, Any]) -> None:
    """A report as JSON, with when and on what it was made."""
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, **report}
    path.write_text(json.dumps(whole, indent=2) + "\n")
