"""What is counted and measured, by names that Prometheus reads at `/metrics` (docs/decisions/0010).

Counted by prometheus_client. Where several processes answer at one port it counts in files that all of them can read (`share`):
whichever a scrape reaches tells of all. It asks for that once, when it is imported: so it is imported at the first count.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast import __version__
from holdfast.core.settings import SettingsError

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric

M = TypeVar("M", bound="MetricWrapperBase")
Labels = tuple[str, ...]
#: What one scrape has beside the counts: name, text, labels' names, and values by labels.
Reading = tuple[str, str, Labels, dict[Labels, float]]

#: The library's own switch: the folder in which processes share their counts.
_SWITCH = "PROMETHEUS_MULTIPROC_DIR"
#: The library's files of a process, by the kinds of metrics that we have, and bytes in each that are ours before we count: room
#: for some ten thousand series.
_KINDS, _FILE_BYTES = ("counter", "histogram", "gauge_livesum"), 1 << 20
_FOLDERS, _LOCK = "holdfast-metrics-", "lock"
#: Series that one metric may have in a process. Labels are bounded where they are made; this is the net under a mistake there.
_MOST_SERIES = 2_000
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The route of a request that no route took: an unknown address, a body too large, a service too busy to look.
NO_ROUTE = "unmatched"
_OTHER = "other"

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _Series(dict[Labels, M], Generic[M]):
    """The series of a metric by their labels, each looked up once: the library takes a lock and ten times as long for it."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: Labels) -> M:
        if len(self) >= _MOST_SERIES and set(labels) != {_OTHER}:
            return self[(_OTHER,) * len(labels)]
        series = self[labels] = self._metric.labels(*labels)
        return series


class _Counts:
    """Every metric of this process. A gauge of several processes is the sum over those that live."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        # When each series began is a second line for every first one, and nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace="holdfast", registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace="holdfast", registry=self.registry, multiprocess_mode="livesum")

        def histogram(name: str, text: str, *labels: str, bounds: Sequence[float]) -> Histogram:
            return Histogram(name, text, labels, namespace="holdfast", registry=self.registry, buckets=bounds)

        self.requests = _Series(counter("requests_total", "Requests answered, by route template.", "method", "route", "status"))
        self.request_seconds = _Series(
            histogram("request_seconds", "From a request's arrival until its answer begins.", "method", "route", bounds=_SHORT)
        )
        self.requests_in_flight = gauge("requests_in_flight", "Requests whose answer has not begun.")
        self.claims_taken = _Series(counter("claims_taken_total", "Claims taken and committed.", "kind", "via"))
        self.refusals = _Series(counter("refusals_total", "Requests refused, by the code of the answer.", "code"))
        self.queue_wait = histogram("queue_wait_seconds", "In the fair queue, from the ticket to its answer.", bounds=_LONG)
        self.relay_messages = counter("relay_messages_total", "Outbox messages that were numbered and passed on.")
        self.job_runs = _Series(counter("job_runs_total", "Runs of jobs.", "kind", "outcome"))
        self.job_seconds = _Series(histogram("job_seconds", "Runs of jobs.", "kind", bounds=_LONG))
        self.stream_clients = _Series(gauge("stream_clients", "Clients of the live streams.", "transport"))
        self.stream_dropped = counter("stream_dropped_total", "Clients of the live streams that were too slow, and dropped.")
        self.webhook_deliveries = _Series(counter("webhook_deliveries_total", "Attempts to deliver a webhook.", "outcome"))
        self.mails = _Series(counter("mails_total", "Mails.", "outcome"))
        self.pool_connections = _Series(gauge("pool_connections", "Database connections.", "pool", "state"))
        self.pool_wait = histogram("pool_wait_seconds", "For a database connection.", bounds=_SHORT)
        #: What each request does with its series, by method, route and status: one look-up for all.
        self.answered: dict[tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        for transport in ("sse", "websocket"):
            # There from the start: nobody is a number too.
            self.stream_clients[transport,].set(0)


@cache
def _counts() -> _Counts:
    return _Counts()


def request_began() -> None:
    """A request is here."""
    _counts().requests_in_flight.inc()


def request_lost() -> None:
    """It is gone without an answer."""
    _counts().requests_in_flight.dec()


def request_answered(method: str, route: str, status: int, seconds: float) -> None:
    """The answer to a request of this route template begins, after so long."""
    counts = _counts()
    if method not in _METHODS:
        method = _OTHER
    series = counts.answered.get((method, route, status))
    if series is None:
        series = counts.requests[method, route, str(status)].inc, counts.request_seconds[method, route].observe
        counts.answered[method, route, status] = series
    count, observe = series
    count()
    observe(seconds)
    counts.requests_in_flight.dec()


def claims_taken(counted: Mapping[tuple[str, str], int]) -> None:
    """So many claims were committed, by kind (`slot`, `seat`) and by what took them: a `booking`, `hold`, `offer`, `closure`."""
    for labels, count in counted.items():
        _counts().claims_taken[labels].inc(count)


def refused(code: str) -> None:
    """A request was refused."""
    _counts().refusals[code,].inc()


def waited_in_line(seconds: float) -> None:
    """A ticket of the fair queue was answered."""
    _counts().queue_wait.observe(seconds)


def relayed(count: int) -> None:
    """The relay passed messages on."""
    _counts().relay_messages.inc(count)


def job_ran(kind: str, outcome: str, seconds: float) -> None:
    """A job's run ended: `completed`, `failed` (another will follow), `dead` or `later`."""
    _counts().job_runs[kind, outcome].inc()
    _counts().job_seconds[kind,].observe(seconds)


def stream_opened(transport: str) -> None:
    """A client came, by `sse` or `websocket`."""
    _counts().stream_clients[transport,].inc()


def stream_closed(transport: str) -> None:
    """It went, or was sent away."""
    _counts().stream_clients[transport,].dec()


def stream_dropped() -> None:
    """A client did not keep up."""
    _counts().stream_dropped.inc()


def webhook_sent(outcome: str) -> None:
    """An attempt to deliver: `delivered`, `failed`, `gone` for good (410), or `cancelled` before it was made."""
    _counts().webhook_deliveries[outcome,].inc()


def mail_sent(outcome: str) -> None:
    """A mail was `sent`, kept in the development mailbox (`kept`), `failed` for now, or `refused` for good."""
    _counts().mails[outcome,].inc()


class Pool:
    """The connections of `reads` or `transactions`: the hottest reads pass here."""

    def __init__(self, name: str) -> None:
        connections = _counts().pool_connections
        self._used, self._idle = connections[name, "used"], connections[name, "idle"]
        # A process may have several of a name: what it adds is how its own has changed.
        self._were_idle = 0

    def taken(self) -> None:
        """One is in use."""
        self._used.inc()

    def closed(self) -> None:
        """There are none any more."""
        self._idle.dec(self._were_idle)
        self._were_idle = 0

    def returned(self, *, idle: int) -> None:
        """It is no more; so many lie idle now."""
        self._used.dec()
        if idle != self._were_idle:
            self._idle.inc(idle - self._were_idle)
            self._were_idle = idle


def pool_waited(seconds: float) -> None:
    """A connection was had after so long."""
    _counts().pool_wait.observe(seconds)


def pool_not_waited() -> None:
    """`pool_waited(0)`, for the hottest reads."""
    _counts().pool_wait.observe(0.0)


def share(folder: Path) -> None:
    """Count where the other processes that share the folder can read it: those of one machine, which see each other's ids.

    Before anything is counted. Raises SettingsError for a folder that cannot be used, RuntimeError where it is too late.
    """
    if "prometheus_client" in sys.modules:
        if os.environ.get(_SWITCH) == str(folder):
            return
        msg = "metrics.share comes too late: something was counted before"
        raise RuntimeError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[_SWITCH] = str(folder)
        from prometheus_client.multiprocess import mark_process_dead

        # A process that had our id before us.
        mark_process_dead(os.getpid(), str(folder))  # type: ignore[no-untyped-call]  # the library's
        for path in _files_of(os.getpid(), folder):
            # The library's files are sparse, and mapped: a write into a hole of a full disk would be our end (SIGBUS).
            with path.open("ab") as file:
                file.write(bytes(max(_FILE_BYTES - file.tell(), 0)))
        _counts()
    except OSError as error:
        msg = f"HOLDFAST_METRICS_DIR: {folder} cannot be used ({error.strerror}). Name a folder that you may write to."
        raise SettingsError(msg) from error


def forget(pid: int) -> None:
    """Remove what a process counted that died young: one that dies again and again would fill the disk with it."""
    folder = os.environ.get(_SWITCH)
    if folder is not None:
        for path in _files_of(pid, Path(folder)):
            path.unlink(missing_ok=True)


def _files_of(pid: int, folder: Path) -> list[Path]:
    return [folder / f"{kind}_{pid}.db" for kind in _KINDS]


@contextmanager
def folder_of_our_own() -> "Iterator[Path]":
    """A temporary folder for the processes of one service; those whose services were killed are removed."""
    try:
        root = Path(tempfile.gettempdir())
        made = Path(tempfile.mkdtemp(prefix=".holdfast-", dir=root))
    except OSError as error:
        msg = f"There is no folder for temporary files ({error}). Name one in TMPDIR, or in HOLDFAST_METRICS_DIR."
        raise SettingsError(msg) from error
    for left in root.glob(f"{_FOLDERS}*"):
        # Whoever lives holds the lock; another user's cannot even be opened.
        with suppress(OSError), (left / _LOCK).open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    with (made / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Locked before anybody can look for it.
        folder = made.rename(root / f"{_FOLDERS}{made.name.rpartition('-')[2]}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def exposition(readings: Sequence[Reading] = ()) -> bytes:
    """Everything in Prometheus' text format (0.0.4), with gauges that were read for this scrape.

    Takes tens of milliseconds, so not for the event loop.
    """
    from prometheus_client import generate_latest

    info: Reading = ("process_info", "The version that runs.", ("version",), {(__version__,): 1.0})
    return generate_latest(_Scrape((*readings, info)))


class _Scrape:
    """What one scrape tells, as the library asks for it."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def collect(self) -> "Iterator[Metric]":
        """The counts of all processes, and the readings."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        folder = os.environ.get(_SWITCH)
        yield from _counts().registry.collect() if folder is None else _shared(Path(folder))
        for name, text, names, values in self._readings:
            family = GaugeMetricFamily(f"holdfast_{name}", text, labels=names)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family


def _shared(folder: Path) -> "Iterable[Metric]":
    """The counts of all processes that share the folder. Of the dead, what they counted, but not what they had."""
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    for path in folder.glob("gauge_livesum_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not _lives(pid):
            # Another process may do the same at this moment.
            with suppress(FileNotFoundError):
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # the library's
    files = []
    for path in folder.glob("*.db"):
        # One that has just been made, or whose process died just then, is still empty; the library fails at it.
        with suppress(FileNotFoundError):
            if path.stat().st_size:
                files.append(str(path))
    merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # the library's
    return merged


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's.
        return True
    return True
