"""Every setting, read once in the wiring and handed down; nothing else reads the environment."""

import ipaddress
import re
from email.utils import parseaddr
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: The secret of a service that was told none: good for a demo on loopback, refused in production.
DEVELOPMENT_SECRET = "holdfast-development-secret-never-use-it-in-production"  # noqa: S105 - well known on purpose
_MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key of the hash's length or longer
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")
_WELL_KNOWN = ("secret", "changeme", "change-me", "password", "holdfast", "development", "example", "0123456789")


def _networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]


class Environment(StrEnum):
    """`development` opens the doors of a demo (`/dummyLogin`, registering admins); `production` closes them."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class SettingsError(Exception):
    """The settings cannot be used; the message names each one and what to do, never its value."""


class Settings(BaseSettings):
    """All settings: environment variables `HOLDFAST_...`, or a `.env` file in the working folder."""

    model_config = SettingsConfigDict(
        env_prefix="HOLDFAST_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    env: Environment = Field(Environment.DEVELOPMENT, description="`development` or `production`.")
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL 15 or newer, `postgresql://user:password@host:port/name`. Unset: the embedded server.",
    )
    data_dir: Path = Field(Path(".data"), description="Folder of the embedded PostgreSQL, kept between runs.")
    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` in the container.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="Port to listen on; 0 picks a free one.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Server processes that share the port.")
    pool_size: Annotated[int, Field(ge=2, le=200)] = Field(
        16, description="Database connections per process, half for single-statement reads and half for transactions."
    )
    jwt_secret: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Signs tokens. At least 32 bytes; production refuses the default and well-known ones.",
    )
    access_token_minutes: Annotated[int, Field(ge=1, le=1440)] = Field(60, description="Life of an access token.")
    refresh_token_days: Annotated[int, Field(ge=1, le=365)] = Field(30, description="Life of a session without use.")
    bcrypt_cost: Annotated[int, Field(ge=4, le=16)] = Field(12, description="Work factor of password hashes (log2).")
    login_limit: str = Field(
        "10/minute",
        description="Failed log-ins per account and network, ten times as many per network; `off` for none.",
    )
    conference_provider: str = Field(
        "mock", description="`mock`, `jitsi`, `http`, or a name from the entry-point group `holdfast.conferencing`."
    )
    conference_url: str | None = Field(
        None, description="Base URL of the provider: needed by `http`; `jitsi` uses https://meet.jit.si without it."
    )
    conference_secret: SecretStr | None = Field(None, description="Bearer secret that the `http` provider sends.")
    fair_queue: Literal["policy", "all"] = Field(
        "policy", description="Which bookings wait in line: where the policy says `fairQueue`, or `all`."
    )
    worker: Literal["inside", "apart"] = Field(
        "inside",
        description="Whether `holdfast serve` runs the worker beside its serving processes, or you do: `holdfast worker`.",
    )
    public_url: str | None = Field(
        None, description="Where people reach the service, for links in mails and feeds; unset: http://HOST:PORT."
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: `smtp://user:password@host:587` (STARTTLS where offered), `smtps://...:465` (TLS). Unset: a "
        "development mailbox.",
    )
    mail_from: str = Field("Holdfast <holdfast@localhost>", description="Sender of the mails.")
    webhook_loopback: bool = Field(
        default=False, description="Whether webhooks may go to loopback addresses: for development, refused in production."
    )
    listen_url: SecretStr | None = Field(
        None, description="Direct address of the database for LISTEN, where DATABASE_URL is a PgBouncer's in transaction mode."
    )
    cors_origins: str = Field("", description="Exact origins of web pages that may call the API, separated by commas.")
    rate_limit: str = Field("off", description="Requests per user, API key and address: `off`, or like `600/minute`.")
    trusted_proxies: str = Field(
        "", description="Addresses and networks, separated by commas, whose X-Forwarded-For and -Proto are believed."
    )
    metrics_dir: Path | None = Field(
        None,
        description="Folder in which processes share their metrics, emptied at each boot; unset: `holdfast serve` makes one for "
        "several workers.",
    )
    traces_url: str | None = Field(
        None, description="OpenTelemetry collector (OTLP over HTTP, like http://127.0.0.1:4318); unset: no traces."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`text`, `json`, or `auto`: JSON in production, text in development."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, given: object) -> object:
        """Of what was given, an empty text is as good as nothing (compose hands on what is not set as such).

        Not of `env`: a name that a deployment failed to fill in must not open a production to everybody.
        """
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value != "" or name == "env"}

    @field_validator("database_url", "listen_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
            msg = "must look like postgresql://user:password@host:port/name"
            raise ValueError(msg)
        # "/", "?" and "#" end what may hold a password: its pieces would be told by whoever reads them as a port or a name.
        server, path = re.match("([^/?#]*)([^?#]*)", rest).groups()  # type: ignore[union-attr]  # it matches anything
        ports = [host.rpartition("]")[2].partition(":")[2] for host in server.rpartition("@")[2].split(",")]
        if not all(port.isdecimal() for port in ports if port) or ("@" in path and "@" not in server):
            msg = "is not understood: in a password / ? # @ are written as %2F %3F %23 %40, and a port is a number"
            raise ValueError(msg)
        return SecretStr(f"postgresql://{rest}")

    @field_validator("public_url", "traces_url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is not None and not _WEB_ADDRESS.fullmatch(value):
            msg = "must look like https://host or http://host:port"
            raise ValueError(msg)
        return None if value is None else value.rstrip("/")

    @field_validator("smtp_url")
    @classmethod
    def _is_mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            parts = urlsplit(value.get_secret_value()) if value is not None else None
            good = parts is None or (parts.scheme in {"smtp", "smtps"} and bool(parts.hostname) and parts.port != 0)
        except ValueError:
            good = False
        if not good:
            msg = "must look like smtp://user:password@host:587 or smtps://user:password@host:465"
            raise ValueError(msg)
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_mail_address(cls, value: str) -> str:
        name, at, domain = parseaddr(value)[1].partition("@")
        if not (name and at and domain):
            msg = "must be an address like booking@example.com, or Holdfast <booking@example.com>"
            raise ValueError(msg)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in filter(None, (part.strip() for part in value.split(","))):
            if not _WEB_ADDRESS.fullmatch(origin) or origin.count("/") != 2:  # noqa: PLR2004 - scheme://host, no path
                msg = "must be exact origins like https://booking.example, separated by commas (no path, no *)"
                raise ValueError(msg)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        try:
            _networks(value)
        except ValueError as error:
            msg = "must be addresses or networks like 10.0.0.0/8, separated by commas"
            raise ValueError(msg) from error
        return value

    @field_validator("login_limit", "rate_limit")
    @classmethod
    def _is_limit(cls, value: str) -> str:
        from limits import parse_many

        if value != "off":
            try:
                (limit,) = parse_many(value)
                if not limit.amount:
                    # Nobody could do anything.
                    raise ValueError  # noqa: TRY301 - answered like any other that is none
            except ValueError as error:
                msg = "must be `off`, or like `10/minute`"
                raise ValueError(msg) from error
        return value

    @model_validator(mode="after")
    def _safe_in_production(self) -> Self:
        secret = self.jwt_secret.get_secret_value()
        if len(secret.encode()) < _MIN_SECRET_BYTES:
            msg = (
                "HOLDFAST_JWT_SECRET is shorter than 32 bytes. Make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
            raise ValueError(msg)
        if self.env is Environment.PRODUCTION and (
            secret == DEVELOPMENT_SECRET
            or len(set(secret)) < 8  # noqa: PLR2004 - a repeated pattern is no secret
            or any(word in secret.lower() for word in _WELL_KNOWN)
        ):
            msg = (
                "HOLDFAST_JWT_SECRET is missing or well known, which production refuses. Make one with: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
            raise ValueError(msg)
        if self.env is Environment.PRODUCTION and self.webhook_loopback:
            msg = "HOLDFAST_WEBHOOK_LOOPBACK is for development: a webhook could reach what listens on this machine"
            raise ValueError(msg)
        if self.conference_provider == "http" and not self.conference_url:
            msg = "HOLDFAST_CONFERENCE_URL is needed with HOLDFAST_CONFERENCE_PROVIDER=http"
            raise ValueError(msg)
        return self

    @property
    def trusted_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The proxies that are believed."""
        return _networks(self.trusted_proxies)

    @property
    def reached_at(self) -> str:
        """Where people reach the service: for links in mails and feeds."""
        if self.public_url is not None:
            return self.public_url
        bare = f"[{self.host}]" if ":" in self.host else self.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, bare)  # noqa: S104 - not bound to
        return f"http://{shown}:{self.port}"

    @property
    def origins(self) -> list[str]:
        """Origins of web pages that may call the API, in lower case, as browsers send them (RFC 6454, section 6.1)."""
        return [part.strip().lower() for part in self.cors_origins.split(",") if part.strip()]

    @property
    def development(self) -> bool:
        """True where the doors of a demo are open."""
        return self.env is Environment.DEVELOPMENT


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; `overrides` (by field name) win over the environment. Raises SettingsError."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = f"HOLDFAST_{str(problem['loc'][0]).upper()}: " if problem["loc"] else ""
            lines.append(f"{name}{problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("\n".join(lines)) from None
