"""Structured logs: JSON lines in production, readable text in development; never a secret.

Two nets. The first is what is not logged: no bodies, no headers, no addresses with their query, no library's chatter, which
at its debug level is exactly that. The second takes what looks like a secret out of a finished line.
"""

import logging
import re
from contextvars import ContextVar
from uuid import UUID

import structlog
from asgi_correlation_id import correlation_id
from structlog.typing import EventDict, WrappedLogger

from holdfast.core import tracing
from holdfast.core.settings import Settings

#: Who the request is from, once that is verified.
user_id: ContextVar[UUID | None] = ContextVar("holdfast.user_id", default=None)

_OURS = "holdfast"
_GONE = "[removed]"
_NAMES = (
    r"(?:access_?|refresh_?|feed_?|id_?|reset_?)?token|ticket|api_?key|authorization|cookie|(?:new_?|current_?|old_?)?password"
    r"|passwd|pwd|(?:client_?|jwt_?|conference_?)?secret|signature|credentials?"
)
#: What secrets look like, most special first, and what is left of them.
_SECRETS = (
    # The whole of what an Authorization header says.
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[^\s\"',;)\]}\\]+"), rf"\1 {_GONE}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_\-]+"), _GONE),
    (re.compile(r"\bhf_[A-Za-z0-9_\-]+"), _GONE),
    # A JSON Web Token: two parts of JSON, a signature.
    (re.compile(r"\beyJ[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*"), _GONE),
    # user:password@ in an address; the password may have an @ of its own. Schemes are short: without a bound, a long text with
    # many dots is searched anew from each of them (22 s for 100 kB).
    (re.compile(r"(?i)\b([a-z][a-z0-9+.\-]{0,30}://)[^\s/?#\"'<>]+@"), rf"\1{_GONE}@"),
    (re.compile(r"/calendar/[^/\s?\"'.]+"), f"/calendar/{_GONE}"),
    # name=value and "name": "value", with the quotes as they stand inside of JSON too.
    (re.compile(rf"(?i)((?<![a-z])(?:{_NAMES}))(\\*[\"']?\s*[=:]\s*)(b?\\*[\"'])(?:(?!\3).)*(\3)"), rf"\1\2\3{_GONE}\4"),
    (re.compile(rf"(?i)((?<![a-z])(?:{_NAMES}))(=)(?!\[removed\])[^\s&\"'\\,;)]+"), rf"\1\2{_GONE}"),
)


def without_secrets(text: str) -> str:
    """The text with everything that looks like a secret replaced. The second net: what goes in should have none."""
    for pattern, left in _SECRETS:
        text = pattern.sub(left, text)
    return text


def _who_and_what(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Which request, whose, and where to find its trace."""
    request_id, user, trace = correlation_id.get(), user_id.get(), tracing.current()
    if request_id:
        event.setdefault("request_id", request_id)
    if user:
        event.setdefault("user_id", str(user))
    if trace:
        event.setdefault("trace_id", trace.split("-")[1])
    return event


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Ours as the level says; of libraries, whatever they were told, nothing less than a warning."""
    return record.levelno >= logging.WARNING or record.name == _OURS or record.name.startswith(f"{_OURS}.")


def configure_logging(settings: Settings) -> None:
    """Send structlog's and the standard library's logs to standard error in the chosen form."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not settings.development)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _who_and_what,
    ]
    # The default formatter would print every frame's locals, secrets included, and take seconds for it.
    text = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer() if as_json else text
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    finish: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        finish.append(structlog.processors.format_exc_info)
    handler.setFormatter(_Formatter(foreign_pre_chain=shared, processors=[*finish, renderer]))
    handler.addFilter(_is_worth_a_line)
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries are asked for warnings only: at debug SQLAlchemy logs rows, httpcore headers, aiosmtplib the log-in.
    root.setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level.upper())))
    logging.getLogger(_OURS).setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # No line per request: it costs 20 us and nobody reads it. uvicorn asks whether this logger leads anywhere.
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A line for each caller who sends an id of their own that we do not take.
    logging.getLogger("asgi_correlation_id").setLevel(logging.ERROR)
