"""Findings as people read them, a line for each as it is found."""

from rich.console import Console

from holdfast.db.database import Database
from holdfast.inspection.looking import PATIENCE_SECONDS, Finding, check

_MARKS = {"ok": "[green]ok  [/green]", "note": "[yellow]note[/yellow]", "fail": "[red]FAIL[/red]"}


async def report(db: Database, console: Console, *, patience: float = PATIENCE_SECONDS) -> int:
    """Look at everything and print it; returns how many invariants are broken. Raises Busy."""
    broken = 0
    async for finding in check(db, patience=patience):
        console.print(f"{_MARKS[finding.level]}  {_what(finding)}")
        for line in _more(finding):
            console.print(f"      {line}", markup=False)
        broken += finding.level == "fail"
    return broken


def _what(finding: Finding) -> str:
    invariant = finding.invariant
    if finding.level == "ok":
        return f"{invariant.name} ({finding.seconds:.3f} s)"
    return f"{invariant.name}: {invariant.broken} ({finding.seconds:.3f} s)"


def _more(finding: Finding) -> list[str]:
    if finding.level == "ok":
        return []
    shown = ", ".join(finding.examples)
    more = f" and {finding.total - len(finding.examples)} more" if finding.total > len(finding.examples) else ""
    lines = [f"{finding.invariant.what}: {shown}{more}"]
    if finding.invariant.advice:
        lines.append(f"-> {finding.invariant.advice}")
    elif finding.level == "fail":
        lines.append("-> nothing was changed; keep a backup of this state and report it, as a promise of the service is broken")
    return lines
