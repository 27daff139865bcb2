"""Traces by OpenTelemetry: from a request to its SQL, to what the relay and the jobs do of it, to the webhook.

Off unless a collector is named (`HOLDFAST_TRACES_URL`): then nothing is imported, and every function here returns at once.
Nothing personal and nothing secret goes into a span: route templates instead of paths, SQL with placeholders, and of an
error its class alone, as PostgreSQL's words quote the row that they are about.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

from holdfast import __version__

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
#: Seconds that spans are offered to a collector for: at the end of the process, what it waits for at most.
_LAST_WORDS = 3.0

_tracer: Any = None
_provider: Any = None
_propagator: Any = None
_NOTHING: AbstractContextManager[None] = nullcontext()


def start(url: str, *, exporter: Any = None) -> None:
    """Send spans to the collector at this base address (OTLP over HTTP), in batches. `exporter` is for tests.

    Needs the packages of the extra `traces`. Raises RuntimeError without them.
    """
    global _tracer, _provider, _propagator  # noqa: PLW0603 - one tracer for a process, as instrumentation is by class
    if _tracer is not None:
        return
    try:
        from holdfast.core import spans
    except ImportError as error:
        msg = "HOLDFAST_TRACES_URL needs OpenTelemetry: pip install 'holdfast[traces]'"
        raise RuntimeError(msg) from error
    _provider = spans.make_provider(url, exporter=exporter, patience=_LAST_WORDS)
    _propagator = spans.make_propagator()
    _tracer = _provider.get_tracer("holdfast", __version__)


def stop() -> None:
    """Send what is left, and be off again. Waits for the collector, a few seconds at most: not for the event loop."""
    global _tracer, _provider, _propagator  # noqa: PLW0603 - as above
    if _tracer is None:
        return
    from holdfast.core import spans

    spans.end_provider(_provider)
    _tracer = _provider = _propagator = None


def enabled() -> bool:
    """True where spans are sent somewhere."""
    return _tracer is not None


def current() -> str | None:
    """The present span as a W3C `traceparent`, to be stored with what follows from it; None outside of any."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def headers() -> dict[str, str]:
    """What an outgoing request says of the present span: `{"traceparent": ...}`, or nothing."""
    present = current()
    return {} if present is None else {"traceparent": present}


def span(
    name: str, parent: str | None = None, *, kind: SpanKind = "internal", **attributes: str | int | bool | None
) -> AbstractContextManager[Any]:
    """A span around a piece of work, under `parent` (a `traceparent`) or else the present one.

    Gives the span, None while traces are off. `messaging_id=3` becomes the attribute `holdfast.messaging_id`. Nothing
    personal or secret belongs into a name or an attribute.
    """
    if _tracer is None:
        return _NOTHING
    named = {f"holdfast.{key}": value for key, value in attributes.items() if value is not None}
    return _span(name, parent, kind, named)


@contextmanager
def _span(name: str, parent: str | None, kind: SpanKind, attributes: Mapping[str, str | int | bool]) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind as Kinds

    # A parent that cannot be read is no parent: the span is a root.
    context = None if parent is None else _propagator.extract({"traceparent": parent})
    with _tracer.start_as_current_span(name, context, kind=Kinds[kind.upper()], attributes=attributes) as started:
        yield started


def mark_failed(started: Any) -> None:
    """Say of a span that its work failed, where no exception leaves it."""
    from opentelemetry.trace import Status, StatusCode

    started.set_status(Status(StatusCode.ERROR))
