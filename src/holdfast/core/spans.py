"""OpenTelemetry's part of `tracing`, which alone imports this: the packages are there only where traces are wanted."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from holdfast import __version__


class _Roots(Sampler):
    """Statements of nobody's, like those of the worker's rounds, are no trace of anything."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Every root but those that are calls of ours."""
        if kind is SpanKind.CLIENT:
            return SamplingResult(Decision.DROP)
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For OpenTelemetry's own debugging."""
        return "HoldfastRoots"


class _Scrubbing(SpanProcessor):
    """Hands spans on without their events and without what an error said: PostgreSQL quotes the row that it is about."""

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_end(self, span: ReadableSpan) -> None:
        """A copy with the error's class alone."""
        attributes = dict(span.attributes or {})
        for event in span.events:
            if event.attributes and "exception.type" in event.attributes:
                attributes["error.type"] = event.attributes["exception.type"]
        scrubbed = ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=attributes,
            links=span.links,
            kind=span.kind,
            instrumentation_scope=span.instrumentation_scope,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
        )
        self._inner.on_end(scrubbed)

    def shutdown(self) -> None:
        """End the inner one."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the inner one has gathered."""
        return self._inner.force_flush(timeout_millis)


def make_provider(url: str, *, exporter: SpanExporter | None, patience: float) -> TracerProvider:
    """Where spans are made, and asyncpg made to make them. `patience` in seconds, for one attempt to send."""
    resource = Resource.create({"service.name": "holdfast", "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBased(_Roots()), shutdown_on_exit=False)
    sending = (
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=patience))
        if exporter is None
        else SimpleSpanProcessor(exporter)
    )
    provider.add_span_processor(_Scrubbing(sending))
    # Both SQLAlchemy's connections and the plain ones are asyncpg's. It leaves the parameters' values out unless told.
    instrumentor: Any = AsyncPGInstrumentor
    instrumentor(capture_parameters=False).instrument(tracer_provider=provider)
    return provider


def end_provider(provider: TracerProvider) -> None:
    """Send what is left, in one attempt; asyncpg is as it was."""
    instrumentor: Any = AsyncPGInstrumentor
    instrumentor().uninstrument()
    provider.shutdown()


def make_propagator() -> TraceContextTextMapPropagator:
    """The W3C trace context, in and out."""
    return TraceContextTextMapPropagator()
