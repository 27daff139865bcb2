"""Request fields: typed literally (`"10"` is no integer, `true` is not 1), bounded, without NUL or lone surrogates."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StrictInt,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from holdfast.core import clock

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f.]+(?:\.[^\s@\x00-\x1f.]+)*")
_MAX_EMAIL = 254  # RFC 5321 section 4.5.3.1
MAX_INT = (1 << 31) - 1
#: What PostgreSQL cannot store in a text, as a pattern for readers of the schema.
_STORABLE = "^[^\\u0000]*$"
_NOT_BLANK = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"


class Body(BaseModel):
    """A request body: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, regex_engine="python-re")


def storable(value: Any) -> str:
    """The value if it is a string that PostgreSQL and JSON can carry; else ValueError."""
    if not isinstance(value, str):
        msg = "must be a string"
        raise ValueError(msg)  # noqa: TRY004 - pydantic takes ValueErrors
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        msg = "must not contain NUL or lone surrogates"
        raise ValueError(msg)
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """`Annotated[str, Text(200)]`: a string of at most so many characters.

    `empty=False` refuses the empty string, `blank=False` white space alone as well.
    """

    max_length: int
    blank: bool = True
    empty: bool = True

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic checks it."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """How readers of the document see it."""
        shape: dict[str, Any] = {"type": "string", "maxLength": self.max_length, "pattern": _STORABLE}
        if not self.blank:
            shape |= {"minLength": 1, "pattern": _NOT_BLANK}
        return shape if self.empty else shape | {"minLength": 1}

    def _checked(self, value: Any) -> str:
        text = storable(value)
        if len(text) > self.max_length:
            msg = f"must have at most {self.max_length} characters"
            raise ValueError(msg)
        if not self.empty and not text:
            msg = "must not be empty"
            raise ValueError(msg)
        if not self.blank and not text.strip():
            msg = "must not be blank"
            raise ValueError(msg)
        return text


def _parsed(parse: Any) -> Any:
    def parsed(value: Any) -> Any:
        if not isinstance(value, str):
            msg = "must be a string"
            raise ValueError(msg)  # noqa: TRY004 - pydantic takes ValueErrors
        return parse(value)

    return parsed


def _id(value: str) -> UUID:
    # UUID() itself takes braces, urn: and missing hyphens.
    if not _ID.fullmatch(value):
        msg = "must be a UUID"
        raise ValueError(msg)
    return UUID(value)


def _zone(value: str) -> str:
    if value not in available_timezones() or value == "localtime":
        msg = "must be an IANA time zone such as Europe/Berlin"
        raise ValueError(msg)
    return value


def _email(value: str) -> str:
    if len(storable(value)) > _MAX_EMAIL or not _EMAIL.fullmatch(value):
        msg = "must be an e-mail address"
        raise ValueError(msg)
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _wall_minutes(value: str) -> int:
    wall = clock.parse_wall_time(value)
    return wall.hour * 60 + wall.minute


def _wall_minutes_or_midnight(value: str) -> int:
    return 24 * 60 if value == "24:00" else _wall_minutes(value)


Id = Annotated[UUID, BeforeValidator(_parsed(_id)), WithJsonSchema({"type": "string", "format": "uuid"})]
PathId = Id
Instant = Annotated[
    datetime,
    BeforeValidator(_parsed(clock.parse_instant)),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-20T09:00:00Z"]}),
]
Date = Annotated[
    date,
    BeforeValidator(_parsed(clock.parse_date)),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-20"]}),
]
_WALL_PATTERN = "^([01]?[0-9]|2[0-3]):[0-5][0-9]$"
#: A time of day as minutes after midnight.
WallTime = Annotated[
    int,
    BeforeValidator(_parsed(_wall_minutes)),
    WithJsonSchema({"type": "string", "pattern": _WALL_PATTERN, "examples": ["09:00"]}),
]
WallTimeOrMidnight = Annotated[
    int,
    BeforeValidator(_parsed(_wall_minutes_or_midnight)),
    WithJsonSchema({"type": "string", "pattern": "^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$", "examples": ["17:00"]}),
]
TimeZone = Annotated[
    str,
    BeforeValidator(_parsed(_zone)),
    WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]}),
]
Email = Annotated[
    str,
    BeforeValidator(_parsed(_email)),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": _MAX_EMAIL}),
]
#: JSON Schema (section 6.1.1 of its validation) knows no difference between 1.0 and 1.
Whole = BeforeValidator(_whole)
Positive = Annotated[StrictInt, Field(ge=1, le=MAX_INT), Whole]
