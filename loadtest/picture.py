"""Latency and requests over time as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from raw_http import percentile

#: Seconds since the beginning, milliseconds, whether it was a right answer.
Sample = tuple[float, float, bool]
_SHOWN = ((50, "#1b7837"), (95, "#e08214"), (99, "#b2182b"))


@dataclass(frozen=True)
class Series:
    """Requests that are counted together, and what they are called."""

    name: str
    samples: Sequence[Sample]


_COLOURS = ("#2166ac", "#762a83", "#1b7837", "#e08214")


def draw(path: Path, title: str, measured: Series, counted: Sequence[Series], *, limit_ms: float | None) -> None:
    """P50, P95 and P99 of `measured` in each second above; requests per second of each of `counted`, and errors, below."""
    # The last second is never a whole one.
    seconds = max(1, int(max((at for series in counted for at, _, _ in series.samples), default=0.0)))
    by_second: list[list[float]] = [[] for _ in range(seconds + 1)]
    for at, milliseconds, _ in measured.samples:
        by_second[int(at)].append(milliseconds)
    del by_second[seconds:]
    figure, (upper, lower) = plt.subplots(
        2, 1, sharex=True, figsize=(10, 6.5), height_ratios=(2, 1), layout="constrained", dpi=120
    )
    figure.suptitle(title, fontsize=12)
    moments = [second + 0.5 for second, values in enumerate(by_second) if values]
    for percent, colour in _SHOWN:
        values = [percentile(values, percent) for values in by_second if values]
        overall = percentile([milliseconds for _, milliseconds, _ in measured.samples], percent)
        upper.plot(moments, values, marker=".", color=colour, label=f"P{percent}, in all {overall:.1f} ms")
    if limit_ms is not None:
        upper.axhline(limit_ms, color="grey", linestyle="--", linewidth=1, label=f"P95 must stay under {limit_ms:g} ms")
    upper.set_yscale("log")
    upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    upper.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    upper.set_ylabel(f"latency of {measured.name}, ms\n(in each second, logarithmic)")
    upper.grid(alpha=0.3)
    upper.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4, fontsize=9, frameon=False)
    wrong = [0] * (seconds + 1)
    for series, colour in zip(counted, _COLOURS, strict=False):
        counts = [0] * (seconds + 1)
        for at, _, right in series.samples:
            counts[int(at)] += 1
            wrong[int(at)] += not right
        lower.plot([s + 0.5 for s in range(seconds)], counts[:seconds], marker=".", color=colour, label=series.name)
    lower.bar([s + 0.5 for s in range(seconds)], wrong[:seconds], color="#b2182b", label=f"errors ({sum(wrong)} in all)")
    lower.set_ylabel("requests per second")
    lower.set_xlabel("seconds since the beginning")
    lower.set_ylim(bottom=0)
    lower.set_xlim(0, seconds)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.grid(alpha=0.3)
    lower.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=5, fontsize=9, frameon=False)
    figure.savefig(path)
    plt.close(figure)
