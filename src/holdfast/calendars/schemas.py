"""What the calendar routes take and give."""

from pydantic import BaseModel, Field

from holdfast.web.fields import Body, Id


class NewFeed(Body):
    """Whose calendar: without `roomId` the caller's own."""

    roomId: Id | None = None


class FeedShape(BaseModel):
    """A calendar feed; its address is told once, when it is made."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    roomId: str | None = Field(json_schema_extra={"format": "uuid"})
    createdAt: str = Field(json_schema_extra={"format": "date-time"})


class FeedAnswer(BaseModel):
    """The feed."""

    feed: FeedShape


class NewFeedAnswer(BaseModel):
    """A new feed and its two addresses. Whoever knows them reads the calendar: keep them like a password."""

    feed: FeedShape
    url: str = Field(json_schema_extra={"format": "uri"})
    freeBusyUrl: str = Field(json_schema_extra={"format": "uri"})


class FeedsAnswer(BaseModel):
    """The caller's feeds."""

    feeds: list[FeedShape]
