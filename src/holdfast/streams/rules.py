"""Channels, origins, and where a stream is resumed from."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid
from holdfast.streams.errors import EventsGone, OriginForbidden

#: Channels of one stream.
MOST_CHANNELS = 100
_ID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_CHANNEL = re.compile(rf"(room|host|event):({_ID})", re.ASCII | re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}
_EVENT_ID = re.compile(rf"({_ID})(?:\.([0-9]{{1,4}}))?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Channel:
    """What is watched: `asked` as the client says it (`me`, `room:{id}`), `name` as messages name it (`user:{id}`, ...)."""

    asked: str
    name: str
    resource_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """The message that a client had last: the stored message's id, and which of the messages that it says."""

    stored_id: UUID
    place: int


def parse_channels(asked: Iterable[str], *, by: Caller) -> list[Channel]:
    """The channels, each once. Raises Invalid."""
    channels: dict[str, Channel] = {}
    for text in (part.strip() for part in asked):
        if text == "me":
            channels[text] = Channel("me", f"user:{by.own_id}")
            continue
        match = _CHANNEL.fullmatch(text)
        if match is None:
            message = "Channels are me, room:{id}, host:{id} and event:{id}, separated by commas."
            raise Invalid(message)
        kind, resource_id = match[1].lower(), UUID(match[2])
        name = f"{kind}:{resource_id}"
        channels[name] = Channel(name, name, resource_id)
    if len(channels) > MOST_CHANNELS:
        message = f"A stream has at most {MOST_CHANNELS} channels."
        raise Invalid(message, details={"rule": "maxChannels", "value": MOST_CHANNELS})
    return list(channels.values())


def parse_point(text: str) -> Point:
    """What `Last-Event-ID` says. Raises EventsGone for what is none of our ids."""
    match = _EVENT_ID.fullmatch(text.strip())
    if match is None:
        raise EventsGone
    return Point(UUID(match[1]), int(match[2] or 0))


def place_of(message_id: str) -> int:
    """Which of the messages of its stored message this one is."""
    return int(message_id.partition(".")[2] or 0)


def check_origin(origin: str | None, *, scheme: str, host: str | None, allowed: Collection[str]) -> None:
    """Raise OriginForbidden for a browser's page of a foreign origin (RFC 6454); `allowed` in lower case.

    Programs send no Origin. A page of our own has the host that the request went to, and its scheme; or https where a proxy
    does the TLS, and we see http. Not the reverse: whoever is in the middle of somebody's http could be the page.
    """
    if origin is None:
        return
    origin = origin.lower()
    # A host may come with the port that goes without saying; an origin never does.
    own = {f"{one}://{host.lower().removesuffix(_PORTS[one])}" for one in (scheme, "https")} if host else set()
    if origin not in own and origin not in allowed:
        raise OriginForbidden
