"""Running locust, and what its requests tell."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from printing import console
from raw_http import percentile


@dataclass(frozen=True)
class Sample:
    """One request: seconds since the first one, its name, milliseconds, and what was wrong (empty: nothing)."""

    at: float
    name: str
    milliseconds: float
    outcome: str


@dataclass(frozen=True)
class Crowd:
    """Who asks: the locust file, its plan, how many people, how many more of them each second, and for how long."""

    what: str
    script: str
    plan: Mapping[str, Any]
    people: int
    more_each_second: float
    seconds: int


def shown_progress() -> Progress:
    """Bars of what takes its known time."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    return Progress(*columns, console=console)


def run_locust(url: str, crowd: Crowd, progress: Progress, *, folder: Path, prefix: Path | None) -> list[Sample]:
    """Run locust headless; with `prefix`, leave its CSV files and HTML report there. `folder` keeps `samples.csv`."""
    (folder / "plan.json").write_text(json.dumps(crowd.plan))
    samples = folder / "samples.csv"
    samples.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "WARNING", "--host", url]
    command += ["-f", str(Path(__file__).with_name(crowd.script)), "--users", str(crowd.people)]
    command += ["--spawn-rate", str(crowd.more_each_second), "--run-time", f"{crowd.seconds}s", "--stop-timeout", "10"]
    command += ["--exit-code-on-error", "0", "--target", str(folder / "plan.json"), "--samples", str(samples)]
    if prefix is not None:
        command += ["--csv", str(prefix), "--csv-full-history", "--html", str(prefix.with_suffix(".html"))]
    task = progress.add_task(crowd.what, total=crowd.seconds)
    with (folder / "locust.log").open("w+") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            _watch(child, samples, crowd.seconds, lambda done: progress.update(task, completed=done))
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait(15)
        log.seek(0)
        words = log.read()
    found = _samples(samples)
    if child.returncode or not found:
        raise SystemExit(f"load-test: locust failed ({child.returncode}). Its last words:\n{words[-1500:]}")
    return found


def _watch(child: subprocess.Popen[bytes], samples: Path, seconds: int, told: Any) -> None:
    begun: float | None = None
    limit = time.monotonic() + seconds + 60
    while child.poll() is None:
        if time.monotonic() > limit:
            raise SystemExit("load-test: locust did not end in time")
        time.sleep(0.25)
        if begun is None and samples.exists() and samples.stat().st_size > 50:
            begun = time.monotonic()
        if begun is not None:
            told(min(seconds, time.monotonic() - begun))
    told(seconds)


def _samples(path: Path) -> list[Sample]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [(float(row["at"]), row["name"], float(row["milliseconds"]), row["outcome"]) for row in csv.DictReader(file)]
    # The moment noted is that of the answer; a request belongs to the second in which it was sent.
    rows = [(at - milliseconds / 1000, name, milliseconds, outcome) for at, name, milliseconds, outcome in rows]
    first = min((row[0] for row in rows), default=0.0)
    return sorted((Sample(at - first, name, ms, outcome) for at, name, ms, outcome in rows), key=lambda one: one.at)


def figures(latencies: Sequence[float], seconds: float) -> dict[str, float]:
    """Count, rate and percentiles in ms."""
    values = list(latencies)
    return {
        "requests": len(values),
        "perSecond": len(values) / seconds if seconds else 0.0,
        **{f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)},
        "max": max(values, default=0.0),
    }


def figures_of(samples: Sequence[Sample], names: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """The figures of each kind of request with its errors, in the order of `names`, then by name."""
    seconds = max((one.at for one in samples), default=0.0)
    kinds = sorted({one.name for one in samples}, key=lambda name: (names.index(name) if name in names else len(names), name))
    found = {}
    for kind in kinds:
        of_kind = [one for one in samples if one.name == kind]
        found[kind] = figures([one.milliseconds for one in of_kind], seconds)
        found[kind]["errors"] = sum(bool(one.outcome) for one in of_kind)
    return found


def row_of(found: Mapping[str, float]) -> tuple[str, ...]:
    """Count, rate, percentiles and errors, as they are shown."""
    percentiles = (f"{found[p]:.2f}" for p in ("p50", "p95", "p99"))
    errors = f"{found['errors']:.0f}" if "errors" in found else ""
    return f"{found['requests']:,.0f}", f"{found['perSecond']:,.1f}", *percentiles, errors


def wrong_ones(samples: Sequence[Sample]) -> list[str]:
    """What went wrong, each kind once, five at most."""
    return sorted({f"{one.name}: {one.outcome}" for one in samples if one.outcome})[:5]


def verdict_lines(verdicts: Mapping[str, bool]) -> bool:
    """Print what held and what did not; whether all did."""
    for text, held in verdicts.items():
        console.print(f"  {'ok    ' if held else 'MISSED'}  {text}", markup=False)
    return all(verdicts.values())
