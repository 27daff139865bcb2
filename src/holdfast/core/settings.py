"""Every setting, read once in the wiring and handed down; nothing else reads the environment."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: The secret of a service that was told none: good for a demo on loopback, refused in production.
DEVELOPMENT_SECRET = "holdfast-development-secret-never-use-it-in-production"  # noqa: S105 - well known on purpose
_MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key of the hash's length or longer
_WELL_KNOWN = ("secret", "changeme", "change-me", "password", "holdfast", "development", "example", "0123456789")


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
        "inside", description="Whether serving processes run the worker, or `holdfast worker` does apart."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`text`, `json`, or `auto`: JSON in production, text in development."
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
            msg = "must look like postgresql://user:password@host:port/name"
            raise ValueError(msg)
        return SecretStr(f"postgresql://{rest}")

    @field_validator("login_limit")
    @classmethod
    def _is_limit(cls, value: str) -> str:
        from limits import parse

        if value != "off":
            try:
                parse(value)
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
        if self.conference_provider == "http" and not self.conference_url:
            msg = "HOLDFAST_CONFERENCE_URL is needed with HOLDFAST_CONFERENCE_PROVIDER=http"
            raise ValueError(msg)
        return self

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
