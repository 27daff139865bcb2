"""The refusals of streams."""

from holdfast.core.errors import Busy, Forbidden, Gone, NotFound, Unauthenticated


class TicketUnknown(Unauthenticated):
    """Used before, older than thirty seconds, or never made."""

    message = "This ticket is unknown, used or over: get a new one from POST /auth/ticket. It opens one stream within 30 s."


class OriginForbidden(Forbidden):
    """A web page of another origin."""

    code = "ORIGIN_FORBIDDEN"
    message = "Web pages of this origin may not open streams: add it to HOLDFAST_CORS_ORIGINS."


class ChannelNotFound(NotFound):
    """There is no such room, host or event."""

    code = "CHANNEL_NOT_FOUND"
    message = "There is no such room, host or event to watch."


class EventsGone(Gone):
    """What is to be resumed from is not known here, or too long ago to be told one by one."""

    code = "EVENTS_GONE"
    message = "The stream cannot be resumed from there: read the present state again, then connect without Last-Event-ID."


class TooManyStreams(Busy):
    """This process serves as many streams as it can."""

    message = "Too many streams are open here: try again in a moment."
    retry_after = 5
