"""A verification from end to end: record and judge, or judge what was recorded."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx

from holdfast.verification.histories import History, HistoryError, from_lines, to_lines
from holdfast.verification.linearizability import Verdict, check
from holdfast.verification.recorder import Plan, Told, record

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """A history and what is to be said of it."""

    history: History
    verdict: Verdict

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        answered = [operation.answered for operation in self.history.operations if operation.answered is not None]
        return max(answered, default=0) / _SECOND

    def describe(self) -> str:
        """For people: what was answered how often, then the verdict."""
        answers = sorted(self.history.answers().items(), key=lambda item: (item[0].split()[0], -item[1]))
        lines = [f"{times:>7,}  {answer}" for answer, times in answers]
        return "\n".join([*lines, f"Recorded in {self.seconds:.1f} s. Judged: {self.verdict.describe()}"])


def _quiet(_what: str, _done: float, _all: float) -> None:
    """Nobody is told."""


def run_verification(
    url: str,
    plan: Plan,
    *,
    save: Path | None = None,
    told: Told = _quiet,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Report:
    """Record a run against a service and judge it; `save` keeps the history, whatever the verdict. Runs a loop of its own.

    Raises VerificationError where the service cannot be verified, OSError where the file cannot be written.
    """
    if save is not None:
        # Better said now than after an hour.
        save.touch()
    history = asyncio.run(record(url, plan, told=told, transport=transport))
    if save is not None:
        save.write_text("".join(f"{line}\n" for line in to_lines(history)), encoding="utf-8")
    return judge(history, told=told)


def verify_file(path: Path, *, told: Told = _quiet) -> Report:
    """Judge a history that was saved. Raises HistoryError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(f"{path} cannot be read: {error}") from None
    return judge(from_lines(text.split("\n")), told=told)


def judge(history: History, *, told: Told = _quiet) -> Report:
    """Check a history."""
    return Report(history, check(history, told=lambda done, units: told("checking", done, units)))
